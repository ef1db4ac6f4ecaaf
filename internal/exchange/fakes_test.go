package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// fakeHost is a Host with one site and no placeholders.
type fakeHost struct {
	named    bool // the result of NamesSite
	groups   map[string]struct{}
	rewrites bool
	dialled  string
	fields   map[string]string
}

func (f *fakeHost) Enter(*http.Request) bool                         { return true }
func (f *fakeHost) Client(*http.Request) netip.Addr                  { return netip.Addr{} }
func (f *fakeHost) Identify(_ *http.Request, _, _, _ string)         {}
func (f *fakeHost) IdentifyCharge(*http.Request, string, string)     {}
func (f *fakeHost) LogsCredentials(*http.Request) bool               { return false }
func (f *fakeHost) NamesSite(*http.Request) bool                     { return f.named }
func (f *fakeHost) CountConnection(*http.Request, share.Holder) bool { return true }
func (f *fakeHost) Status(error) int                                 { return 0 }
func (f *fakeHost) RouteGroups(*http.Request) map[string]struct{}    { return f.groups }
func (f *fakeHost) RewritesAfter(*http.Request) bool                 { return f.rewrites }
func (f *fakeHost) TrustsProxy(*http.Request) bool                   { return false }
func (f *fakeHost) Dialled(*http.Request) string                     { return f.dialled }
func (f *fakeHost) Annotate(_ *http.Request, a slog.Attr) {
	if f.fields == nil {
		f.fields = make(map[string]string)
	}
	f.fields[a.Key] = a.Value.String()
}

// fakeEngine is an Engine that always runs, and that knows the names of accounts.
type fakeEngine struct {
	names func(id string) string
}

func (f *fakeEngine) Acquire(context.Context) error { return nil }
func (f *fakeEngine) Release()                      {}
func (f *fakeEngine) Used(*keys.Key)                {}
func (f *fakeEngine) Charged(*keys.Key, netip.Addr) {}
func (f *fakeEngine) LockRequestID(context.Context, share.Holder, string, string) error {
	return nil
}
func (f *fakeEngine) UnlockRequestID(string, string, bool) {}
func (f *fakeEngine) RulesOf(string) string                { return "" }
func (f *fakeEngine) AccountName(_ context.Context, id string) string {
	if f.names == nil {
		return ""
	}
	return f.names(id)
}

// fakeMetrics is a Metrics that records the decisions about requests.
type fakeMetrics struct {
	decisions []string
	failures  []gate.Code
}

func (f *fakeMetrics) Request(_, decision string)             { f.decisions = append(f.decisions, decision) }
func (f *fakeMetrics) Failed(code gate.Code)                  { f.failures = append(f.failures, code) }
func (f *fakeMetrics) Overhead(time.Duration, string)         {}
func (f *fakeMetrics) Upstream(string, time.Duration, string) {}
func (f *fakeMetrics) Abandoned()                             {}

// newSite returns a site that logs nothing.
func newSite() *Site {
	s := &Site{
		Server: "weather", MaxBody: 4 << 20, MaxCall: time.Hour, Secrets: &keys.DefaultFormat,
		KnowsMethod: func(*mcp.Message) bool { return false },
		Engine:      new(fakeEngine), Metrics: new(fakeMetrics), Logger: slog.New(slog.DiscardHandler),
		Shares: &Shares{
			Memory: share.New(256<<20, nil), Calls: share.New(1<<14, nil), Streams: share.New(1<<14, nil), Payers: share.NewPayers(clock.Now),
		},
	}
	s.Shares.BodyRate.Store(share.DefaultRate)
	return s
}

// callerOf returns the caller that the key stands for. The key must be the only one in
// the gate's store.
func callerOf(g *gate.Gate, key *keys.Key) gate.Caller {
	key.ID = "key_1"
	caller, _ := g.Redeem(context.Background(), netip.Addr{}, keys.Mint(keys.Agent, keys.Live))
	return caller
}

// exchangeFor returns an exchange with the given message, or without a message if body
// is "".
func exchangeFor(t *testing.T, body string) (*Exchange, *httptest.ResponseRecorder) {
	t.Helper()
	w := httptest.NewRecorder()
	x := New(newSite(), new(fakeHost), nil, w, httptest.NewRequest("POST", "/mcp", nil))
	x.caller = gate.Caller{Subject: "key_1", Account: "acct_1"}
	if body != "" {
		m, err := mcp.Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		x.message, x.era, x.stage = m, mcp.EraSession, decoded
	}
	return x, w
}

const paidCall = `{"jsonrpc":"2.0","id":"call-1","method":"tools/call","params":{"name":"get_forecast"}}`

// onlyKey is a key store with one key. If the key is nil, the store is down.
type onlyKey struct{ key *keys.Key }

func (o *onlyKey) Lookup(context.Context, netip.Addr, keys.Digest) (*keys.Key, error) {
	if o.key == nil {
		return nil, errors.New("the store is down")
	}
	return o.key, nil
}
