package items

import (
	"testing"
)

// TestResourcePatterns checks that a wildcard in a resource pattern matches any text, and
// that the literals must occur in their order and without overlaps.
func TestResourcePatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, uri string
		want         bool
	}{
		{"*", "", true}, {"*", "a://b/c", true}, {"a*", "a", true}, {"a*a", "a", false}, {"a*a", "aa", true}, {"ab*ba", "aba", false},
		{"a**b", "ab", true}, {"*b*", "abc", true}, {"*b*b*", "abc", false}, {"*ab*b", "aabb", true}, {"*ab*b", "ab", false}, {"{x}", "y", true},
		{"a{x}*{y}c", "abc", true}, {"a{*x}c", "a/b/c", true}, {"a*c", "abcd", false}, {"a?c*", "abc", false}, {`a\*`, `a\b`, true},
	} {
		pieces, err := splitURIPattern(c.pattern)
		if err != nil || matchesPieces(pieces, c.uri) != c.want {
			t.Errorf("%q for %q: want %v (%v)", c.pattern, c.uri, c.want, err)
		}
	}
}

// TestMayBeNormal checks that MayBeNormal is false only for a pattern that matches no URI
// in normal form.
func TestMayBeNormal(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "docs://*": true, "{+uri}": true, "https://example.com*": true, "https://example.com:{port}/a": true, "file://*": true, "Docs://Exact": true, "ht*://x": true,
		"http://{a}.1/": true, "http://{a}.{b}.1/x": true, "http://1*": true, "http://[{a}/": true, "http:*": true, "http:/*": true, "https://example.com:44*": true, "https://example.com:443*": true,
		"Docs://*": false, "https://Example.com/*": false, "docs://a/../*": false, "docs://a b/*": false, "docs://*#part": false, "https://example.com:443/*": false, "https://example.com:x*": false, "https://example.com:8x/*": false,
	} {
		if MayBeNormal(pattern) != want {
			t.Errorf("%q: want %v", pattern, want)
		}
	}
}
