package pricing

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold returns what is left of a member's name when everything is taken from it
// in which readers that are lax about names differ: case (Unicode's simple
// folding, and the Turkish i), the form of its characters (NFC, NFD, and the
// look-alikes that NFKC undoes), '_' and '-', and what cannot be seen. Readers
// that are lax take two names for one only if this is the same for both. Most
// names are what is left of them, which costs nothing.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 0x80 || c <= ' ' || c == 0x7F || c == '_' || c == '-' || 'A' <= c && c <= 'Z' {
			return foldSlowly(name)
		}
	}
	return name
}

func foldSlowly(name string) string {
	// Folding may undo a normal form, as a form may bring case back.
	name = strings.Map(foldRune, norm.NFKC.String(name))
	return strings.Map(foldRune, norm.NFKC.String(name))
}

// foldRune returns the least of the runes that fold to each other, in lower case
// for ASCII letters, or -1 for one that readers may drop.
func foldRune(r rune) rune {
	switch {
	case r == '_' || r == '-' || unicode.IsSpace(r):
		return -1
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	case r == '\u0130' || r == '\u0131': // of Turkish, whose upper and lower case are not Unicode's
		return 'i'
	}
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
