package mcp

import (
	"slices"
	"strings"
	"testing"
)

const (
	answerJSON  = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	passingJSON = `{"jsonrpc":"2.0","method":"notifications/progress"}`
)

// cut is one event of a stream with its class.
type cut struct {
	bytes string
	class Class
	done  bool
}

// cuts scans a stream in pieces and returns the events. Each call of split() returns
// the size of the next piece. If the last event is unfinished, its done field is false.
func cuts(stream string, split func() int) []cut {
	e := NewEventScanner(IntID(7))
	var out []cut
	var event strings.Builder
	for len(stream) > 0 {
		piece := []byte(stream[:max(1, min(split(), len(stream)))])
		stream = stream[len(piece):]
		for len(piece) > 0 {
			n, done := e.Scan(piece)
			event.Write(piece[:n])
			piece = piece[n:]
			if done {
				out = append(out, cut{event.String(), e.Verdict().Class, true})
				event.Reset()
			}
		}
	}
	if e.Pending() != (event.Len() > 0) {
		panic("Pending does not say whether bytes are pending")
	}
	if e.Pending() {
		out = append(out, cut{event.String(), e.Verdict().Class, false})
	}
	return out
}

// every returns a split function for pieces of n bytes.
func every(n int) func() int { return func() int { return n } }

// TestEventScanner checks that a stream is cut into the right events, each with the
// right class, wherever the stream is split.
func TestEventScanner(t *testing.T) {
	pretty := "{\"jsonrpc\":\"2.0\",\ndata: \"id\":7,\ndata:\"result\":{}}"
	tests := []struct {
		name, stream string
		want         []cut
	}{
		{"nothing", "", nil},
		{"LF", "data: " + answerJSON + "\n\n", []cut{{"data: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"CRLF", "data: " + answerJSON + "\r\n\r\n", []cut{
			{"data: " + answerJSON + "\r\n\r", ClassAnswer, true}, {"\n", ClassEmpty, false}}},
		{"CR", "data: " + answerJSON + "\r\r", []cut{{"data: " + answerJSON + "\r\r", ClassAnswer, true}}},
		{"two by CRLF", "data: " + passingJSON + "\r\n\r\ndata: " + answerJSON + "\r\n\r\n", []cut{
			{"data: " + passingJSON + "\r\n\r", ClassPassing, true},
			{"\ndata: " + answerJSON + "\r\n\r", ClassAnswer, true}, {"\n", ClassEmpty, false}}},
		{"two by CR", "data: " + passingJSON + "\r\rdata: " + answerJSON + "\r\r", []cut{
			{"data: " + passingJSON + "\r\r", ClassPassing, true}, {"data: " + answerJSON + "\r\r", ClassAnswer, true}}},
		{"CR then LF LF", "data: x\r\r\n\ndata: " + answerJSON + "\n\n", []cut{
			{"data: x\r\r", ClassMalformed, true}, {"\n\n", ClassEmpty, true}, {"data: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"all fields", "event: message\nid: 1\nretry: 5\ndata: " + answerJSON + "\n\n", []cut{
			{"event: message\nid: 1\nretry: 5\ndata: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"all fields by CR", "event: message\rid: 1\rdata: " + answerJSON + "\rretry: 5\r\r", []cut{
			{"event: message\rid: 1\rdata: " + answerJSON + "\rretry: 5\r\r", ClassAnswer, true}}},
		{"another event type", "event: other\ndata: " + answerJSON + "\n\n", []cut{{"event: other\ndata: " + answerJSON + "\n\n", ClassMalformed, true}}},
		{"another event type of no answer", "event: other\ndata: " + passingJSON + "\n\n", []cut{{"event: other\ndata: " + passingJSON + "\n\n", ClassPassing, true}}},
		{"the type that clients read", "event:message\r\ndata: " + answerJSON + "\r\n\r\n", []cut{{"event:message\r\ndata: " + answerJSON + "\r\n\r", ClassAnswer, true}, {"\n", ClassEmpty, false}}},
		{"the last type counts", "event: message\nevent:  message\ndata: " + answerJSON + "\n\n", []cut{{"event: message\nevent:  message\ndata: " + answerJSON + "\n\n", ClassMalformed, true}}},
		{"a type of the event before", "event: other\n\ndata: " + answerJSON + "\n\n", []cut{{"event: other\n\n", ClassEmpty, true}, {"data: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"many data lines", "data: " + pretty + "\n\n", []cut{{"data: " + pretty + "\n\n", ClassAnswer, true}}},
		{"data around another field", "data: {\"jsonrpc\":\"2.0\",\nid: 5\ndata: \"method\":\"x\"}\n\n", []cut{
			{"data: {\"jsonrpc\":\"2.0\",\nid: 5\ndata: \"method\":\"x\"}\n\n", ClassPassing, true}}},
		{"a line end is no way to join strings", "data: {\"jsonrpc\":\"2.0\",\"method\":\"a\ndata: b\"}\n\n", []cut{
			{"data: {\"jsonrpc\":\"2.0\",\"method\":\"a\ndata: b\"}\n\n", ClassMalformed, true}}},
		{"two messages in one event", "data: " + passingJSON + "\ndata: " + answerJSON + "\n\n", []cut{
			{"data: " + passingJSON + "\ndata: " + answerJSON + "\n\n", ClassMalformed, true}}},
		{"no space", "data:" + answerJSON + "\n\n", []cut{{"data:" + answerJSON + "\n\n", ClassAnswer, true}}},
		{"two spaces", "data:  " + answerJSON + "\n\n", []cut{{"data:  " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"data without colon", "data\ndata: " + answerJSON + "\ndata\n\n", []cut{{"data\ndata: " + answerJSON + "\ndata\n\n", ClassAnswer, true}}},
		{"priming event", "id: 0\ndata: \n\n", []cut{{"id: 0\ndata: \n\n", ClassEmpty, true}}},
		{"no data", "id: 0\nretry: 1\n\n", []cut{{"id: 0\nretry: 1\n\n", ClassEmpty, true}}},
		{"comment", ": keep alive data: {}\n\n", []cut{{": keep alive data: {}\n\n", ClassEmpty, true}}},
		{"comment within", "data: " + answerJSON + "\n:\n: x\n\n", []cut{{"data: " + answerJSON + "\n:\n: x\n\n", ClassAnswer, true}}},
		{"blank lines", "\n\n\r", []cut{{"\n", ClassEmpty, true}, {"\n", ClassEmpty, true}, {"\r", ClassEmpty, true}}},
		{"byte order mark", "\uFEFFdata: " + answerJSON + "\n\n", []cut{{"\uFEFFdata: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"byte order mark and blank", "\uFEFF\ndata: " + answerJSON + "\n\n", []cut{
			{"\uFEFF\n", ClassEmpty, true}, {"data: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"byte order mark and comment", "\uFEFF:\n\n", []cut{{"\uFEFF:\n\n", ClassEmpty, true}}},
		{"byte order mark only", "\uFEFF", []cut{{"\uFEFF", ClassEmpty, false}}},
		{"unknown fields", "foo: " + answerJSON + "\nbar\nX-y.2_z: {\n\n", []cut{
			{"foo: " + answerJSON + "\nbar\nX-y.2_z: {\n\n", ClassEmpty, true}}},
		{"an unknown field beside data", "foo: bar\ndata: " + answerJSON + "\n\n", []cut{{"foo: bar\ndata: " + answerJSON + "\n\n", ClassAnswer, true}}},
		{"an unknown field of 500 bytes", strings.Repeat("x", 500) + ": 1\n\n", []cut{{strings.Repeat("x", 500) + ": 1\n\n", ClassMalformed, true}}},
		{"a line that names no field", "<p>: 1\n\n", []cut{{"<p>: 1\n\n", ClassMalformed, true}}},
		{"a foreign answer of another type", "event: other\ndata: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n\n", []cut{
			{"event: other\ndata: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n\n", ClassMalformed, true}}},
		{"a JSON body under the wrong type", answerJSON + "\n\n", []cut{{answerJSON + "\n\n", ClassMalformed, true}}},
		{"unfinished, no line end", "data: " + answerJSON, []cut{{"data: " + answerJSON, ClassAnswer, false}}},
		{"unfinished, line end", "data: " + answerJSON + "\n", []cut{{"data: " + answerJSON + "\n", ClassAnswer, false}}},
		{"unfinished, CR", "data: " + answerJSON + "\r", []cut{{"data: " + answerJSON + "\r", ClassAnswer, false}}},
		{"unfinished in the message", "data: " + answerJSON[:20], []cut{{"data: " + answerJSON[:20], ClassMalformed, false}}},
		{"unfinished name", "dat", []cut{{"dat", ClassEmpty, false}}},
		{"batch", "data: [" + answerJSON + "]\n\n", []cut{{"data: [" + answerJSON + "]\n\n", ClassMalformed, true}}},
		{"foreign", "data: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n\n", []cut{{"data: {\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n\n", ClassForeign, true}}},
		{"separators in strings", "data: {\"jsonrpc\":\"2.0\",\"method\":\"a\u2028b\u0085\"}\n\n", []cut{
			{"data: {\"jsonrpc\":\"2.0\",\"method\":\"a\u2028b\u0085\"}\n\n", ClassPassing, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1 << 20, 1, 2, 3, 7, 11} {
				if got := cuts(tt.stream, every(size)); !slices.Equal(got, tt.want) {
					t.Fatalf("pieces of %d:\n%+v, want\n%+v", size, got, tt.want)
				}
			}
		})
	}
}

// TestEventScannerRefusesWhatClientsReadDifferently checks that an event is malformed
// if clients read one of its lines differently, so that no line can carry a message
// past the scanner to a client. Some clients end lines at other places than the
// scanner. The clients go-sdk and mcp-go end lines only at LF, and then trim each line.
// Other clients split at every line break that Unicode knows. Still other clients are
// lax about field names.
func TestEventScannerRefusesWhatClientsReadDifferently(t *testing.T) {
	tests := map[string]string{
		"the data goes on after CR":            "data:\r" + answerJSON + "\n\n",
		"after CR and blank lines":             "data:\r\r\r" + answerJSON + "\n\n",
		"after CR at the end of the stream":    "data:\r" + answerJSON,
		"a rest hidden as a field":             "data: {\"jsonrpc\":\"2.0\",\r\"id\":7,\"result\":{},\ndata: \"method\":\"x\"}\n\n",
		"a rest hidden as an unknown field":    "data: [1,\rtrue\ndata: ]\n\n",
		"a rest hidden as a comment":           "data: {\"jsonrpc\":\"2.0\",\"method\"\r: 1,\"id\":7,\"result\":{},\"x\"\ndata: :\"y\"}\n\n",
		"Data":                                 "Data: " + answerJSON + "\n\n",
		"data with a space before":             " data: " + answerJSON + "\n\n",
		"data with a space after":              "data : " + answerJSON + "\n\n",
		"data with 1000 spaces after":          "data" + strings.Repeat(" ", 1000) + ": " + answerJSON + "\n\n",
		"byte order mark within the stream":    "\n\uFEFFdata: " + answerJSON + "\n\n",
		"two byte order marks":                 "\uFEFF\uFEFFdata: " + answerJSON + "\n\n",
		"NUL in the name":                      "data\x00: " + answerJSON + "\n\n",
		"line separator in a comment":          ": x\u2028data: " + answerJSON + "\n\n",
		"paragraph separator in an id":         "id: x\u2029data: " + answerJSON + "\n\n",
		"next line in an event type":           "event: x\u0085data: " + answerJSON + "\n\n",
		"vertical tab in a name":               "x\vdata: " + answerJSON + "\n\n",
		"form feed in an unknown field":        "x: \fdata: " + answerJSON + "\n\n",
		"file separator in retry":              "retry: \x1cdata: " + answerJSON + "\n\n",
		"group separator after a long name":    strings.Repeat("x", 600) + "\x1ddata: " + answerJSON + "\n\n",
		"record separator at the line's start": "\x1edata: " + answerJSON + "\n\n",
	}
	for name, stream := range tests {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 20, 1, 2, 3, 7} {
				got := cuts(stream, every(size))
				if !slices.ContainsFunc(got, func(c cut) bool { return c.class == ClassMalformed }) {
					t.Fatalf("pieces of %d: %+v", size, got)
				}
			}
		})
	}
}

// TestEventScannerTakesHarmlessLoneCR checks that the scanner accepts streams that end
// their lines with CR alone, even with comments between the messages.
func TestEventScannerTakesHarmlessLoneCR(t *testing.T) {
	for _, stream := range []string{
		"data: " + answerJSON + "\r\r: ping\r\rdata: " + answerJSON + "\r\r",
		"id: 1\rdata:\r\r: ping\r\r",
		"event: bar\r\rdata: " + answerJSON + "\r\r",
	} {
		for _, c := range cuts(stream, every(1)) {
			if c.class != ClassAnswer && c.class != ClassEmpty {
				t.Errorf("%q: %q is %v", stream, c.bytes, c.class)
			}
		}
	}
}

// TestEventScannerEndsAtOnce checks that an event that ends in CR is complete
// without another byte, and that a LF after the CR does not begin a line.
func TestEventScannerEndsAtOnce(t *testing.T) {
	e := NewEventScanner(IntID(7))
	if n, done := e.Scan([]byte("data: " + answerJSON + "\r\n\r")); !done || n != len(answerJSON)+9 {
		t.Fatalf("%d, %v", n, done)
	}
	if v := e.Verdict(); v.Class != ClassAnswer || v.Outcome != OutcomeResult || e.Pending() {
		t.Fatalf("%+v, pending %v", v, e.Pending())
	}
	if n, done := e.Scan([]byte("\n")); done || n != 1 || !e.Pending() {
		t.Fatalf("the LF: %d, %v, pending %v", n, done, e.Pending())
	}
	if n, done := e.Scan([]byte("\n")); !done || n != 1 || e.Verdict().Class != ClassEmpty {
		t.Fatalf("a blank line: %d, %v, %+v", n, done, e.Verdict())
	}
	if n, done := e.Scan(nil); done || n != 0 || e.Pending() {
		t.Fatalf("no bytes: %d, %v, pending %v", n, done, e.Pending())
	}
}

// TestEventScannerMemoryIsBounded checks that a scanner does not allocate, even for an
// event with very long lines.
func TestEventScannerMemoryIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	stream := []byte("id: " + long + "\n: " + long + "\ndata: {\"" + long + "\":1,\ndata: \"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n")
	e := NewEventScanner(IntID(7))
	got := testing.AllocsPerRun(3, func() {
		if n, done := e.Scan(stream); !done || n != len(stream) || e.Verdict().Class != ClassAnswer {
			t.Fatal(n, done, e.Verdict())
		}
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}
