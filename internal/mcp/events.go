package mcp

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// EventScanner cuts a server-sent event stream into events (WHATWG HTML,
// section 9.2) and classifies the JSON in the data of each, as a Scanner does.
// It keeps only the bytes of short field names, so its memory is bounded however
// long an event is.
//
// The standard ends a line at CR, LF or CRLF. Some clients end it at LF only,
// others at every character that Unicode calls a line break, and so read other
// lines in the same bytes. An event is ClassMalformed if one of its lines is not
// data by the standard, but would be to such a client or to one that is lax about
// field names, and if one of its lines has an impossible field name. Unknown fields
// are ignored, as the standard requires. Fate decides about malformed events. An
// EventScanner is not safe for concurrent use.
type EventScanner struct {
	scanner Scanner
	pending ID

	place   place
	name    capture // of the current field
	afterCR bool    // the last byte was a CR: a LF now belongs to it
	began   bool    // the stream's first line has ended
	touched bool    // the event has bytes
	done    bool    // the event is complete; the next byte begins another

	kind      capture // value of the last event field, with the space before it
	hasData   bool    // the event has a data line
	ambiguous bool    // the event has a line that clients read differently

	recent uint32 // the last bytes of the current line outside data
	loneCR bool   // the current line follows a CR without a LF
	lfData bool   // to a reader that only knows LF, the current line is data
}

// place is the scanner's position within a line.
type place uint8

const (
	inName    place = iota // at the start of a line, or in a field's name
	inSpace                // after the colon of a data field
	inData                 // in the value of a data field
	inKind                 // in the value of an event field
	inIgnored              // in a comment, or the value of another field
)

// field is the kind of a line.
type field uint8

const (
	fieldBlank   field = iota
	fieldComment       // begins with a colon
	fieldData
	fieldEvent
	fieldKnown    // id, retry
	fieldUnknown  // ignored by the standard
	fieldLikeData // except for case or invisible characters
	fieldOdd      // not a field name: a line of JSON or HTML, say
)

var (
	byteOrderMark = []byte("\uFEFF")
	dataNames     = names{"data"}
	lineFeed      = []byte{'\n'}
)

// NewEventScanner returns an EventScanner for a stream that may carry the response to
// the request with that id. If the id is zero, no event is a ClassAnswer.
func NewEventScanner(id ID) *EventScanner {
	e := &EventScanner{pending: id}
	e.scanner.Reset(id)
	return e
}

// Scan reads p up to and including the end of the current event. It returns the
// number of bytes it read, and whether the event is complete; if not, it read all of
// p. An event ends with a blank line. If that line ends with CR, the event is
// complete at once, and a LF after it is the first byte of the next piece, without
// effect there. The pieces that Scan cuts are the stream, byte for byte, however it
// was split over calls.
func (e *EventScanner) Scan(p []byte) (n int, done bool) {
	for i := 0; i < len(p); {
		if e.done {
			e.begin()
		}
		e.touched = true
		c := p[i]
		if e.afterCR {
			e.afterCR = false
			if c == '\n' {
				e.loneCR = false
				i++
				continue
			}
			e.loneCR = true
		}
		if c != '\n' && c != '\r' {
			i = e.inLine(p, i)
			continue
		}
		i++
		e.afterCR = c == '\r'
		blank := e.endLine()
		e.loneCR, e.recent = false, 0
		if blank {
			e.done = true
			return i, true
		}
	}
	return len(p), false
}

// begin prepares for the next event.
func (e *EventScanner) begin() {
	e.scanner.Reset(e.pending)
	e.touched, e.done, e.hasData, e.ambiguous = false, false, false, false
	e.kind.reset()
}

// inLine reads the bytes from p[i] on that belong to the current part of the line,
// and returns the index after them.
func (e *EventScanner) inLine(p []byte, i int) int {
	switch e.place {
	case inName:
		end := find(p, i, ':')
		e.name.add(p[i:end])
		e.watch(p[i:end])
		if end < len(p) && p[end] == ':' {
			e.beginField(e.field(true))
			return end + 1
		}
		return end
	case inSpace:
		e.place = inData
		if p[i] == ' ' {
			return i + 1
		}
	case inData:
		end := find(p, i, '\n')
		e.scanner.Write(p[i:end])
		return end
	case inKind:
		end := find(p, i, '\n')
		e.kind.add(p[i:end])
		e.watch(p[i:end])
		return end
	case inIgnored:
		end := find(p, i, '\n')
		e.watch(p[i:end])
		return end
	}
	return i
}

// watch looks for line breaks unknown to the standard outside data. Readers that
// split text by Unicode's rules find a line after them. Within data they are
// harmless: JSON has them only within strings, and a string that is cut is not JSON.
func (e *EventScanner) watch(b []byte) {
	for _, c := range b {
		e.recent = e.recent<<8 | uint32(c)
		if foreignBreak(e.recent) {
			e.ambiguous = true
		}
	}
}

// foreignBreak reports whether the bytes, the latest lowest, end in VT, FF,
// FS, GS, RS, NEL, U+2028 or U+2029.
func foreignBreak(recent uint32) bool {
	switch recent & 0xFF {
	case 0x0B, 0x0C, 0x1C, 0x1D, 0x1E:
		return true
	case 0x85:
		return recent&0xFFFF == 0xC285
	case 0xA8, 0xA9:
		return recent&0xFFFF00 == 0xE28000
	}
	return false
}

// field returns the kind of the line whose name was just read.
func (e *EventScanner) field(colon bool) field {
	text, whole := e.name.bytes()
	if !e.began {
		text = bytes.TrimPrefix(text, byteOrderMark)
	}
	switch {
	case len(text) == 0 && !colon:
		return fieldBlank
	case len(text) == 0:
		return fieldComment
	case whole && string(text) == "data":
		return fieldData
	case whole && string(text) == "event":
		return fieldEvent
	case whole && (string(text) == "id" || string(text) == "retry"):
		return fieldKnown
	case e.name.over:
		return fieldOdd
	}
	if _, exact := dataNames.findFolded(text); !exact {
		return fieldLikeData
	}
	if !whole || !validFieldName(text) {
		return fieldOdd
	}
	return fieldUnknown
}

// validFieldName reports whether a server may mean the text as a field's name.
func validFieldName(text []byte) bool {
	for _, c := range text {
		switch {
		case 'a' <= lower(c) && lower(c) <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// beginField continues with the value of the field, which may be empty.
func (e *EventScanner) beginField(f field) {
	e.name.reset()
	e.began = true
	e.place = inIgnored
	e.ambiguous = e.ambiguous || e.misread(f)
	if !e.loneCR {
		e.lfData = f == fieldData
	}
	if f == fieldEvent {
		e.place = inKind
		e.kind.reset()
	}
	if f == fieldData {
		e.place = inSpace
		if e.hasData {
			e.scanner.Write(lineFeed)
		}
		e.hasData = true
	}
}

// misread reports whether another reader could take a line of that field for data. A
// line without a field name may be part of a whole JSON body sent under the wrong
// content type. After a lone CR, a reader that only knows LF is still in the line
// that began at the last LF. If that line is data, and the next bytes could continue
// its JSON, the two readers see different messages. The names of the standard's
// fields continue no JSON text, and a comment continues only one that waits for a
// colon.
func (e *EventScanner) misread(f field) bool {
	switch f {
	case fieldLikeData, fieldOdd:
		return true
	case fieldUnknown:
		return e.loneCR && e.lfData
	case fieldComment:
		return e.loneCR && e.lfData && e.scanner.lex.state == wantColon
	}
	return false
}

// endLine ends the current line. It reports whether the line was blank.
func (e *EventScanner) endLine() bool {
	if e.place == inName {
		f := e.field(false)
		if f == fieldBlank {
			e.name.reset()
			e.began = true
			return true
		}
		e.beginField(f)
	}
	e.place = inName
	return false
}

// Verdict returns the verdict on the event that was just completed. Before that, or
// at the end of the stream, it judges the unfinished event as if it ended here: some
// clients deliver an event without its blank line. It does not change the scanner.
func (e *EventScanner) Verdict() Verdict {
	if e.isAmbiguous() {
		return Verdict{Class: ClassMalformed, Reason: "an event has a line that clients read differently"}
	}
	v := e.scanner.End()
	if (v.Class == ClassAnswer || v.Class == ClassForeign) && !e.isMessage() {
		return Verdict{Class: ClassMalformed, Reason: "a result or error is in an event of another type, which clients skip"}
	}
	return v
}

// isAmbiguous reports whether clients read other lines in the event.
func (e *EventScanner) isAmbiguous() bool {
	return e.ambiguous || !e.done && e.place == inName && e.name.n > 0 && e.misread(e.field(false))
}

// Passing reports whether the event so far cannot be a response: it is a notification
// or a request, with its method, and has neither a result nor an error.
func (e *EventScanner) Passing() bool {
	s := &e.scanner
	return s.seen[keyMethod] && !s.seen[keyResult] && !s.seen[keyError]
}

// Guarded reports whether the event so far is a guarded notification; see Verdict.
func (e *EventScanner) Guarded() bool { return e.scanner.guarded }

// HasData reports whether the event has a data line.
func (e *EventScanner) HasData() bool { return e.hasData }

// HasResult reports whether the message in the event has had a result so far.
func (e *EventScanner) HasResult() bool { return e.scanner.HasResult() }

// isMessage reports whether clients take the event for a message: its type is
// message, or it has none.
func (e *EventScanner) isMessage() bool {
	text, whole := e.kind.bytes()
	text = bytes.TrimPrefix(text, []byte(" "))
	return whole && (len(text) == 0 || string(text) == "message")
}

// OtherType reports whether the event so far has a type other than message: MCP
// clients skip it unless they know the type, but some do not look at the type.
func (e *EventScanner) OtherType() bool { return !e.isMessage() }

// Pending reports whether bytes were read since the last event was complete.
func (e *EventScanner) Pending() bool { return e.touched && !e.done }

// find returns the index of the first CR, LF or stop byte from i on, or len(p). It
// compares eight bytes at a time, as plain does.
func find(p []byte, i int, stop byte) int {
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		cr, lf, st := x^ones*'\r', x^ones*'\n', x^ones*uint64(stop)
		marks := ((cr-ones)&^cr | (lf-ones)&^lf | (st-ones)&^st) & highs
		if marks != 0 {
			return i + bits.TrailingZeros64(marks)>>3
		}
	}
	for ; i < len(p); i++ {
		if c := p[i]; c == '\r' || c == '\n' || c == stop {
			break
		}
	}
	return i
}
