package items

import (
	"strings"
	"unicode/utf8"
)

// matchGlob reports whether the pattern matches the name. The pattern must be valid by
// the syntax of path.Match, but '/' is not special: "*" matches every name. After a
// mismatch, matchGlob backtracks only to the last '*' that it has reached. That is
// sufficient, and it bounds the time.
func matchGlob(pattern, name string) bool {
	star, from := -1, 0 // the place after the last '*' in the pattern, and the place in the name to try next
	rest, text := pattern, name
	for {
		switch {
		case strings.HasPrefix(rest, "*"):
			rest = rest[1:]
			star, from = len(pattern)-len(rest), len(name)-len(text)
			continue
		case rest == "" && text == "":
			return true
		case rest != "" && text != "":
			r, size := utf8.DecodeRuneInString(text)
			if after, ok := matchRune(rest, r); ok {
				rest, text = after, text[size:]
				continue
			}
		}
		if star < 0 || from == len(name) {
			return false
		}
		_, size := utf8.DecodeRuneInString(name[from:])
		from += size
		rest, text = pattern[star:], name[from:]
	}
}

// matchRune reports whether the first element of a pattern matches the rune. It also
// returns the rest of the pattern. The first element must not be a star.
func matchRune(pattern string, r rune) (rest string, ok bool) {
	switch pattern[0] {
	case '?':
		return pattern[1:], true
	case '[':
		return matchClass(pattern[1:], r)
	}
	want, rest := literal(pattern)
	return rest, want == r
}

// matchClass is like matchRune, for a pattern that begins with a class without its
// opening bracket.
func matchClass(pattern string, r rune) (rest string, ok bool) {
	rest, negated := strings.CutPrefix(pattern, "^")
	for first := true; first || rest[0] != ']'; first = false {
		var low, high rune
		low, rest = literal(rest)
		high = low
		if rest[0] == '-' {
			high, rest = literal(rest[1:])
		}
		ok = ok || low <= r && r <= high
	}
	return rest[1:], ok != negated
}

// literal returns the first character of a pattern, unescaped, and the rest of the
// pattern.
func literal(pattern string) (r rune, rest string) {
	pattern = strings.TrimPrefix(pattern, `\`)
	r, size := utf8.DecodeRuneInString(pattern)
	return r, pattern[size:]
}
