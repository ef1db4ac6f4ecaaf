package mcp

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// EventScanner cuts a server-sent event stream into events (WHATWG HTML,
// section 9.2) and classifies the JSON in each event's data, as a Scanner does.
// It keeps only the bytes of short field names, so its memory is bounded, however
// long an event is.
//
// By the standard, a line ends at CR, LF or CRLF. Some clients end a line only at
// LF, and others at every line break that Unicode knows. Such clients see different
// lines in the same bytes. Still other clients are lax about field names. An event
// is therefore ClassMalformed if one of its lines is not data by the standard but
// could be data to any of these clients. An event is also ClassMalformed if one of
// its lines has an impossible field name. Unknown fields are ignored, as the
// standard requires. Fate decides about malformed events. An EventScanner is not
// safe for concurrent use.
type EventScanner struct {
	scanner Scanner
	pending ID

	place   place
	name    capture // name of the current field
	afterCR bool    // the last byte was a CR; if a LF follows, it belongs to the same line end
	began   bool    // the stream's first line has ended
	touched bool    // the event has at least one byte
	done    bool    // the event is complete; the next byte begins another

	kind      capture // value of the event's last "event:" line, with the space before it
	hasData   bool    // the event has a data line
	ambiguous bool    // the event has a line that clients read differently

	recent uint32 // the last four bytes of the current line, without the value of a data field
	loneCR bool   // the current line follows a CR without a LF
	lfData bool   // a parser that ends lines only at LF takes the current line for data
}

// place is the scanner's position within a line.
type place uint8

const (
	inName    place = iota // at the start of a line, or in a field's name
	inSpace                // after the colon of a data field
	inData                 // in the value of a data field
	inKind                 // in the value of an "event" field
	inIgnored              // in a comment, or the value of another field
)

// field is the kind of a line.
type field uint8

const (
	fieldBlank   field = iota
	fieldComment       // begins with a colon
	fieldData
	fieldEvent
	fieldKnown    // "id" or "retry"
	fieldUnknown  // clients ignore a field with this name, by the standard
	fieldLikeData // differs from "data" only in case or invisible characters
	fieldOdd      // not a field name, for example a line of JSON or HTML
)

var (
	byteOrderMark = []byte("\uFEFF")
	dataNames     = names{"data"}
	lineFeed      = []byte{'\n'}
)

// NewEventScanner returns an EventScanner for a stream that may carry the response to
// the request with the given id. If the id is zero, no event is a ClassAnswer.
func NewEventScanner(id ID) *EventScanner {
	e := &EventScanner{pending: id}
	e.scanner.Reset(id)
	return e
}

// Scan reads p up to and including the end of the current event. Scan returns the
// number of bytes it has read, and whether the event is complete. If the event is not
// complete, Scan has read all of p. An event ends with a blank line. If the blank line
// ends with CR, the event is complete immediately; a LF after the CR then begins the
// next event and has no meaning there. The events that Scan cuts, concatenated, are
// the stream byte for byte, however the stream was split over calls.
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

// inLine reads the current part of the line, such as a field's name, from p[i] on. It
// returns the index after the bytes it has read.
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

// watch looks for line breaks that the standard does not know. A parser that splits
// text by Unicode's rules sees a new line after such a break. watch is not called for
// data, where these line breaks are harmless: JSON can have them only within strings,
// and JSON that is cut within a string is invalid.
func (e *EventScanner) watch(b []byte) {
	for _, c := range b {
		e.recent = e.recent<<8 | uint32(c)
		if foreignBreak(e.recent) {
			e.ambiguous = true
		}
	}
}

// foreignBreak reports whether a text ends in VT, FF, FS, GS, RS, NEL, U+2028 or
// U+2029. The argument has the last four bytes of the text, with the last byte as the
// lowest.
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

// field returns the kind of the current line after its field name has been read.
// field(true) means that a colon follows the name.
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

// validFieldName reports whether the text looks like a field name, and not like a line
// in another format.
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

// beginField prepares for the value of a field of kind f. The value may be empty.
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

// misread reports whether another parser could take the current line, which is of kind
// f, for data. There are two cases. First, a line without a valid field name may belong
// to a JSON body that was sent under the wrong content type. Second, after a lone CR, a
// parser that ends lines only at LF is still in the line that began after the last LF.
// If that line is data, and the next bytes could continue its JSON, the two parsers see
// different messages. The second case does not concern standard fields, because their
// names cannot continue a JSON text. It concerns a comment only if the JSON so far ends
// with a key, because a comment begins with a colon, which JSON allows only there.
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

// Verdict returns the verdict on the event that was just completed. The current
// event may be unfinished at the end of the stream. Some clients deliver such an
// event without its blank line, so Verdict judges the event as if it ended here.
// Verdict does not change the scanner.
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

// isAmbiguous reports whether some clients see other lines in the event than the
// standard defines.
func (e *EventScanner) isAmbiguous() bool {
	return e.ambiguous || !e.done && e.place == inName && e.name.n > 0 && e.misread(e.field(false))
}

// Passing reports whether the event so far is a notification or a request, and so not
// a response: its message has a method, and neither a result nor an error.
func (e *EventScanner) Passing() bool {
	s := &e.scanner
	return s.seen[keyMethod] && !s.seen[keyResult] && !s.seen[keyError]
}

// Guarded reports whether the event so far is a guarded notification; see
// Verdict.Guarded.
func (e *EventScanner) Guarded() bool { return e.scanner.guarded }

// HasData reports whether the event has a data line.
func (e *EventScanner) HasData() bool { return e.hasData }

// HasResult reports whether the message in the event has had a result so far.
func (e *EventScanner) HasResult() bool { return e.scanner.HasResult() }

// isMessage reports whether clients take the event for a message: its type is
// "message", or it has no type.
func (e *EventScanner) isMessage() bool {
	text, whole := e.kind.bytes()
	text = bytes.TrimPrefix(text, []byte(" "))
	return whole && (len(text) == 0 || string(text) == "message")
}

// OtherType reports whether the event so far has a type other than "message". Most MCP
// clients skip an event with a type that they do not know, but some clients ignore the
// type.
func (e *EventScanner) OtherType() bool { return !e.isMessage() }

// Pending reports whether bytes have been read since the last complete event.
func (e *EventScanner) Pending() bool { return e.touched && !e.done }

// find returns the index of the first CR, LF or stop byte from p[i] on, or len(p) if it
// finds no such byte. Like the search in plain, it compares eight bytes at a time.
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
