package integration

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestTooOftenHoldsNothing checks that the gateway refuses a request over the rate
// limit without waiting for a body that is announced as large. The gateway reads
// no more of such a request than of a request with an unknown key. Otherwise a key
// over its rate could send many large bodies slowly, and fill the memory that all
// bodies share.
func TestTooOftenHoldsNothing(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "unpriced free", "rate_limit 1/24h"))
	_, key := g.NewAgent(t, "alice", "1.00")
	if got, err := ask(g, key.Secret, harness.ToolCall(1, "list_cities", `{}`)); err != nil || got.code != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	large := harness.ToolCall(2, "list_cities", `{"x":"`+strings.Repeat("x", 100<<10)+`"}`)
	for name, body := range map[string]func() (io.Reader, int){
		"a large body that does not end": func() (io.Reader, int) { return endless(large), 1 << 20 },
		"a small one that does not end":  func() (io.Reader, int) { return endless(large[:100]), 1 << 20 },
		"a large body":                   func() (io.Reader, int) { return strings.NewReader(large), len(large) },
	} {
		send := func() (*http.Response, error) {
			content, length := body()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint(), content)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = int64(length)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			r.Header.Set("Authorization", "Bearer "+key.Secret)
			return fresh.Do(r)
		}
		began := clock.Now()
		resp, err := send()
		// The gateway closes the connection half a second after its response. A client
		// that still writes then loses the response if the machine is busy.
		for range 3 {
			if !errors.Is(err, syscall.ECONNRESET) {
				break
			}
			resp, err = send()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := readLimited(resp)
		if took := clock.Since(began); err != nil || got.status != http.StatusTooManyRequests || got.code != "RATE_LIMITED" || got.header.Get("Retry-After") == "" || took > 20*time.Second {
			t.Errorf("%s: after %s: %d %s, %v", name, took, got.status, got.body, err)
		}
	}
	got, err := ask(g, key.Secret, harness.ToolCall(3, "list_cities", `{"x":"`+strings.Repeat("x", 50<<10)+`"}`))
	if err != nil || got.status != http.StatusOK || got.code != "RATE_LIMITED" || !strings.Contains(got.body, `"id":3`) {
		t.Errorf("a body of a usual size: %d %s, %v", got.status, got.body, err)
	}
}

// endless returns a body that consists of the given text and then stays open until
// the request ends.
func endless(text string) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, text)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			w.CloseWithError(err)
		}
	}()
	return r
}
