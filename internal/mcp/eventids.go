package mcp

import "bytes"

const (
	// maxEventID bounds the length of an id line, in bytes. A longer id line is
	// dropped.
	maxEventID = 1 << 10
	// maxEventIDs bounds the number of ids that are replaced in one event. Further ids
	// are dropped. Clients use only the last id of an event.
	maxEventIDs = 4
)

// EventIDs replaces the event ids in a stream (WHATWG HTML, section 9.2) as the stream
// passes. The stream may be split into pieces anywhere. An id line becomes an empty
// comment if it is too long, if the id cannot be sent in a header, or if the event
// already has maxEventIDs ids. All other bytes stay unchanged. EventIDs buffers at most
// one line, and only while the line may be an id. It is not safe for concurrent use.
type EventIDs struct {
	// Replace returns the new id. It is not called for an empty id, which makes a
	// client forget the last id.
	Replace func(id []byte) []byte

	line    []byte // the current line, while it may be an id
	passing bool   // the current line is not an id
	dropped bool   // the current line is an id that is dropped
	ids     int    // number of ids in the current event
	afterCR bool   // the last byte was a CR; if a LF follows, it belongs to the same line end
	began   bool   // the stream's first line has ended
}

// Append appends p with replaced ids to dst and returns the extended slice. It holds
// back the bytes of a line that may still turn out to be an id. If the stream ends
// within such a line, the line is lost. That does no harm, because clients that follow
// the standard ignore an unfinished line.
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

// text returns the current line. It drops the byte order mark from the first line of
// the stream.
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

// endLine appends the buffered line to dst. If the line has an id, the id is replaced,
// or the line becomes an empty comment.
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

// sendable reports whether a header can hold the id (RFC 9110, section 5.5). It
// refuses NUL, too: clients that follow the standard ignore an id with a NUL.
func sendable(id []byte) bool {
	for _, c := range id {
		if c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}
