package mcp

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// EventScanner cuts a server-sent event stream into events (WHATWG HTML,
// section 9.2) and classifies the JSON in the data of each, as a Scanner does.
// It keeps no bytes of the stream but those of short field names, so its memory
// is bounded however long an event is.
//
// The standard ends a line at CR, LF or CRLF. Some clients end it at LF only,
// others at every character that Unicode calls a line break, and so read other
// lines in the same bytes. An event in which a line that is no data by the
// standard would be data to such a client, or to one that is lax about the
// name of the field, is ClassMalformed, and so is one with a line that has no
// name that a field can have. Fields that the standard does not know are
// ignored, as it wants it. What becomes of a malformed event, Fate says. An
// EventScanner is not for concurrent use.
type EventScanner struct {
	scanner Scanner
	pending ID

	place   place
	name    capture // of the field at hand
	afterCR bool    // the byte before was a CR: a LF now belongs to it
	began   bool    // the stream's first line is over
	touched bool    // the event has bytes
	done    bool    // the event is complete; the next byte begins another

	kind      capture // what the last event field says, with the space before it
	hasData   bool    // the event has a data line
	ambiguous bool    // the event has a line that clients read differently

	recent uint32 // the last bytes of the line at hand that are not data
	loneCR bool   // the line at hand follows a CR that no LF follows
	lfData bool   // the line at hand, by a reader that knows only LF, is data
}

// place is where in a line the scanner is.
type place uint8

const (
	inName    place = iota // at the start of a line, or in a field's name
	inSpace                // after the colon of a data field
	inData                 // in the value of a data field
	inKind                 // in the value of an event field
	inIgnored              // in a comment, or the value of another field
)

// field is what a line is.
type field uint8

const (
	fieldBlank   field = iota
	fieldComment       // begins with a colon
	fieldData
	fieldEvent
	fieldKnown    // id, retry
	fieldUnknown  // ignored by the standard
	fieldLikeData // but for case, or what cannot be seen
	fieldOdd      // no name of a field: a line of JSON or HTML, say
)

var (
	byteOrderMark = []byte("\uFEFF")
	dataNames     = names{"data"}
	lineFeed      = []byte{'\n'}
)

// NewEventScanner returns an EventScanner for a stream that may carry the
// answer to the request with that id. If the id is zero, no event is a
// ClassAnswer.
func NewEventScanner(id ID) *EventScanner {
	e := &EventScanner{pending: id}
	e.scanner.Reset(id)
	return e
}

// Scan reads p up to and including the end of the event at hand. It returns
// how many bytes that was, and whether the event is complete; if it is not,
// all of p was read. An event ends with a blank line. If that ends with CR the
// event is complete at once, and a LF that follows is the first byte of the
// next piece, without effect there. The pieces that Scan cuts are the stream,
// byte for byte, however it was split over calls.
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

// begin makes ready for the next event.
func (e *EventScanner) begin() {
	e.scanner.Reset(e.pending)
	e.touched, e.done, e.hasData, e.ambiguous = false, false, false, false
	e.kind.reset()
}

// inLine reads what p has from i on of one part of a line, and returns the
// index after it.
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

// watch looks for line breaks that the standard does not know in what is not
// data. Readers that split text by Unicode's rules find a line after them. In
// data they do no harm: JSON has them only within strings, and a string that
// is cut is no JSON.
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

// field returns what the line is whose name was just read.
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

// beginField goes on to the value of the field, which may be empty.
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

// misread reports whether another reader could take a line of that field for
// data. A line that names no field is what a whole JSON body looks like that was
// sent under the wrong content type. After a lone CR, a reader that knows only LF
// is still in the line that the last LF began. If that is data, and what comes
// could continue its JSON, then the two see different messages. A field that the
// standard knows continues no JSON text, and a comment only one that waits for a
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

// endLine ends the line at hand. It reports whether that was blank.
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

// Verdict returns the verdict on the event that was just completed. Before
// that, or at the end of the stream, it is the verdict on the unfinished
// event, as if it ended here: some clients deliver an event whose blank line
// never came. It changes nothing.
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

// Passing reports whether what was read of the event so far is of no answer: a
// notification or a request, with its method, and neither a result nor an error.
func (e *EventScanner) Passing() bool {
	s := &e.scanner
	return s.seen[keyMethod] && !s.seen[keyResult] && !s.seen[keyError]
}

// Guarded reports whether what was read of the event so far is a notification
// that is not for every caller; see Verdict.
func (e *EventScanner) Guarded() bool { return e.scanner.guarded }

// HasData reports whether the event has a line of data.
func (e *EventScanner) HasData() bool { return e.hasData }

// HasResult reports whether the message in the event has had a result so far.
func (e *EventScanner) HasResult() bool { return e.scanner.HasResult() }

// isMessage reports whether clients take the event for a message: it says so, or
// nothing of its kind.
func (e *EventScanner) isMessage() bool {
	text, whole := e.kind.bytes()
	text = bytes.TrimPrefix(text, []byte(" "))
	return whole && (len(text) == 0 || string(text) == "message")
}

// OtherType reports whether what was read of the event so far says that it is
// of another type than message: an event that clients of MCP skip, unless they
// know it. Some do not look at the type.
func (e *EventScanner) OtherType() bool { return !e.isMessage() }

// Pending reports whether bytes were read since the last event was complete.
func (e *EventScanner) Pending() bool { return e.touched && !e.done }

// find returns the index of the first CR, LF or stop byte from i on, len(p) if
// there is none. It looks at eight bytes at a time, as plain does.
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
