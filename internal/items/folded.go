package items

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// piece is a part of a glob: a literal text or a wildcard.
type piece struct {
	kind byte   // 'a' for a literal, or the first byte of the wildcard: '*', '?', '['
	text string // the literal, or the class with its brackets
}

// cutGlob cuts a pattern into pieces and unescapes the literals. The pattern must be one
// that path.Match accepts.
func cutGlob(pattern string) (pieces []piece) {
	var literal strings.Builder
	end := func() {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{'a', literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*', '?':
			end()
			pieces = append(pieces, piece{kind: c})
		case '[':
			end()
			size := classSize(pattern[i:])
			pieces = append(pieces, piece{c, pattern[i : i+size]})
			i += size - 1
		case '\\':
			i++
			fallthrough
		default:
			literal.WriteByte(pattern[i])
		}
	}
	end()
	return pieces
}

// classSize returns the length in bytes of the class at the start of the pattern.
func classSize(pattern string) int {
	for i := 1; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case ']':
			return i + 1
		}
	}
	return len(pattern)
}

// literals returns the concatenated literals of a glob.
func literals(pieces []piece) string {
	var all strings.Builder
	for _, p := range pieces {
		if p.kind == 'a' {
			all.WriteString(p.text)
		}
	}
	return all.String()
}

// fold returns the pieces, with each literal in its folded form; see Fold.
func fold(pieces []piece) []piece {
	folded := make([]piece, len(pieces))
	for i, p := range pieces {
		if p.kind == 'a' {
			p.text = Fold(p.text)
		}
		folded[i] = p
	}
	return folded
}

// foldedMatch reports whether folded pieces match a folded name. If they do, there may
// be a name with this folded form that the pattern matches. A class matches a character
// if the class contains the character in upper or lower case. Time is bounded by the
// product of the length of the pattern and the length of the name.
func foldedMatch(pieces []piece, name string) bool {
	var here, there [128]bool // these two buffers need no allocation, and are long enough for most names
	at, next := here[:], there[:]
	if len(name) >= len(at) {
		at, next = make([]bool, len(name)+1), make([]bool, len(name)+1)
	}
	at, next = at[:len(name)+1], next[:len(name)+1]
	at[0] = true
	for _, p := range pieces {
		clear(next)
		for i, reached := range at {
			if reached {
				p.step(name, i, next)
			}
		}
		at, next = next, at
	}
	return at[len(name)]
}

// For each position j in the name, step sets ends[j] if a match of the piece that
// begins at position i can end at j.
func (p *piece) step(name string, i int, ends []bool) {
	switch {
	case p.kind == 'a':
		if strings.HasPrefix(name[i:], p.text) {
			ends[i+len(p.text)] = true
		}
	case p.kind == '*':
		for !ends[i] {
			ends[i] = true
			if i == len(name) {
				return
			}
			_, size := utf8.DecodeRuneInString(name[i:])
			i += size
		}
	case i < len(name):
		r, size := utf8.DecodeRuneInString(name[i:])
		if p.kind == '?' || p.has(r) {
			ends[i+size] = true
		}
	}
}

// has reports whether the class p contains the character r, or a character that
// differs from r only in case.
func (p *piece) has(r rune) bool {
	for other := r; ; {
		if ok, _ := path.Match(p.text, string(other)); ok {
			return true
		}
		if other = unicode.SimpleFold(other); other == r {
			return false
		}
	}
}
