package mcp

import (
	"strings"
	"testing"
)

// tokens lexes the text in pieces of the given size in bytes. It returns one
// character per token, and whether the text is one complete JSON text.
func tokens(text string, size int, strict bool) (string, bool) {
	lex := lexer{strict: strict}
	var out strings.Builder
	text += " " // the lexer ends a number only at a byte that follows
	for len(text) > 0 {
		piece := []byte(text[:min(size, len(text))])
		text = text[len(piece):]
		for i := 0; ; {
			var t token
			i, t = lex.next(piece, i)
			if t == tokenBad {
				return out.String(), false
			}
			if t == tokenMore {
				break
			}
			out.WriteByte("?!{}[]ksntfz"[t])
		}
	}
	return out.String(), lex.state == wantNothing
}

// TestLexerGrammar checks that a strict lexer accepts exactly the texts of RFC 8259,
// and that a lax lexer accepts these texts too. Each text is lexed in pieces of several
// sizes, and the size must not change the result.
func TestLexerGrammar(t *testing.T) {
	tests := []struct {
		text string
		want string // "" for a text that is refused
	}{
		{`{}`, "{}"}, {`[]`, "[]"}, {`{"a":1}`, "{kn}"}, {`{"a":[true,false,null,"x"]}`, "{k[tfzs]}"},
		{"[1 ,\t2\r\n]", "[nn]"}, {`"a"`, "s"}, {`1`, "n"}, {`true`, "t"},
		{`[0,-0,10,-1,0.5,1.25e+9,1E-2,1e5,123456789012345678901234567890]`, "[nnnnnnnnn]"},
		{`["\"\\\/\b\f\n\r\t\u0000\uD83D\uDE00\u00e9"]`, "[s]"},
		{"[\"é€😀\x7F\U0010FFFF\"]", "[s]"},
		{`{"":{"":[[]]}}`, "{k{k[[]]}}"},
		{`{`, ""}, {`{"a"`, ""}, {`{"a":`, ""}, {`{"a":1`, ""}, {`{"a":1,`, ""}, {`{"a":1,}`, ""}, {`{,}`, ""}, {`{1:2}`, ""},
		{`{"a" 1}`, ""}, {`{"a":1 "b":2}`, ""}, {`{'a':1}`, ""}, {`{a:1}`, ""}, {`[1,]`, ""}, {`[,1]`, ""}, {`[1 2]`, ""},
		{`{]`, ""}, {`[}`, ""}, {`[{]}`, ""}, {`{"a":[}]`, ""}, {`}`, ""}, {`]`, ""},
		{`01`, ""}, {`-`, ""}, {`+1`, ""}, {`1.`, ""}, {`.5`, ""}, {`1e`, ""}, {`1e+`, ""}, {`-a`, ""}, {`0x1`, ""}, {`1.e5`, ""}, {`--1`, ""}, {`1e5.5`, ""},
		{`NaN`, ""}, {`Infinity`, ""}, {`-Infinity`, ""}, {`tru`, ""}, {`truE`, ""}, {`nul`, ""}, {`undefined`, ""}, {`truefalse`, ""},
		{`"`, ""}, {`"a`, ""}, {`"\x"`, ""}, {`"\u12"`, ""}, {`"\u12G4"`, ""}, {`"\U0041"`, ""}, {"\"\n\"", ""}, {"\"\x00\"", ""}, {"\"\x1f\"", ""}, {`"\`, ""}, {`"\'"`, ""},
		{`"\ud83d"`, ""}, {`"\ude00"`, ""}, {`"\ud83d\ud83d"`, ""}, {`"\ud83dx"`, ""}, {`"\ud83d\n"`, ""}, {`"\ud83d\u0041"`, ""}, {`"\ud83d`, ""},
		{"\"\x80\"", ""}, {"\"\xC0\x80\"", ""}, {"\"\xC1\xBF\"", ""}, {"\"\xC2\"", ""}, {"\"\xE0\x80\x80\"", ""}, {"\"\xED\xA0\x80\"", ""}, {"\"\xE2\x82\"", ""},
		{"\"\xF0\x80\x80\x80\"", ""}, {"\"\xF4\x90\x80\x80\"", ""}, {"\"\xF5\x80\x80\x80\"", ""}, {"\"\xFF\"", ""}, {"\"\xF0\x9F\x98\"", ""},
		{"{} {}", ""}, {"{}x", ""}, {"{}\x00", ""}, {"\uFEFF{}", ""}, {"{}\u00a0", ""}, {"[1,\v2]", ""}, {"// c\n{}", ""}, {"{}/* c */", ""}, {``, ""},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			if got, ok := tokens(tt.text, size, false); tt.want != "" && (!ok || got != tt.want) {
				t.Errorf("%q in pieces of %d, not strict: %s, %v; want %q", tt.text, size, got, ok, tt.want)
			}
			got, ok := tokens(tt.text, size, true)
			if ok != (tt.want != "") || ok && got != tt.want {
				t.Errorf("%q in pieces of %d: %s, %v; want %q", tt.text, size, got, ok, tt.want)
			}
		}
	}
}

// TestLexerTakesWhatParsersTake checks which deviations from RFC 8259 a lax lexer
// accepts, and that none of them hides the end of a string.
func TestLexerTakesWhatParsersTake(t *testing.T) {
	tests := []struct {
		text, want string // "" for a text that is refused
	}{
		{`["\ud83d"]`, "[s]"}, {`["\ude00"]`, "[s]"}, {`["\ud83d\ud83d"]`, "[s]"}, {`["\ud83d\ud83d\ude00"]`, "[s]"}, {`["\ud83dx","\ud83d\n"]`, "[ss]"},
		{`["\ud83d\u0041"]`, "[s]"}, {`["\ud83d\"]`, ""}, {`["\ud83d\"",1]`, "[sn]"}, {`["\ud83d\\",1]`, "[sn]"}, {`["\ud83d`, ""}, {`["\ud83d\x"]`, ""}, {`["\ud83d\u00"]`, ""},
		{"[\"\x80\",\"\xC0\x80\",\"\xC2\",\"\xE0\x80\x80\",\"\xED\xA0\x80\",\"\xE2\x82\",\"\xFF\"]", "[sssssss]"}, {"[\"\xE2\x82\\\"\"]", "[s]"},
		{"{\"\xFF\":1}", "{kn}"}, {"[\xFF]", ""}, {"[\"a\"\xFF]", ""},
		{"\uFEFF{}", "{}"}, {"\uFEFF \n[1]", "[n]"}, {"\uFEFF\uFEFF{}", ""}, {" \uFEFF{}", ""}, {"{\uFEFF}", ""}, {"[\uFEFF1]", ""}, {"{}\uFEFF", ""},
		{"\xEF{}", ""}, {"\xEF\xBB{}", ""}, {"\xEF\xBB {}", ""}, {"\xEF \xBB\xBF{}", ""}, {"\xEF\xBB\xBE{}", ""}, {"\uFEFF", ""},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			got, ok := tokens(tt.text, size, false)
			if ok != (tt.want != "") || ok && got != tt.want {
				t.Errorf("%q in pieces of %d: %s, %v; want %q", tt.text, size, got, ok, tt.want)
			}
		}
	}
}

// TestLexerDepth checks that arrays and objects may nest 64 levels deep in a client's
// message and 1024 levels in a server's. It also checks that a bracket cannot end an
// object, nor a brace an array.
func TestLexerDepth(t *testing.T) {
	for _, tt := range []struct {
		open, shut, wrong string
	}{{"[", "]", "}"}, {`{"a":`, "}", "]"}} {
		for _, bound := range []struct {
			strict bool
			depth  int
		}{{true, 64}, {false, 1024}} {
			for depth, want := range map[int]bool{bound.depth: true, bound.depth + 1: false} {
				text := strings.Repeat(tt.open, depth) + "1" + strings.Repeat(tt.shut, depth)
				if _, ok := tokens(text, 1<<20, bound.strict); ok != want {
					t.Errorf("%d levels of %s: %v, want %v", depth, tt.open, ok, want)
				}
				for _, at := range []int{0, 1, 63, 64, depth / 2, depth - 1} {
					broken := text[:len(text)-at-1] + tt.wrong + text[len(text)-at:]
					if _, ok := tokens(broken, 1<<20, bound.strict); ok && at < depth {
						t.Errorf("%d levels of %s: the wrong end of level %d is taken", depth, tt.open, at)
					}
				}
			}
		}
	}
}

// TestPlainFindsEveryByte checks that plain and find, which search eight bytes at a
// time, find every byte at every place.
func TestPlainFindsEveryByte(t *testing.T) {
	for c := range 256 {
		special := c < 0x20 || c == '"' || c == '\\' || c >= 0x80
		for at := range 20 {
			p := []byte("abcdefghijklmnopqrst")
			p[at] = byte(c)
			want := len(p)
			if special {
				want = at
			}
			if got := plain(p, 0); got != want {
				t.Fatalf("byte %#x at %d: plain says %d", c, at, got)
			}
			want = len(p)
			if c == '\r' || c == '\n' || c == ':' {
				want = at
			}
			if got := find(p, 0, ':'); got != want {
				t.Fatalf("byte %#x at %d: find says %d", c, at, got)
			}
		}
	}
}
