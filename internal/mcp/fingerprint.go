package mcp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Fingerprint identifies the call that a message makes: two messages have the same
// fingerprint if they have the same method and the same target and arguments,
// regardless of the order of object members, white space, and the escaping of
// strings. For tools/call and prompts/get it covers the name and the arguments; for
// other methods all of params except _meta and the members that follow up an earlier
// request. Numbers are compared as they are written, so that no number is taken for
// another: 1 and 1.0 differ. The message must have been accepted by Decode.
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
			w.next() // opens the object
			out = w.appendMembers(append(out, '{'), "_meta", "requestState", "inputResponses")
		}
	}
	return sha256.Sum256(out)
}

const lengthSize = 8

// appendSized appends a length and the text, so that adjacent texts cannot merge.
func appendSized(out, text []byte) []byte {
	return append(binary.BigEndian.AppendUint64(out, uint64(len(text))), text...)
}

// appendCanonical appends the value that begins with that token in canonical form.
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

// appendMembers appends the members of the object that was just opened, sorted by
// their keys, except those to leave out. Decode has refused duplicate keys.
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

// WithID returns a copy of a response, which a scanner found to be a ClassAnswer,
// with another id. All other bytes stay unchanged. The error is ErrNoResult for any
// other message.
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
