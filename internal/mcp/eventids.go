package mcp

import "bytes"

const (
	// maxEventID bounds an event id that is replaced, in bytes.
	maxEventID = 1 << 10
	// maxEventIDs bounds the id lines of one event that are replaced. The last one
	// counts.
	maxEventIDs = 4
)

// EventIDs replaces the event ids of a stream (WHATWG HTML, section 9.2) as it
// passes, in pieces that are split anywhere. An id that is too long, cannot stand in
// a header, or exceeds the number for one event becomes an empty comment. All other
// bytes stay unchanged. It buffers at most one line that begins as an id does. It is
// not safe for concurrent use.
type EventIDs struct {
	// Replace returns the new id. It is not called for empty ids, which make a client
	// forget the last one.
	Replace func(id []byte) []byte

	line    []byte // the current line, while it may be an id
	passing bool   // the current line is not an id
	dropped bool   // the current line is an id that is dropped
	ids     int    // number of ids in the current event
	afterCR bool   // the last byte was a CR: a LF now belongs to it
	began   bool   // the stream's first line has ended
}

// Append appends the replacement of p to dst and returns it. It buffers bytes that
// may still turn out to be an id. An id that the end of the stream cuts off is
// dropped, as the standard ignores it.
func (e *EventIDs) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		if e.passing || e.dropped {
			n := endOfLine(p)
			ended := n > 0 && (p[n-1] == '\n' || p[n-1] == '\r')
			switch {
			case e.passing:
				dst = append(dst, p[:n]...)
			case ended:
				dst = append(dst, p[n-1])
			}
			if ended {
				e.passing, e.dropped, e.afterCR = false, false, p[n-1] == '\r'
			}
			p = p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if c == '\n' || c == '\r' {
			if c != '\n' || !e.afterCR {
				dst = e.endLine(dst)
			}
			dst, e.afterCR = append(dst, c), c == '\r'
			continue
		}
		e.afterCR = false
		e.line = append(e.line, c)
		switch {
		case !e.mayBeID():
			dst = append(dst, e.line...)
			e.line, e.passing, e.began = e.line[:0], true, true
		case len(e.line) > maxEventID:
			dst = append(dst, ':')
			e.line, e.dropped, e.began = e.line[:0], true, true
		}
	}
	return dst
}

// endOfLine returns the length of p up to and including its first CR or LF.
func endOfLine(p []byte) int {
	if i := bytes.IndexAny(p, "\r\n"); i >= 0 {
		return i + 1
	}
	return len(p)
}

// text returns the current line without the byte order mark of the stream.
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

// endLine appends the buffered line, with another id if it has one.
func (e *EventIDs) endLine(dst []byte) []byte {
	text := e.text()
	value, isID := bytes.CutPrefix(text, []byte(idField))
	value = bytes.TrimPrefix(value, []byte(" "))
	dst = append(dst, e.line[:len(e.line)-len(text)]...)
	switch {
	case !isID || len(value) == 0:
		if len(text) == 0 { // the end of the event
			e.ids = 0
		}
		dst = append(dst, text...)
	case e.ids >= maxEventIDs || !sendable(value):
		dst = append(dst, ':')
	default:
		e.ids++
		dst = append(dst, "id: "...)
		dst = append(dst, e.Replace(value)...)
	}
	e.line, e.began = e.line[:0], true
	return dst
}

// sendable reports whether a header can hold the id (RFC 9110, section 5.5). The
// standard ignores an id with a NUL, too.
func sendable(id []byte) bool {
	for _, c := range id {
		if c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}
