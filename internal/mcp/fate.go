package mcp

import (
	"bytes"
	"unicode/utf8"
)

// Fate is what becomes of an event that is malformed. The zero Fate is
// FateWithheld, the one that is safe to assume.
type Fate uint8

const (
	// FateWithheld is for what may be an answer, of which it is not certain to
	// what request, or how it went. Nothing that follows it can be trusted to be
	// the one answer.
	FateWithheld Fate = iota
	// FateLeftOut is for what is no answer to a strict reader, but could be one
	// to another. Without it the stream has one meaning.
	FateLeftOut
	// FatePasses is for what no reader takes for an answer.
	FatePasses
)

// String returns the fate in lower case with underscores, or "Fate(n)" for a
// value that is none.
func (f Fate) String() string {
	return nameOf("Fate", []string{"withheld", "left_out", "passes"}, uint8(f))
}

// Fate says what becomes of the event that was just read and that Verdict calls
// ClassMalformed or ClassForeign. The event is given whole.
//
// One of another type than message is for clients that know it. It passes if
// clients that do not look at the type cannot read an answer in it, and is left
// out otherwise. A notification or a request that is broken passes on the same
// condition. What cannot even be that is left out, unless it may be an answer.
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

// telling is what a text has that a reader could take for an answer, or for a
// notification that is not for every caller. An answer to a request has its id,
// and nothing is a result or an error without a key that says so.
var telling = [][]byte{
	[]byte(`"id"`), []byte(`"result"`), []byte(`"error"`),
	[]byte("notifications/tasks"), []byte(MethodResourceUpdated),
}

// harmless reports whether no reader finds in the text what is telling: not by
// its letters, nor by escapes, in another case, or between characters that it
// drops. It looks at no syntax, which readers differ about.
func harmless(text []byte) bool {
	folded := fold(text)
	for _, word := range telling {
		if bytes.Contains(folded, word) {
			return false
		}
	}
	return true
}

// fold returns what is left of a text when its escapes, its case and all that
// cannot be seen is taken from it. Characters that fold to none of ASCII are one
// byte that is none.
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

// looseRune returns the first character of a text that may have escapes as in
// JSON, and how many bytes it takes. A backslash that begins none stands for
// itself.
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
