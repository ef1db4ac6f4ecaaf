package pricing

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold returns a member's name without the distinctions that a server's JSON decoder
// may ignore. The distinctions are case (by Unicode's simple folding, and for the
// Turkish i), Unicode forms (NFC, NFD, and the compatibility forms of NFKC), '_' and
// '-', white space and invisible characters. Decoders confuse two names only if fold
// returns the same text for both. Most names fold to themselves, without an allocation.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 0x80 || c <= ' ' || c == 0x7F || c == '_' || c == '-' || 'A' <= c && c <= 'Z' {
			return foldSlowly(name)
		}
	}
	return name
}

func foldSlowly(name string) string {
	// Folding may break the normal form, and normalization may restore differences in
	// case. A third round would have no effect.
	name = strings.Map(foldRune, norm.NFKC.String(name))
	return strings.Map(foldRune, norm.NFKC.String(name))
}

// foldRune returns the smallest rune among r and the runes that differ from r only in
// case. An ASCII letter is returned in lower case. For a rune that decoders may drop
// from names, foldRune returns -1.
func foldRune(r rune) rune {
	switch {
	case r == '_' || r == '-' || unicode.IsSpace(r):
		return -1
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	case r == '\u0130' || r == '\u0131': // the Turkish i, which SimpleFold does not fold
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
