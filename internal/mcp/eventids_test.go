package mcp

import (
	"bytes"
	"strings"
	"testing"
)

// TestEventIDs checks that EventIDs replaces the ids of a stream and nothing else,
// wherever the stream is split.
func TestEventIDs(t *testing.T) {
	for stream, want := range map[string]string{
		"id: 1\ndata: x\n\n":                                             "id: <1>\ndata: x\n\n",
		"id:1\r\ndata: id: 2\r\n\r\nid:  3\r\n\r\n":                      "id: <1>\r\ndata: id: 2\r\n\r\nid: < 3>\r\n\r\n",
		"\uFEFFid: 1\r\r":                                                "\uFEFFid: <1>\r\r",
		"\uFEFFdata: 1\n\uFEFFid: 2\n\n":                                 "\uFEFFdata: 1\n\uFEFFid: 2\n\n",
		"id\nid:\nid: \nid : 4\nids: 5\nI: 6\ni\n\n":                     "id\nid:\nid: \nid : 4\nids: 5\nI: 6\ni\n\n",
		": id: 7\nevent: id\nretry: 5\nid: é\n\n":                        ": id: 7\nevent: id\nretry: 5\nid: <é>\n\n",
		"data: 1\n\nid: cut":                                             "data: 1\n\n",
		"data: 1\n\ndata: cut":                                           "data: 1\n\ndata: cut",
		"id: " + strings.Repeat("x", maxEventID) + "\nid: 1\n\n":         ":\nid: <1>\n\n",
		"id: a\x00\nid: \x7f\r\nid: \t1\n\n":                             ":\n:\r\nid: <\t1>\n\n",
		strings.Repeat("id: 1\r\n", maxEventIDs+1) + "\r\nid: 2\r\n\r\n": strings.Repeat("id: <1>\r\n", maxEventIDs) + ":\r\n\r\nid: <2>\r\n\r\n",
		strings.Repeat("id: 1\n", maxEventIDs+1) + "\nid: 2\n\n":         strings.Repeat("id: <1>\n", maxEventIDs) + ":\n\nid: <2>\n\n",
		"\n\r\n\r": "\n\r\n\r",
	} {
		for size := 1; size <= len(stream); size++ {
			e := EventIDs{Replace: func(id []byte) []byte { return append(append([]byte("<"), id...), '>') }}
			var got []byte
			for rest := []byte(stream); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				got = e.Append(got, rest[:min(size, len(rest))])
			}
			if string(got) != want {
				t.Fatalf("%q in pieces of %d: got %q, want %q", stream, size, got, want)
			}
		}
	}
}

// FuzzEventIDs lets Replace return each id unchanged. It checks that the stream then
// passes unchanged too, apart from the space after "id:", which EventIDs always
// writes.
func FuzzEventIDs(f *testing.F) {
	f.Add([]byte("id: 1\ndata: x\r\n\r\n"), uint8(3))
	f.Add([]byte("\uFEFFid: 1\rid\r"), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		e := EventIDs{Replace: bytes.Clone}
		var got []byte
		for rest := stream; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			got = e.Append(got, rest[:n])
			rest = rest[n:]
		}
		if bytes.Count(stream, []byte("id")) > maxEventIDs || len(stream) > maxEventID || !sendable(bytes.Map(func(r rune) rune {
			if r == '\n' || r == '\r' {
				return -1
			}
			return r
		}, stream)) {
			return // skip this stream, because EventIDs may drop one of its ids
		}
		usual := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("id:"), []byte("id: ")) }
		usual2 := func(b []byte) []byte { return bytes.ReplaceAll(usual(b), []byte("id:  "), []byte("id: ")) }
		if !bytes.HasPrefix(usual2(stream), usual2(got)) {
			t.Fatalf("%q became %q", stream, got)
		}
	})
}
