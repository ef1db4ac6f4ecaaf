package sse

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestReader checks that events are read as the standard says, however the bytes arrive.
func TestReader(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream string
		want   string // the type, data and last id of each event
		lastID string
		retry  time.Duration
	}{
		"line ends":            {"data: a\r\ndata: b\r\n\r\ndata:c\n\ndata: d\r\r", "|a\nb| |c| |d|", "", 0},
		"byte order mark":      {"\uFEFFdata: a\n\n", "|a|", "", 0},
		"types and comments":   {": hello\nevent: message\ndata: a\n\nevent: endpoint\ndata:  b\n\n", "message|a| endpoint| b|", "", 0},
		"ids":                  {"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata:\n\nid: 3\ndata: unfinished\n", "|a|1 |b|1", "2", 0},
		"an id with NUL":       {"id: 1\x00\ndata: a\n\n", "|a|", "", 0},
		"retry":                {"retry: 250\ndata: a\n\nretry: x\n\n", "|a|", "", 250 * time.Millisecond},
		"a long retry":         {"retry: 999999999\ndata: a\n\n", "|a|", "", time.Minute},
		"fields without colon": {"data\ndata\n\ndata: x\nunknown\n\n", "|\n| |x|", "", 0}, // two empty lines of data are a line break
	} {
		for way, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader} {
			r := NewReader(wrap(strings.NewReader(test.stream)), 100)
			var got []string
			for {
				e, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s, %s: %v", name, way, err)
				}
				got = append(got, fmt.Sprintf("%s|%s|%s", e.Type, e.Data, r.LastID()))
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("%s, %s: %q, want %q", name, way, text, test.want)
			}
			if r.LastID() != test.lastID && test.lastID != "" || r.Retry() != test.retry {
				t.Errorf("%s, %s: last id %q, retry %s", name, way, r.LastID(), r.Retry())
			}
		}
	}
}

// TestBound checks that an event beyond the bound is an error, in one line or in many.
func TestBound(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"data: " + strings.Repeat("x", 101), strings.Repeat("data: 0123456789\n", 20), ":" + strings.Repeat("x", 200)} {
		_, err := NewReader(strings.NewReader(stream), 100).Next()
		var long *TooLongError
		if !errors.As(err, &long) || long.Max != 100 {
			t.Errorf("%.20q: %v", stream, err)
		}
	}
}

// FuzzReader checks that the reader finds the same events as a parser that has the whole
// text, however the bytes arrive.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", "id: 1\nevent: x\ndata: a\ndata: b\r\n\r\n", ": c\n\ndata\n\n", "retry: 3\ndata:x\r\r", "\uFEFFdata: x\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		if len(stream) > 10_000 {
			t.Skip("too long")
		}
		want := plain(stream)
		for _, r := range []io.Reader{strings.NewReader(stream), iotest.OneByteReader(strings.NewReader(stream)), iotest.HalfReader(strings.NewReader(stream))} {
			var got []string
			for reader := NewReader(r, 1<<20); ; {
				e, err := reader.Next()
				if err != nil {
					break
				}
				got = append(got, string(e.Data)+"|"+reader.LastID())
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("%q: %q, want %q", stream, got, want)
			}
		}
	})
}

// plain parses a whole stream as the standard's text describes it.
func plain(stream string) (events []string) {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	lines := strings.Split(stream, "\n")
	data, id := "", ""
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			if text := strings.TrimSuffix(data, "\n"); text != "" {
				events = append(events, text+"|"+id)
			}
			data = ""
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "data":
			data += value + "\n"
		case name == "id" && !strings.Contains(value, "\x00"):
			id = value
		}
	}
	return events
}
