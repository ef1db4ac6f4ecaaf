package mcp

import "bytes"

// maxEventID bounds an event id that is replaced, in bytes. A longer one passes
// as it is, and so is of no use to who sends it back.
const maxEventID = 1 << 10

// EventIDs replaces the ids of the events of a stream (WHATWG HTML, section
// 9.2) as it passes, in pieces that are split anywhere. All else stays as it
// was, byte for byte. It keeps no more than one line that begins as an id does.
// It is not for concurrent use.
type EventIDs struct {
	// Replace returns what an id becomes. It is not asked for empty ids, which
	// tell a client to forget the last one.
	Replace func(id []byte) []byte

	line    []byte // of the line at hand, as long as it may be an id
	passing bool   // the line at hand is none
	began   bool   // the stream's first line is over
}

// Append appends to dst what p becomes, and returns it. What may still turn out
// to be an id is kept until it is known.
func (e *EventIDs) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		if e.passing {
			n := endOfLine(p)
			dst = append(dst, p[:n]...)
			e.passing = n == 0 || p[n-1] != '\n' && p[n-1] != '\r'
			p = p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if c == '\n' || c == '\r' {
			dst = e.endLine(dst)
			dst = append(dst, c)
			continue
		}
		e.line = append(e.line, c)
		if !e.mayBeID() || len(e.line) > maxEventID {
			dst = append(dst, e.line...)
			e.line, e.passing, e.began = e.line[:0], true, true
		}
	}
	return dst
}

// Rest returns what is kept of a line that the end of the stream has cut. An id
// that is cut is dropped: the standard ignores it.
func (e *EventIDs) Rest() []byte {
	if bytes.HasPrefix(e.text(), []byte("id")) {
		return nil
	}
	return e.line
}

// endOfLine returns the length of p up to and with its first CR or LF.
func endOfLine(p []byte) int {
	if i := bytes.IndexAny(p, "\r\n"); i >= 0 {
		return i + 1
	}
	return len(p)
}

// text is the line at hand without the byte order mark of the stream.
func (e *EventIDs) text() []byte {
	if !e.began {
		return bytes.TrimPrefix(e.line, byteOrderMark)
	}
	return e.line
}

const idField = "id:"

func (e *EventIDs) mayBeID() bool {
	if !e.began && len(e.line) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, e.line) {
		return true
	}
	text := e.text()
	n := min(len(text), len(idField))
	return string(text[:n]) == idField[:n]
}

// endLine appends the line that is kept, with another id if it has one.
func (e *EventIDs) endLine(dst []byte) []byte {
	text := e.text()
	value, isID := bytes.CutPrefix(text, []byte(idField))
	value = bytes.TrimPrefix(value, []byte(" "))
	if isID && len(value) > 0 {
		dst = append(dst, e.line[:len(e.line)-len(text)]...)
		dst = append(dst, "id: "...)
		dst = append(dst, e.Replace(value)...)
	} else {
		dst = append(dst, e.line...)
	}
	e.line, e.began = e.line[:0], true
	return dst
}
