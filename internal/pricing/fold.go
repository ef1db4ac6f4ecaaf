package pricing

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold removes from a member's name all differences that a lax reader may ignore: case
// (Unicode's simple folding, and the Turkish i), the form of characters (NFC, NFD,
// and the compatibility forms of NFKC), '_' and '-', and invisible characters. Lax
// readers confuse two names only if they fold to the same text. Most names fold to
// themselves, without an allocation.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 0x80 || c <= ' ' || c == 0x7F || c == '_' || c == '-' || 'A' <= c && c <= 'Z' {
			return foldSlowly(name)
		}
	}
	return name
}

func foldSlowly(name string) string {
	// Folding may break the normal form, and normalization may bring back case.
	name = strings.Map(foldRune, norm.NFKC.String(name))
	return strings.Map(foldRune, norm.NFKC.String(name))
}

// foldRune returns the smallest of the runes that fold to each other, in lower case for
// ASCII letters, or -1 for a rune that readers may drop.
func foldRune(r rune) rune {
	switch {
	case r == '_' || r == '-' || unicode.IsSpace(r):
		return -1
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	case r == '\u0130' || r == '\u0131': // Turkish, with case rules of its own
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
