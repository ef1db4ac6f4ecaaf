package exchange

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// fakeRecorder keeps records of all outcomes except f.not.
type fakeRecorder struct {
	not  callrecord.Outcome
	list []callrecord.Record
}

func (f *fakeRecorder) Keeps(o callrecord.Outcome) bool { return o != f.not }
func (f *fakeRecorder) Record(r *callrecord.Record)     { f.list = append(f.list, *r) }

// TestUnchargedCallsAreRecorded checks which requests have a record, with which outcome
// and code, and under which tool: never a name that only the client chose.
func TestUnchargedCallsAreRecorded(t *testing.T) {
	const (
		result    = `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
		toolError = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}`
		failure   = `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}`
	)
	call := func(tool string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `"}}`
	}
	for name, c := range map[string]struct {
		body, answer string
		leaves       bool
		outcome      callrecord.Outcome
		code, tool   string
		priced       bool
	}{
		"charged":                     {body: call("paid"), answer: result},
		"a tool error":                {body: call("paid"), answer: toolError, outcome: callrecord.Failed, code: callrecord.ToolError, tool: "paid", priced: true},
		"an error of the server":      {body: call("paid"), answer: failure, outcome: callrecord.Failed, code: callrecord.ServerError, tool: "paid", priced: true},
		"no usable answer":            {body: call("paid"), answer: `{}`, outcome: callrecord.Failed, code: "UPSTREAM_FAILED", tool: "paid", priced: true},
		"a client that left":          {body: call("paid"), answer: result, leaves: true, outcome: callrecord.Failed, code: callrecord.Abandoned, tool: "paid", priced: true},
		"a free call":                 {body: call("free"), answer: result, outcome: callrecord.Free, code: callrecord.Unpriced, tool: "free"},
		"a free call without answer":  {body: call("free"), answer: `{}`, outcome: callrecord.Failed, code: "UPSTREAM_FAILED", tool: "free"},
		"an unknown tool":             {body: call("name-of-a-client"), outcome: callrecord.Refused, code: "TOOL_UNKNOWN", tool: "other"},
		"a message that is none":      {body: `{"jsonrpc":"2.0"`, outcome: callrecord.Refused, code: "MESSAGE_MALFORMED"},
		"a list":                      {body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, answer: `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`},
		"a list without answer":       {body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, answer: `{}`, outcome: callrecord.Failed, code: "UPSTREAM_FAILED"},
		"a notification":              {body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, answer: ``},
		"a notification that failed":  {body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, answer: `{}`},
		"a method that nobody allows": {body: `{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, outcome: callrecord.Refused, code: "METHOD_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			key := &keys.Key{ID: "key_1", Account: "acct_1", Lineage: "key_0", Kind: keys.Agent, Environment: keys.Test, Scopes: []string{keys.ScopeConnect}}
			site, _ := pricedSite(t, key)
			recorder := new(fakeRecorder)
			site.Records = recorder
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			next := &answering{status: 200, body: c.answer}
			if c.leaves {
				next.leave = cancel
			}
			r := httptest.NewRequestWithContext(ctx, "POST", "/mcp", strings.NewReader(c.body))
			r.Header.Set("Authorization", "Bearer "+keys.Mint(keys.Agent, keys.Test))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			func() {
				defer func() {
					if p := recover(); p != nil && !errors.Is(abort(p), http.ErrAbortHandler) {
						panic(p)
					}
				}()
				if err := New(site, new(fakeHost), next, httptest.NewRecorder(), r).Serve(); err != nil {
					t.Fatal(err)
				}
			}()
			if c.outcome == "" {
				if len(recorder.list) != 0 {
					t.Errorf("%+v", recorder.list)
				}
				return
			}
			if len(recorder.list) != 1 {
				t.Fatalf("%d records, want one", len(recorder.list))
			}
			got := recorder.list[0]
			if got.Outcome != c.outcome || got.Code != c.code || got.Tool != c.tool || (got.Price != nil) != c.priced ||
				got.Account != "acct_1" || got.Key != "key_1" || got.Lineage != "key_0" || !got.Test || got.Server != "weather" || got.At.IsZero() {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestUnchargedNeedsAKnownCaller checks that a call with an unknown key has no record,
// so that a stranger cannot fill the disk. A call with an outcome that is not kept has
// no record either. The record of a refusal for lack of credits has the price.
func TestUnchargedNeedsAKnownCaller(t *testing.T) {
	poor := &gate.Refusal{Code: gate.InsufficientBalance, Tool: "paid", Price: 7, Available: 1}
	for name, c := range map[string]struct {
		caller  gate.Caller
		refusal *gate.Refusal
		not     callrecord.Outcome
		records int
		price   ledger.Amount
		status  int
	}{
		"known":    {caller: gate.Caller{Subject: "key_1", Account: "acct_1"}, refusal: poor, records: 1, price: 7, status: 200},
		"expired":  {caller: gate.Caller{Subject: "key_1", Account: "acct_1"}, refusal: &gate.Refusal{Code: gate.TokenExpired}, records: 1, price: -1, status: 401},
		"not kept": {caller: gate.Caller{Subject: "key_1", Account: "acct_1"}, refusal: poor, not: callrecord.Refused},
		"unknown":  {refusal: &gate.Refusal{Code: gate.TokenInvalid}},
	} {
		key := &keys.Key{Account: "acct_1", Kind: keys.Agent, Environment: keys.Live}
		site, _ := pricedSite(t, key)
		recorder := &fakeRecorder{not: c.not}
		site.Records = recorder
		x := New(site, new(fakeHost), nil, httptest.NewRecorder(), httptest.NewRequest("POST", "/mcp", nil))
		m, err := mcp.Decode([]byte(paidCall))
		if err != nil {
			t.Fatal(err)
		}
		x.message, x.era, x.stage, x.running, x.caller = m, mcp.EraSession, decoded, true, c.caller
		x.refuse(c.refusal)
		x.recordUncharged()
		if len(recorder.list) != c.records {
			t.Fatalf("%s: %d records, want %d", name, len(recorder.list), c.records)
		}
		for _, r := range recorder.list {
			price := ledger.Amount(-1)
			if r.Price != nil {
				price = *r.Price
			}
			if r.Outcome != callrecord.Refused || r.Code != string(c.refusal.Code) || price != c.price || r.Status != c.status {
				t.Errorf("%s: %+v, price %d", name, r, price)
			}
		}
	}
}

// TestChargedCallsCostNothingMore checks that the path of a charged call allocates nothing
// for records.
func TestChargedCallsCostNothingMore(t *testing.T) {
	x, _ := exchangeFor(t, paidCall)
	x.site.Records = new(fakeRecorder)
	x.running, x.counted = true, counted{"tools/call", charged}
	if n := testing.AllocsPerRun(100, x.recordUncharged); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
