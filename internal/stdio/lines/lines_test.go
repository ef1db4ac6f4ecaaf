package lines

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestReader: lines are read whole, however they arrive; a line that is too long costs
// only itself; a line without an end is no message.
func TestReader(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for _, c := range []struct {
		name, input string
		max         int
		want        []string
		end         error
	}{
		{"lines", "{}\n[1]\n", 10, []string{"{}", "[1]"}, io.EOF},
		{"CRLF and blank lines", "{}\r\n\n  \n\r\n2\r\n", 10, []string{"{}", "2"}, io.EOF},
		{"nothing", "", 10, nil, io.EOF},
		{"half a line", "{}\n{\"a\":", 10, []string{"{}"}, io.ErrUnexpectedEOF},
		{"the longest line", "12345\r\n12345\n1\n", 5, []string{"12345", "12345", "1"}, io.EOF},
		{"too long", "1\n123456\n123456\r\n2\n", 5, []string{"1", "too long: 6", "too long: 6", "2"}, io.EOF},
		{"longer than the buffer", long + "\n2\n", 70 << 10, []string{long, "2"}, io.EOF},
		{"too long for the buffer, too", long + "\n2\n", 70<<10 - 1, []string{"too long: 71680", "2"}, io.EOF},
		{"a long line without an end", long, 1 << 20, nil, io.ErrUnexpectedEOF},
	} {
		for how, input := range map[string]io.Reader{
			"at once":      strings.NewReader(c.input),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.input)),
			"in halves":    iotest.HalfReader(strings.NewReader(c.input)),
		} {
			t.Run(c.name+" "+how, func(t *testing.T) {
				r := NewReader(input, c.max)
				var got []string
				for {
					line, err := r.Next()
					var tooLong *TooLongError
					switch {
					case errors.As(err, &tooLong):
						if tooLong.Max != c.max {
							t.Errorf("max %d, want %d", tooLong.Max, c.max)
						}
						line = []byte("too long: " + strings.Fields(err.Error())[3])
					case err != nil:
						if !errors.Is(err, c.end) {
							t.Errorf("ended by %v, want %v", err, c.end)
						}
						if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
							t.Errorf("read %.200q, want %.200q", got, c.want)
						}
						return
					}
					got = append(got, string(line))
				}
			})
		}
	}
}

// TestWriter: each message is one line and one write. Text that would be read as several
// messages is refused.
func TestWriter(t *testing.T) {
	var out bytes.Buffer
	writes := 0
	w := NewWriter(writerFunc(func(p []byte) (int, error) { writes++; return out.Write(p) }))
	for _, m := range []string{`{"a":1}`, "{\n  \"a\": \"b\\n\"\r\n}"} {
		if err := w.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "{\"a\":1}\n{\"a\":\"b\\n\"}\n"; got != want || writes != 2 {
		t.Errorf("%d writes of %q, want 2 of %q", writes, got, want)
	}
	if err := w.Write([]byte("a\nb")); err == nil || writes != 2 {
		t.Errorf("text with a line break: %v, %d writes", err, writes)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
