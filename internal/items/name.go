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
	// MaxToolName bounds the name of a tool, in characters. The schema of MCP has no
	// bound, but charges, receipts and event ids contain the name.
	MaxToolName = 256
	// MaxName bounds every other name, in bytes.
	MaxName = 1024
)

// CheckName returns an error if the item's name must not be used in a rule. A name must
// be valid UTF-8 and not empty. A tool's name has at most MaxToolName characters, and any
// other name at most MaxName bytes. A name must not have characters that mislead a
// reader; see unreadable.
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

// unreadable reports whether a terminal or a log may interpret a character instead of
// showing it. That is so for control characters, line and paragraph separators,
// bidirectional controls (CVE-2021-42574), the replacement character and noncharacters.
// The zero-width joiner and non-joiner are allowed, because many scripts need them.
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

// Fold returns the name without distinctions that a server may ignore when it looks up
// a name: case, Unicode composition and compatibility forms (NFKC), white space and
// invisible characters. Two names that a server may confuse fold to the same text.
func Fold(name string) string {
	if isFolded(name) {
		return name
	}
	if isASCII(name) {
		return strings.Map(foldRune, name)
	}
	// Each step may bring back differences that another step has removed. A third round
	// would have no effect.
	for range 2 {
		name = strings.Map(foldRune, norm.NFKC.String(name))
		name = cases.Fold().String(name)
	}
	return norm.NFKC.String(name)
}

// isFolded is a quick test. It returns true only if Fold does not change the name, but
// may return false for an unusual name that Fold does not change either.
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
	case r == 'İ', r == 'ı': // in some languages, upper case of i is İ, and lower case of I is ı
		return 'i'
	case unicode.IsSpace(r), unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	}
	return unicode.ToLower(unicode.ToUpper(r)) // a server may convert names to either case
}
