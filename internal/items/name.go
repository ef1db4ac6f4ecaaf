package items

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	// MaxToolName bounds the name of a tool, in characters: what MCP's schema
	// leaves open is bounded here, since charges, receipts and event ids carry it.
	MaxToolName = 256
	// MaxName bounds every other name, in bytes.
	MaxName = 1024
)

// CheckName returns why an item of that name can be neither charged nor called
// by a rule, nil if it can: a name is valid UTF-8, not empty, of at most
// MaxToolName characters (a tool's) or MaxName bytes (others'), and has no
// character that is not seen for what it is where operators read it.
func CheckName(item Item) error {
	switch {
	case item.Name == "":
		return fmt.Errorf("the name of a %s must not be empty", item.Kind)
	case item.Kind == Tool && utf8.RuneCountInString(item.Name) > MaxToolName:
		return fmt.Errorf("the name of a %s must have at most %d characters", item.Kind, MaxToolName)
	case len(item.Name) > MaxName:
		return fmt.Errorf("the name or URI of a %s that has a rule must have at most %d bytes", item.Kind, MaxName)
	case !utf8.ValidString(item.Name) || strings.ContainsFunc(item.Name, unreadable):
		return fmt.Errorf("the name or URI of a %s must be UTF-8 without control characters, line separators and characters that hide or turn text around", item.Kind)
	}
	return nil
}

// unreadable reports whether a character is one that a terminal or a log acts on
// instead of showing it: control characters, the ends of lines and paragraphs,
// what turns the direction of text (CVE-2021-42574), what is replaced or was
// never a character. The two joiners are letters' own in many scripts.
func unreadable(r rune) bool {
	const (
		nonJoiner = '\u200C'
		joiner    = '\u200D'
	)
	switch {
	case ' ' <= r && r <= '~', r == nonJoiner, r == joiner:
		return false
	case r == utf8.RuneError, r&0xFFFE == 0xFFFE, 0xFDD0 <= r && r <= 0xFDEF:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Cs)
}

// Fold returns what is left of a name when everything is taken from it that a
// lookup may leave out or take for something else: case, the compositions and
// the compatible forms of Unicode (NFKC), white space, and what cannot be seen.
// Two names that servers may take for one another have the same.
func Fold(name string) string {
	if isFolded(name) {
		return name
	}
	if isASCII(name) {
		return strings.Map(foldRune, name)
	}
	// Each step may leave work for the others; two rounds leave none.
	for range 2 {
		name = strings.Map(foldRune, norm.NFKC.String(name))
		name = cases.Fold().String(name)
	}
	return norm.NFKC.String(name)
}

// isFolded reports, for names of the usual kind, that folding changes nothing.
func isFolded(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7F || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

func isASCII(name string) bool {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func foldRune(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A'
	case ' ' < r && r < 0x7F:
		return r
	case r == 'İ', r == 'ı': // whose case depends on the reader's language
		return 'i'
	case unicode.IsSpace(r), unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	}
	return unicode.ToLower(unicode.ToUpper(r)) // whichever case a lookup takes
}
