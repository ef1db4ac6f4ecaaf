package mcp

import (
	"bytes"
	"unicode/utf8"
)

// Fate is the treatment of a malformed event. The zero Fate is FateWithheld, the safe
// one.
type Fate uint8

const (
	// FateWithheld is for an event that may be a response, but with an uncertain id
	// or outcome. No later event can be trusted to be the one response.
	FateWithheld Fate = iota
	// FateLeftOut is for an event that is not a response to a strict reader, but
	// could be one to another. Without it the stream has one meaning.
	FateLeftOut
	// FatePasses is for an event that no reader takes for a response.
	FatePasses
)

// String returns the fate in lower case with underscores, or "Fate(n)" for an unknown
// value.
func (f Fate) String() string {
	return nameOf("Fate", []string{"withheld", "left_out", "passes"}, uint8(f))
}

// Fate returns the fate of the event that was just read and that Verdict calls
// ClassMalformed or ClassForeign. The event is given whole.
//
// An event with a type other than message is for clients that know the type. It
// passes if clients that ignore the type cannot read a response in it, and is left
// out otherwise. A malformed notification or request passes on the same condition.
// Any other event is left out, unless it may be a response.
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

// telling has the texts by which a reader could recognise a response, or a guarded
// notification. A response has the id of its request, and a result or an error has a
// key for it.
var telling = [][]byte{
	[]byte(`"id"`), []byte(`"result"`), []byte(`"error"`),
	[]byte("notifications/tasks"), []byte(MethodResourceUpdated),
}

// harmless reports whether no reader finds a telling text: neither literally, nor by
// escapes, nor in another case, nor between characters that it drops. It ignores
// syntax, which readers differ about.
func harmless(text []byte) bool {
	folded := fold(text)
	for _, word := range telling {
		if bytes.Contains(folded, word) {
			return false
		}
	}
	return true
}

// fold returns the text without its escapes, its case and its invisible characters. A
// character that folds to no ASCII character becomes one byte beyond ASCII.
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

// looseRune returns the first character of a text that may have escapes as in JSON,
// and its length in bytes. A backslash that begins no escape stands for itself.
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
