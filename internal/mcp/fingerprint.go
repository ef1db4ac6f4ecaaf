package mcp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Fingerprint returns a hash that identifies the call in a message. Two messages have
// the same fingerprint if they have the same method, target and arguments. The order
// in which object members are written, white space, and the escaping of strings do not
// matter. For tools/call and prompts/get the fingerprint covers name and arguments. For
// other methods it covers all params except _meta, requestState and inputResponses.
// Numbers are compared as they are written, because servers may distinguish 1 and 1.0.
// Decode must have accepted the message.
func Fingerprint(m *Message) [sha256.Size]byte {
	out := make([]byte, 0, 2*len(m.Arguments)+len(m.Method)+len(m.Name)+3*lengthSize)
	out = appendSized(out, []byte(m.Method))
	switch method := lookupMethod(m.Method); {
	case method != nil && method.Item && method.Names == ParamName:
		out = appendSized(out, []byte(m.Name))
		if m.Arguments != nil {
			w := walker{text: m.Arguments}
			out = w.appendCanonical(out, w.next())
		}
	default:
		if m.Params != nil {
			w := walker{text: m.Params}
			w.next() // skips the opening brace
			out = w.appendMembers(append(out, '{'), "_meta", "requestState", "inputResponses")
		}
	}
	return sha256.Sum256(out)
}

const lengthSize = 8

// appendSized appends the length of the text and then the text, so that two different
// sequences of texts never give the same bytes.
func appendSized(out, text []byte) []byte {
	return append(binary.BigEndian.AppendUint64(out, uint64(len(text))), text...)
}

// appendCanonical appends, in canonical form, the value that begins with token t.
func (w *walker) appendCanonical(out []byte, t token) []byte {
	switch t {
	case tokenObject:
		return w.appendMembers(append(out, '{'))
	case tokenArray:
		out = append(out, '[')
		for t = w.next(); t != tokenArrayEnd && t > tokenBad; t = w.next() {
			out = w.appendCanonical(out, t)
		}
		return append(out, ']')
	case tokenString:
		return appendSized(append(out, '"'), w.key())
	default: // a number as written, or a literal
		return appendSized(append(out, '0'), w.text[w.lex.start:w.at])
	}
}

// appendMembers appends the members of the object that was just opened, and the closing
// brace. The last arguments are the names of members to leave out. The other members
// are sorted, so that their order in the message does not matter. The keys are unique,
// because Decode refuses duplicate ones.
func (w *walker) appendMembers(out []byte, without ...string) []byte {
	var members [][]byte
	for w.next() == tokenKey {
		key := w.key()
		if slices.Contains(without, string(key)) {
			w.skip(w.next())
			continue
		}
		member := appendSized(nil, key)
		members = append(members, w.appendCanonical(member, w.next()))
	}
	slices.SortFunc(members, bytes.Compare)
	for _, m := range members {
		out = append(out, m...)
	}
	return append(out, '}')
}

// WithID returns a copy of a response with another id. The message must be one that a
// scanner found to be a ClassAnswer. All bytes except the id stay unchanged. The error
// is ErrNoResult for a message that is not one object with exactly one id.
func WithID(message []byte, id ID) ([]byte, error) {
	w := walker{text: message}
	if w.next() != tokenObject {
		return nil, ErrNoResult
	}
	start, end := -1, -1
	t := w.next()
	for ; t == tokenKey; t = w.next() {
		isID := string(w.key()) == "id"
		value := w.next()
		from := w.lex.start
		if !w.skip(value) {
			return nil, ErrNoResult
		}
		if isID {
			if start >= 0 {
				return nil, ErrNoResult
			}
			start, end = from, w.at
		}
	}
	if start < 0 || t != tokenObjectEnd || w.next() != tokenMore {
		return nil, ErrNoResult
	}
	out := make([]byte, 0, len(message)+maxIDLength)
	out = append(out, message[:start]...)
	out = id.AppendJSON(out)
	return append(out, message[end:]...), nil
}
