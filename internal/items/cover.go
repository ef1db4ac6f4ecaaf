package items

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxCover bounds the number of steps of the simulation in covers.
const maxCover = 20_000

// step is one element of a pattern: a star, or an element that matches one character.
type step struct {
	star  bool
	any   bool   // '?'
	class string // a class without its opening bracket; "" if the step is not a class
	char  rune   // a literal
}

func (s step) has(r rune) bool {
	switch {
	case s.any:
		return true
	case s.class != "":
		_, ok := matchClass(s.class, r)
		return ok
	}
	return s.char == r
}

// steps returns the elements of the rule's pattern.
func (g *glob[T]) steps(kind Kind) (all []step) {
	if kind == Resource {
		for i, piece := range g.uri {
			if i > 0 {
				all = append(all, step{star: true})
			}
			all = appendLiteral(all, piece)
		}
		return all
	}
	for _, p := range cutGlob(g.pattern) {
		switch p.kind {
		case '*':
			all = append(all, step{star: true})
		case '?':
			all = append(all, step{any: true})
		case '[':
			all = append(all, step{class: p.text[1:]})
		default:
			all = appendLiteral(all, p.text)
		}
	}
	return all
}

func appendLiteral(all []step, text string) []step {
	for _, r := range text {
		all = append(all, step{char: r})
	}
	return all
}

// exampleOf returns a name that the pattern matches. The name has rare characters for
// the wildcards, so that few other patterns match it. If the pattern has an empty
// class, it matches no name, and exampleOf returns false.
func exampleOf(pattern []step) (name string, ok bool) {
	const inStar, inAny = '\uE000', '\uE001' // characters for private use, which names rarely contain
	var text strings.Builder
	for _, s := range pattern {
		switch {
		case s.star:
			text.WriteRune(inStar)
		case s.any:
			text.WriteRune(inAny)
		case s.class != "":
			characters := representatives([]step{s})
			i := slices.IndexFunc(characters, s.has)
			if i < 0 {
				return "", false
			}
			text.WriteRune(characters[i])
		default:
			text.WriteRune(s.char)
		}
	}
	return text.String(), true
}

// covers reports whether the outer pattern matches every name that the inner pattern
// matches. It simulates both patterns at the same time, as automata. A state is a
// position in the inner pattern, together with the set of positions in the outer pattern
// that the same name can reach. If the simulation takes more than maxCover steps, covers
// reports false although the outer pattern may cover the inner one.
func covers(outer, inner []step) bool {
	characters := representatives(outer, inner)
	if !satisfiable(inner, characters) {
		return true
	}
	type state struct {
		at  int
		set string // positions in the outer pattern, as encoded by closure
	}
	begin := state{0, closure(outer, []int{0})}
	seen, todo := map[state]bool{begin: true}, []state{begin}
	work := 0
	visit := func(s state) {
		if !seen[s] {
			seen[s] = true
			todo = append(todo, s)
		}
	}
	for len(todo) > 0 {
		now := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if now.set == "" {
			return false // no outer position is left, but the inner pattern can still match a name
		}
		if now.at == len(inner) {
			if !strings.ContainsRune(now.set, rune(len(outer))) {
				return false
			}
			continue
		}
		here := inner[now.at]
		if here.star {
			visit(state{now.at + 1, now.set})
		}
		for _, r := range characters {
			if work++; work > maxCover {
				return false
			}
			if !here.star && !here.has(r) {
				continue
			}
			next := now.at
			if !here.star {
				next++
			}
			visit(state{next, advance(outer, now.set, r)})
		}
	}
	return true
}

// satisfiable reports whether the pattern matches any name. It does unless one of its
// classes contains no character, as [b-a] does. The characters must stand for all
// characters; see representatives.
func satisfiable(pattern []step, characters []rune) bool {
	for _, s := range pattern {
		if !s.star && !slices.ContainsFunc(characters, s.has) {
			return false
		}
	}
	return true
}

// advance returns the set of positions that a match of the pattern can be at after the
// character r, given the set of its possible positions before r.
func advance(pattern []step, set string, r rune) string {
	var next []int
	for _, i := range set {
		switch {
		case int(i) == len(pattern):
		case pattern[i].star:
			next = append(next, int(i))
		case pattern[i].has(r):
			next = append(next, int(i)+1)
		}
	}
	return closure(pattern, next)
}

// closure returns the set of the given positions. A star may match the empty text, so
// if a position is at a star, the set also has the position after the star. Each
// position is encoded as a character.
func closure(pattern []step, positions []int) string {
	for i := 0; i < len(positions); i++ {
		if at := positions[i]; at < len(pattern) && pattern[at].star && !slices.Contains(positions, at+1) {
			positions = append(positions, at+1)
		}
	}
	slices.Sort(positions)
	var set strings.Builder
	for _, at := range slices.Compact(positions) {
		set.WriteRune(rune(at))
	}
	return set.String()
}

// representatives returns characters that stand for all characters. For each character,
// the result contains one that the patterns treat in the same way.
func representatives(patterns ...[]step) []rune {
	all := []rune{0}
	add := func(low, high rune) { all = append(all, low, high+1) }
	for _, pattern := range patterns {
		for _, s := range pattern {
			switch {
			case s.star, s.any:
			case s.class != "":
				eachRange(s.class, add)
			default:
				add(s.char, s.char)
			}
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(r rune) bool { return !utf8.ValidRune(r) })
}

// eachRange calls f(low, high) for each range of characters in a class. The class is
// given without its opening bracket.
func eachRange(class string, f func(low, high rune)) {
	rest := strings.TrimPrefix(class, "^")
	for first := true; first || rest[0] != ']'; first = false {
		var low, high rune
		low, rest = literal(rest)
		high = low
		if rest[0] == '-' {
			high, rest = literal(rest[1:])
		}
		f(low, high)
	}
}
