package mcp

import (
	"bytes"
	"unicode/utf8"
)

// Fate is the treatment of an event that is malformed, or that is a response without
// the pending id. The zero Fate is FateWithheld, the safe one.
type Fate uint8

const (
	// FateWithheld is for an event that may be the response but has an uncertain id
	// or outcome. No later event can then be trusted to be the only response.
	FateWithheld Fate = iota
	// FateLeftOut is for an event that a strict parser does not take for a response,
	// but another parser might. Without the event, the stream has only one meaning.
	FateLeftOut
	// FatePasses is for an event that no parser takes for a response.
	FatePasses
)

// String returns the fate in lower case with underscores, or "Fate(n)" for an unknown
// value.
func (f Fate) String() string {
	return nameOf("Fate", []string{"withheld", "left_out", "passes"}, uint8(f))
}

// Fate returns the fate of the event that was just scanned, if its Verdict is
// ClassMalformed or ClassForeign. Call Fate with the whole event.
//
// An event with a type other than "message" is meant for clients that know the type.
// It passes if clients that ignore the type cannot read a response in it, and is left
// out otherwise. A malformed notification or request passes if clients cannot read a
// response in it and agree about its lines. Any other event is left out, unless it may
// be a response: then it is withheld.
func (e *EventScanner) Fate(event []byte) Fate {
	harmless := harmless(event) && harmless(EventData(event))
	switch {
	case !e.isMessage():
		if harmless {
			return FatePasses
		}
		return FateLeftOut
	case harmless && e.Passing() && !e.isAmbiguous():
		return FatePasses
	case harmless:
		return FateLeftOut
	case e.isAmbiguous():
		return FateWithheld
	case e.Passing(), !e.scanner.opened:
		return FateLeftOut
	}
	return FateWithheld
}

// revealing has texts for recognising a response or a guarded notification. A parser
// takes an event for a response only if the event has the key "id", and the key
// "result" or "error". A guarded notification has a method that begins with one of the
// other texts.
var revealing = [][]byte{
	[]byte(`"id"`), []byte(`"result"`), []byte(`"error"`),
	[]byte("notifications/tasks"), []byte(MethodResourceUpdated),
}

// harmless reports whether the given text has no text of revealing in it, even for a
// parser that resolves escapes, ignores case and drops invisible characters. JSON
// syntax is not considered, because parsers differ about it.
func harmless(text []byte) bool {
	folded := fold(text)
	for _, word := range revealing {
		if bytes.Contains(folded, word) {
			return false
		}
	}
	return true
}

// fold returns the text in lower case, with its escapes resolved and without white
// space and invisible characters. A character that does not fold to an ASCII character
// becomes the byte 0xFF.
func fold(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := looseRune(text)
		text = text[n:]
		switch {
		case r <= ' ' || invisible(r):
		case r < utf8.RuneSelf:
			out = append(out, lower(byte(r)))
		default:
			c := foldRune(r)
			if c == 0 {
				c = 0xFF
			}
			out = append(out, c)
		}
	}
	return out
}

// looseRune returns the first character of the text, with a JSON escape resolved, and
// the number of bytes of the text that the character takes. A backslash that does not
// begin an escape stands for itself.
func looseRune(text []byte) (rune, int) {
	switch {
	case text[0] != '\\' || len(text) < 2:
		return utf8.DecodeRune(text)
	case text[1] == 'u' && len(text) >= 6 && hexDigits(text[2:6]):
		return firstRune(text)
	case unescapedByte(text[1]) != 0:
		return rune(unescapedByte(text[1])), 2
	}
	return '\\', 1
}

func hexDigits(b []byte) bool {
	for _, c := range b {
		if hexValue(c) < 0 {
			return false
		}
	}
	return true
}
