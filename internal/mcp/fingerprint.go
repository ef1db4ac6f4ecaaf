package mcp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Fingerprint tells what a message calls: two messages have the same if they
// have the same method and ask it for the same, whatever the order of the
// members of objects, the white space, and the way that strings are escaped.
// Of tools/call and prompts/get that is the name and the arguments; of other
// methods all of params but for _meta and what follows an earlier request up.
// Numbers are compared as they are written, so that none is taken for another:
// 1 and 1.0 differ. The message must be one that Decode has accepted.
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
			w.next() // opens the object that Decode has seen
			out = w.appendMembers(append(out, '{'), "_meta", "requestState", "inputResponses")
		}
	}
	return sha256.Sum256(out)
}

const lengthSize = 8

// appendSized appends a length and the text, so that no text runs into the next.
func appendSized(out, text []byte) []byte {
	return append(binary.BigEndian.AppendUint64(out, uint64(len(text))), text...)
}

// appendCanonical appends the value that begins with that token in a form that
// has one spelling.
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
	default: // a number as it is written, or a literal
		return appendSized(append(out, '0'), w.text[w.lex.start:w.at])
	}
}

// appendMembers appends the members of the object that was just opened, sorted
// by their keys, without those that are left out. Decode has seen that no key is
// there twice.
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

// WithID returns a copy of a response message, which a scanner found to be a
// ClassAnswer, with another id. All else stays as it was, byte for byte. The
// error is ErrNoResult for what is no such message.
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
