package coding

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

type flushWriter interface {
	io.WriteCloser
	Flush() error
}

// writers are the encoders that servers use. Each has the name of its coding, in a
// spelling that servers send in the header Content-Encoding.
var writers = map[string]struct {
	coding string
	open   func(io.Writer) flushWriter
}{
	"gzip":         {"gzip", func(w io.Writer) flushWriter { return gzip.NewWriter(w) }},
	"GZIP":         {"X-GZip", func(w io.Writer) flushWriter { return gzip.NewWriter(w) }},
	"deflate":      {"deflate", func(w io.Writer) flushWriter { return zlib.NewWriter(w) }},
	"deflate best": {"deflate", func(w io.Writer) flushWriter { z, _ := zlib.NewWriterLevel(w, 9); return z }},
	"bare deflate": {"deflate", func(w io.Writer) flushWriter { f, _ := flate.NewWriter(w, 6); return f }},
	"br":           {"br", func(w io.Writer) flushWriter { return brotli.NewWriter(w) }},
	"zstd":         {"zstd", func(w io.Writer) flushWriter { z, _ := zstd.NewWriter(w); return z }},
}

func encoded(t testing.TB, open func(io.Writer) flushWriter, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := open(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func collect(coding string, limit int64) (*Decoder, *bytes.Buffer) {
	out := new(bytes.Buffer)
	return New(coding, limit, func(p []byte) error { out.Write(p); return nil }), out
}

// TestDecodes checks that a Decoder returns the original text, however the body is split.
func TestDecodes(t *testing.T) {
	text := strings.Repeat(`{"jsonrpc":"2.0","id":7,"result":{}} `, 20)
	for name, c := range writers {
		body := encoded(t, c.open, text)
		for _, size := range []int{1, 2, 7, len(body)} {
			d, out := collect(c.coding, 0)
			for rest := body; len(rest) > 0; {
				n := min(size, len(rest))
				if m, err := d.Write(rest[:n]); err != nil || m != n {
					t.Fatalf("%s in pieces of %d: %d, %v", name, size, m, err)
				}
				rest = rest[n:]
			}
			if err := d.End(); err != nil || out.String() != text {
				t.Fatalf("%s in pieces of %d: %q, %v", name, size, out, err)
			}
			d.Stop()
		}
	}
}

// TestFlushedTextArrives checks that flushed text is decoded before any further
// bytes arrive. So an event of a stream does not wait for the next event.
func TestFlushedTextArrives(t *testing.T) {
	for name, c := range writers {
		var wire bytes.Buffer
		w := c.open(&wire)
		d, out := collect(c.coding, 0)
		for i, event := range []string{"data: one\n\n", "data: two\n\n", "data: three\n\n"} {
			if _, err := io.WriteString(w, event); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write(wire.Bytes()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wire.Reset()
			if got := out.String(); got != event {
				t.Errorf("%s: after event %d there is %q", name, i, got)
			}
			out.Reset()
		}
		if _, err := io.WriteString(w, "the last"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(wire.Bytes()); err != nil || out.String() != "the last" {
			t.Errorf("%s: at its end there is %q, %v", name, out, err)
		}
		d.Stop()
		if _, err := d.Write([]byte("x")); err == nil {
			t.Errorf("%s: it goes on after it was stopped", name)
		}
	}
}

// TestDamage checks that a Decoder returns an error for a body that is cut off,
// damaged, or followed by other bytes. An empty body is an empty text, and not an
// error.
func TestDamage(t *testing.T) {
	text := strings.Repeat("an answer of some length ", 10)
	for name, c := range writers {
		body := encoded(t, c.open, text)
		for cut := 1; cut < len(body); cut++ {
			d, _ := collect(c.coding, 0)
			_, err := d.Write(body[:cut])
			if end := d.End(); err == nil && end == nil {
				t.Errorf("%s, cut after %d of %d bytes: no error", name, cut, len(body))
			}
			d.Stop()
		}
		d, _ := collect(c.coding, 0)
		if _, err := d.Write([]byte(text)); err == nil && d.End() == nil {
			t.Errorf("%s: a text that is not encoded is taken for one that is", name)
		}
		d.Stop()
		d, _ = collect(c.coding, 0)
		_, err := d.Write(body)
		_, after := d.Write([]byte("more"))
		if end := d.End(); err == nil && after == nil && end == nil {
			t.Errorf("%s: something follows, and there is no error", name)
		}
		d.Stop()
		d, out := collect(c.coding, 0)
		if err := d.End(); err != nil || out.Len() != 0 {
			t.Errorf("%s: of no bytes comes %q, %v", name, out, err)
		}
		d.Stop()
	}
	for _, coding := range []string{"", "identity", "compress", "spite", "gzip, br"} {
		if New(coding, 0, nil) != nil {
			t.Errorf("%q is decoded", coding)
		}
	}
}

// TestBombs checks that a small body cannot become a huge text, and that no text exceeds
// its limit. A Decoder may pass on at most one piece beyond the bound.
func TestBombs(t *testing.T) {
	zeros := strings.Repeat("\x00", 8<<20)
	for name, c := range writers {
		body := encoded(t, c.open, zeros)
		for limit, want := range map[int64]error{0: ErrRatio, 1 << 19: ErrTooLong} {
			d, out := collect(c.coding, limit)
			if _, err := d.Write(body); !errors.Is(err, want) {
				t.Errorf("%s, limit %d: %v, want %v", name, limit, err, want)
			}
			if _, err := d.Write(body); !errors.Is(err, want) {
				t.Errorf("%s, limit %d: it goes on: %v", name, limit, err)
			}
			if most := Allowance + MaxRatio*len(body) + piece; out.Len() > most {
				t.Errorf("%s, limit %d: %d bytes were handed on, of at most %d", name, limit, out.Len(), most)
			}
			d.Stop()
		}
	}
}

// TestSinkEnds checks that an error from the sink ends the decoding and is returned.
func TestSinkEnds(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range writers {
		d := New(c.coding, 0, func([]byte) error { return gone })
		_, err := d.Write(encoded(t, c.open, "text"))
		if end := d.End(); !errors.Is(err, gone) && !errors.Is(end, gone) {
			t.Errorf("%s: %v, %v", name, err, end)
		}
		d.Stop()
	}
}

// FuzzDecode checks that no body makes a Decoder panic, hang, or exceed its bounds.
func FuzzDecode(f *testing.F) {
	names := []string{"gzip", "deflate", "br", "zstd"}
	for _, c := range writers {
		for i := range names {
			f.Add(byte(i), encoded(f, c.open, strings.Repeat("a text ", 50)), 3)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte, at int) {
		var n int
		d := New(names[int(which)%len(names)], 4<<20, func(p []byte) error { n += len(p); return nil })
		defer d.Stop()
		at = min(max(at, 0), len(body))
		_, _ = d.Write(body[:at])
		_, _ = d.Write(body[at:])
		_ = d.End()
		if n > max(Allowance, MaxRatio*(len(body)+1))+piece {
			t.Fatalf("%d bytes came of %d", n, len(body))
		}
	})
}
