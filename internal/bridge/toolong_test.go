package bridge

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestIDOfLongLine checks that the refusal of a line that is too long has the id of its
// request, and none that could belong to another request of the client.
func TestIDOfLongLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for start, want := range map[string]mcp.ID{
		`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"a":"` + long: mcp.IntID(7),
		`{"method":"tools/call","id":"a","params":["` + long:                   mcp.StringID("a"),
		`{"id":7,"params":"` + long:                                            mcp.IntID(7),
		`{"id":7,"result":"` + long:                                            {},
		`{"id":7,"error":{"method":"` + long:                                   {},
		`{"id":7,"id":8,"method":"x","params":"` + long:                        {},
		`{"params":{"id":7,"x":"` + long:                                       {},
		`{"id":{"id":7},"method":"x","params":"` + long:                        {},
		`{"id":7,"x":"` + long:                                                 {},
		`[{"id":7,"method":"x"},` + long:                                       {},
		long:                                                                   {},
		"":                                                                     {},
	} {
		if got := idIn([]byte(start[:min(len(start), 4096)])); got != want {
			t.Errorf("%.60s: %v, want %v", start, got, want)
		}
	}
}

// TestMessagesArrive checks that a notification and a response of the client are sent
// again while the server or a proxy refuses them for a time, in their order, and that a
// refusal for good is not repeated.
func TestMessagesArrive(t *testing.T) {
	t.Parallel()
	var s *server
	s = newServer(t, func(w http.ResponseWriter, r *request) {
		tries := len(s.find(func(other *request) bool { return other.Body == r.Body }))
		switch {
		case strings.Contains(r.Body, "wrong"):
			w.WriteHeader(http.StatusBadRequest)
		case tries == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case tries == 2:
			breakOff(w)
		case tries == 3:
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	c := start(t, s.URL, nil)
	c.send(t, `{"jsonrpc":"2.0","method":"wrong"}`, `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","method":"last"}`)
	s.await(t, 4, func(r *request) bool { return strings.Contains(r.Body, "last") })
	c.finish(t)
	got := make([]string, 0, len(s.requests))
	for _, r := range s.requests {
		got = append(got, r.Body)
	}
	if want := 1 + 4 + 4; len(got) != want || !strings.Contains(got[0], "wrong") || !strings.Contains(got[4], "result") {
		t.Errorf("%d requests: %s", len(got), got)
	}
	if notes := c.notes.String(); strings.Count(notes, "farebox connect:") != 1 || !strings.Contains(notes, "refused with the status 400") {
		t.Errorf("notes: %s", notes)
	}
}

// TestLostMessageIsNoted checks that the repetition ends, and that people learn that the
// message is lost.
func TestLostMessageIsNoted(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *request) { w.WriteHeader(http.StatusServiceUnavailable) })
	c := start(t, s.URL, func(o *Options) { o.patience.unsent = 50 * time.Millisecond })
	c.send(t, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
	c.finish(t)
	if want := "list_changed was not delivered: status 503"; !strings.Contains(c.notes.String(), want) {
		t.Errorf("notes: %s", c.notes)
	}
}
