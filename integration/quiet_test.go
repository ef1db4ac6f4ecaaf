package integration

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

// quiet is the time during which a stream carries nothing. It is longer than a
// minute, after which proxies and servers close idle streams by default.
const quiet = 65 * time.Second

// TestQuietStreamsLive checks that a response that carries nothing for more than a
// minute stays open. The test has a stream opened by GET, the stream of a paid call,
// and a paid call answered in JSON. The head of a stream does not wait for its first
// event.
func TestQuietStreamsLive(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, answer := r.Method == http.MethodGet, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
		if r.Method == http.MethodPost {
			stream, answer = r.URL.Query().Has("stream"), `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
		}
		if stream {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			answer = "data: " + answer + "\n\n"
		} else {
			w.Header().Set("Content-Type", "application/json")
		}
		select {
		case <-time.After(quiet):
			fmt.Fprint(w, answer)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	g := binaries.StartGateway(t, harness.Site(upstream.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")

	listen := func(method, query, body string) error {
		ctx, cancel := context.WithTimeout(t.Context(), quiet+harness.Patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, g.Endpoint()+query, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+key.Secret)
		req.Header.Set("Accept", "application/json, text/event-stream")
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/json")
		} else {
			req.Header.Set("Accept", "text/event-stream")
		}
		began := clock.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("%s%s: %w", method, query, err)
		}
		defer resp.Body.Close()
		if head := clock.Since(began); query != "?json" && head > quiet/2 {
			return fmt.Errorf("%s%s: the head came after %v", method, query, head)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('}')
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(line, "jsonrpc") {
			return fmt.Errorf("%s%s: %d, %q, %w", method, query, resp.StatusCode, line, err)
		}
		return nil
	}
	var streams errgroup.Group
	streams.Go(func() error { return listen(http.MethodGet, "", "") })
	streams.Go(func() error {
		return listen(http.MethodPost, "?stream", harness.ToolCall(1, "get_forecast", `{}`))
	})
	streams.Go(func() error {
		return listen(http.MethodPost, "?json", harness.ToolCall(1, "get_forecast", `{}`))
	})
	if err := streams.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(g.Charges(t, "alice")); n != 2 {
		t.Errorf("%d charges for two paid calls", n)
	}
}
