package integration

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
)

var distinct = flag.Int("distinct", 1000, "how many tokens, tools, sessions and accounts TestCardinality uses")

// TestCardinality checks that clients cannot add series to the metrics: after some
// requests of each kind, more requests with new tokens, tools, sessions and accounts do
// not change the number of series. A scrape takes less than 50 ms, although the store
// has all these accounts.
func TestCardinality(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		id, _, ok := strings.Cut(strings.TrimPrefix(string(body), `{"jsonrpc":"2.0","id":`), ",")
		if err != nil || !ok {
			http.Error(w, "not a request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"ok"}]}}`, id)
	}))
	t.Cleanup(upstream.Close)
	g := binaries.StartGateway(t, strings.Replace(
		harness.Site(upstream.URL, "server weather", "provider acme", "price get_forecast 0.01", "unpriced free"), "level DEBUG", "level ERROR", 1))
	g.Stop(t)
	secrets := createKeys(t, filepath.Join(g.Data(), "farebox.db"), *distinct)
	g.Start(t)

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(client.CloseIdleConnections)
	requests := []func(i int) (want int, r *http.Request, secret string){
		func(i int) (int, *http.Request, string) { // each request has a new token
			return http.StatusUnauthorized, toolRequest(t, g, i, "get_forecast"), fmt.Sprintf("sk_live_%064x", i)
		},
		func(i int) (int, *http.Request, string) { // each request has a new account, key and tool
			return http.StatusOK, toolRequest(t, g, i, fmt.Sprintf("tool_%d", i)), secrets[i]
		},
		func(i int) (int, *http.Request, string) { // each request has a new session
			r := toolRequest(t, g, i, "get_forecast")
			r.Header.Set("Mcp-Session-Id", fmt.Sprintf("session-%d", i))
			return http.StatusNotFound, r, secrets[i]
		},
	}
	var answered [3]atomic.Int64
	send := func(from, to int) {
		next := atomic.Int64{}
		next.Store(int64(from) - 1)
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for i := int(next.Add(1)); i < to; i = int(next.Add(1)) {
					for kind, make := range requests {
						want, r, secret := make(i)
						answer, err := g.Send(client, secret, r)
						if err != nil {
							t.Error(err)
							return
						}
						if answer.Status == want {
							answered[kind].Add(1)
						}
					}
				}
			})
		}
		workers.Wait()
	}
	few := min(200, *distinct/2) // with this number of unknown tokens, some are already refused as a flood
	send(0, few)
	g.Metrics(t) // adds Caddy's own series for requests of the metrics
	before := g.Metrics(t)
	send(few, *distinct)
	after := g.Metrics(t)
	if len(after) != len(before) {
		for name := range after {
			if _, known := before[name]; !known {
				t.Errorf("new: %s", name)
			}
		}
	}
	for kind, wants := range []int{1, *distinct, *distinct} { // most unknown tokens are refused as a flood, without a lookup
		if n := answered[kind].Load(); n < int64(wants) {
			t.Errorf("%d answers to requests of kind %d, want %d", n, kind, wants)
		}
	}
	if took := scrapeTime(t, g); took > 50*time.Millisecond && !harness.RaceDetector {
		t.Errorf("a scrape of %d samples takes %v", len(after), took)
	} else {
		t.Logf("%d samples, scraped in %v", len(after), took)
	}
}

func toolRequest(t *testing.T, g *harness.Gateway, id int, tool string) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(id, tool, "{}")))
	if err != nil {
		t.Error(err)
	}
	return r
}

// createKeys creates accounts in the store, each with a key, and returns the secrets.
func createKeys(t *testing.T, file string, n int) []string {
	t.Helper()
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	secrets := make([]string, n)
	for i := range secrets {
		now := clock.Now().UTC().Truncate(time.Microsecond)
		audit := ledger.Audit{At: now, Actor: "test", Action: "key.create", Target: "the test"}
		account := ledger.Account{ID: id.New("acct_"), Name: fmt.Sprintf("agent%d", i), CreatedAt: now}
		secrets[i] = keys.DefaultFormat.Mint(keys.Agent, keys.Live)
		key := keys.Key{ID: id.New("key_"), Account: account.ID, Kind: keys.Agent, Environment: keys.Live, CreatedAt: now, Digest: keys.DigestOf(secrets[i]), Hint: keys.DefaultFormat.Hint(secrets[i])}
		key.Lineage = key.ID
		if err := store.CreateAccount(t.Context(), account, audit); err != nil {
			t.Fatal(err)
		}
		if err := store.CreateKey(t.Context(), key, audit); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return secrets
}

// scrapeTime returns the median time of a scrape.
func scrapeTime(t *testing.T, g *harness.Gateway) time.Duration {
	t.Helper()
	times := make([]time.Duration, 11)
	for i := range times {
		began := clock.Now()
		resp, err := http.Get("http://" + g.Admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		times[i] = clock.Since(began)
	}
	slices.Sort(times)
	return times[len(times)/2]
}
