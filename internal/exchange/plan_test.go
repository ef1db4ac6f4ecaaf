package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/share"
)

// TestEveryPlan checks which causes end an exchange of each kind, fresh and resumed, in
// each protocol era (with and without sessions). The test has a table of the expected
// causes. An exchange that is not in the table is refused.
func TestEveryPlan(t *testing.T) {
	want := map[string]string{
		"relay fresh session": "leave", "relay fresh stateless": "leave",
		"free fresh session": "leave limit", "free fresh stateless": "leave limit", "free resumed session": "leave limit key",
		"subscription fresh stateless": "leave key",
		"paid fresh session":           "limit", "paid fresh stateless": "leave limit", "paid resumed session": "leave limit key",
		"task fresh session": "leave limit", "task fresh stateless": "leave limit", "task resumed session": "leave limit key",
		"listener fresh session": "leave key", "listener resumed session": "leave key",
	}
	names := map[kind]string{relay: "relay", free: "free", subscription: "subscription", paid: "paid", task: "task", listener: "listener", kinds: "unknown"}
	found := 0
	for k, name := range names {
		for _, isResumed := range []bool{false, true} {
			for _, era := range []mcp.Era{0, mcp.EraSession, mcp.EraStateless, mcp.EraStateless + 1} {
				from := "fresh"
				if isResumed {
					from = "resumed"
				}
				way := fmt.Sprintf("%s %s %s", name, from, era)
				p, refusal := newPlan(k, isResumed, era)
				var causes []string
				for i, text := range []string{"leave", "limit", "key"} {
					if p.ends&(1<<i) != 0 {
						causes = append(causes, text)
					}
				}
				if got := strings.Join(causes, " "); got != want[way] || (refusal != nil) != (want[way] == "") {
					t.Errorf("%s ends by %q, %v; want %q", way, got, refusal, want[way])
				}
				if refusal == nil {
					found++
				}
			}
		}
	}
	if found != len(want) {
		t.Errorf("%d plans exist; want %d", found, len(want))
	}
}

// books is a Ledger that allows everything.
type books struct {
	unwatched int // how many watches of a caller have ended
	gate.Ledger
	open, captured int
}

func (b *books) Reserve(context.Context, string, ledger.Order, ledger.Terms) (ledger.Reservation, error) {
	b.open++
	return ledger.Reservation{}, nil
}

func (b *books) Renew(context.Context, string) error { return nil }

func (b *books) Capture(_ context.Context, id string, _ []byte) (ledger.Charge, ledger.Balance, error) {
	b.open--
	b.captured++
	return ledger.Charge{ID: id}, ledger.Balance{}, nil
}

func (b *books) Release(context.Context, string) error {
	b.open--
	return nil
}

// quiet is a Metrics and an Abandonments that counts nothing.
type quiet struct{}

func (quiet) Reserved(time.Duration)    {}
func (quiet) Captured(time.Duration)    {}
func (quiet) Charge(gate.Ended)         {}
func (quiet) Signed()                   {}
func (quiet) Unjudged(string)           {}
func (quiet) Note(string)               {}
func (quiet) Forgive(string)            {}
func (quiet) Wait(string) time.Duration { return 0 }

// answering is a next handler that answers requests and records facts about their
// contexts.
type answering struct {
	status int
	body   string
	leave  context.CancelFunc // makes the client leave during the request, unless nil

	served, limited, outlives bool
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	a.served = true
	_, a.limited = r.Context().Deadline()
	if a.leave != nil {
		a.leave()
		a.outlives = r.Context().Err() == nil
	}
	switch {
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
	case a.body != "":
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.status)
	_, err := w.Write([]byte(a.body))
	return err
}

// pricedSite returns a site and the site's ledger. The site has the paid tool "paid"
// and the free tool "free", and admits the key.
func pricedSite(t *testing.T, key *keys.Key) (*Site, *books) {
	t.Helper()
	catalogue, err := keys.NewCatalogue(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := gate.NewRights(catalogue, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "paid", Amount: 10_000}, {Pattern: "free"}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	site, money := newSite(), new(books)
	site.Gate = gate.New(gate.Policy{Server: "weather", Secrets: &keys.DefaultFormat, Prices: book, Rights: rights, MaxCall: time.Hour}, gate.Deps{
		Keys: &onlyKey{key}, Ledger: money, Bindings: make(bindings), Abandonments: quiet{}, Metrics: quiet{}, Logger: site.Logger,
		Watch:  func(keys.Digest) gate.Watch { return gate.Watch{End: func() { money.unwatched++ }} },
		Sealer: gate.NewSealer(clock.Now, gate.SealKey{}), Now: clock.Now, NewID: func(prefix string) string { return prefix + "1" },
	})
	return site, money
}

// TestPlansAreCarriedOut checks that each fresh request is forwarded by the plan for
// its kind. The plan decides whether the call limit applies, and whether the request
// ends when the client leaves. Each request is counted once, and each paid request is
// settled.
func TestPlansAreCarriedOut(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	request := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + `}}`
	}
	for name, c := range map[string]struct {
		method, body string
		era          mcp.Era
		status       int
		answer       string
		limited      bool
		outlives     bool
		decision     string
	}{
		"a notification":       {"POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, mcp.EraSession, 202, "", false, false, "allowed"},
		"the end of a session": {"DELETE", "", mcp.EraSession, 204, "", false, false, "allowed"},
		"a free call":          {"POST", request("tools/call", `"name":"free"`), mcp.EraSession, 200, answer, true, false, "allowed"},
		"a list":               {"POST", request("tools/list", ""), mcp.EraSession, 200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`, true, false, "allowed"},
		"a paid call":          {"POST", request("tools/call", `"name":"paid"`), mcp.EraSession, 200, answer, true, true, "charged"},
		"a stateless call":     {"POST", request("tools/call", `"name":"paid"`), mcp.EraStateless, 200, answer, true, false, "charged"},
		"a failed call":        {"POST", request("tools/call", `"name":"paid"`), mcp.EraSession, 200, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`, true, true, "not_charged"},
		"a subscription":       {"POST", request("subscriptions/listen", ""), mcp.EraStateless, 200, `{"jsonrpc":"2.0","id":1,"result":{}}`, false, false, "allowed"},
		"a listener":           {"GET", "", mcp.EraSession, 200, ": hello\n\n", false, false, "allowed"},
	} {
		for _, leaves := range []bool{false, true} {
			key := &keys.Key{Account: "acct_1", Kind: keys.Agent, Environment: keys.Live}
			site, money := pricedSite(t, key)
			next := &answering{status: c.status, body: c.answer}
			ctx, cancel := context.WithCancel(t.Context())
			if leaves {
				next.leave = cancel
			}
			r := httptest.NewRequestWithContext(ctx, c.method, "/mcp", nil)
			x := New(site, new(fakeHost), next, httptest.NewRecorder(), r)
			x.caller, x.era = callerOf(site.Gate, key), c.era
			if c.body != "" {
				m, err := mcp.Decode([]byte(c.body))
				if err != nil {
					t.Fatal(err)
				}
				var refusal *gate.Refusal
				x.message = m
				if x.call, refusal = site.Gate.Admit(ctx, &x.caller, c.era, &x.message); refusal != nil {
					t.Fatalf("%s: %v", name, refusal)
				}
			}
			func() {
				defer func() {
					if p := recover(); p != nil && (!errors.Is(abort(p), http.ErrAbortHandler) || !leaves) {
						panic(p)
					}
				}()
				x.run()
			}()
			if x.call != nil {
				x.call.Close(ctx)
			}
			cancel()
			if !next.served || next.limited != c.limited || leaves && next.outlives != c.outlives {
				t.Errorf("%s, left %t: served %t, limited %t, outlives its client %t", name, leaves, next.served, next.limited, next.outlives)
			}
			if got := site.Metrics.(*fakeMetrics).decisions; !leaves && (len(got) != 1 || got[0] != c.decision) {
				t.Errorf("%s was counted as %v; want %s, once", name, got, c.decision)
			}
			if money.open != 0 || (money.captured > 0) != (c.decision == "charged") && !leaves {
				t.Errorf("%s: %d open, %d captured", name, money.open, money.captured)
			}
		}
	}
}

// TestRefusedStreamIsCountedOnce checks a stream for which the budget for streams
// has no room. The stream is refused, and it is counted only as refused.
func TestRefusedStreamIsCountedOnce(t *testing.T) {
	key := &keys.Key{Account: "acct_1", Kind: keys.Agent, Environment: keys.Live}
	site, _ := pricedSite(t, key)
	site.Shares.Streams = share.New(0, nil)
	site.Logger = slog.New(slog.DiscardHandler)
	next := &answering{status: 204}
	x := New(site, new(fakeHost), next, httptest.NewRecorder(), httptest.NewRequest("GET", "/mcp", nil))
	x.caller, x.era = callerOf(site.Gate, key), mcp.EraSession
	x.run()
	got := site.Metrics.(*fakeMetrics).decisions
	if next.served || len(got) != 1 || got[0] == "allowed" {
		t.Errorf("served %t, counted as %v", next.served, got)
	}
}

// TestResumedPlansAreCarriedOut checks that the rest of a response is fetched within
// the call limit. The key's changes are watched until the end of the stream. A paid
// call that was not captured yet is captured once, and a free call is not.
func TestResumedPlansAreCarriedOut(t *testing.T) {
	for tool, decision := range map[string]string{"free": "allowed", "paid": "charged"} {
		key := &keys.Key{Account: "acct_1", Kind: keys.Agent, Environment: keys.Live}
		site, money := pricedSite(t, key)
		m, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`))
		if err != nil {
			t.Fatal(err)
		}
		caller := callerOf(site.Gate, key)
		call, refusal := site.Gate.Admit(t.Context(), &caller, mcp.EraSession, &m)
		if refusal != nil {
			t.Fatal(refusal)
		}
		ticket := call.Ticket(&m)
		call.Suspend() // as if the first stream of the call had broken off

		next := &answering{status: 200, body: "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n\n"}
		w := httptest.NewRecorder()
		x := New(site, new(fakeHost), next, w, httptest.NewRequest("GET", "/mcp", nil))
		x.caller, x.era, x.resumed = caller, mcp.EraSession, ticket
		x.run()
		if !next.limited || money.unwatched != 1 || !strings.Contains(w.Body.String(), `"result"`) {
			t.Errorf("%s: limited %t, %d watches ended, %s", tool, next.limited, money.unwatched, w.Body)
		}
		if got := site.Metrics.(*fakeMetrics).decisions; len(got) != 1 || got[0] != decision {
			t.Errorf("%s was counted as %v; want %s, once", tool, got, decision)
		}
		if (money.captured == 1) != (tool == "paid") {
			t.Errorf("%s: %d captured", tool, money.captured)
		}
	}
}

// abort returns a recovered panic as an error, or nil if p is not an error.
func abort(p any) error {
	err, _ := p.(error)
	return err
}
