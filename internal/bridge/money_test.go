package bridge

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func limit(t *testing.T, text string) *ledger.Amount {
	t.Helper()
	a, err := ledger.ParseAmount(text)
	if err != nil {
		t.Fatal(err)
	}
	return &a
}

const priceList = `{"tools":[{"name":"x","inputSchema":{},"_meta":{"dev.farebox/price":{"amount":"0.01","currency":"USD"}}},
	{"name":"varies","inputSchema":{},"_meta":{"dev.farebox/price":{"max":"0.05","currency":"USD"}}},
	{"name":"free","inputSchema":{},"_meta":{"dev.farebox/price":{"amount":"0.00","currency":"USD"}}}]}`

// TestBudget checks that concurrent calls never exceed a budget together: a budget of 0.10
// pays ten calls at 0.01 out of 30, and the others are refused without a request.
func TestBudget(t *testing.T) {
	t.Parallel()
	var running atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch {
		case r.Method == "tools/list":
			answer(w, r, priceList)
		default:
			running.Add(1)
			answer(w, r, paid("0.01"))
		}
	})
	c := start(t, s.URL, func(o *Options) { o.Limits.Budget = limit(t, "0.10"); o.Verbose = true })
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	c.next(t)
	for id := range 30 {
		c.send(t, toolCall(10+id, "x"))
	}
	charged, refused := 0, 0
	for range 30 {
		switch m := c.next(t); {
		case strings.Contains(m.Line, "chg_1"):
			charged++
		case strings.Contains(m.Line, "budget of 0.10 USD") && strings.Contains(m.Line, `"isError":true`):
			refused++
		default:
			t.Errorf("response: %s", m.Line)
		}
	}
	if charged != 10 || refused != 20 || running.Load() != 10 {
		t.Errorf("%d charged, %d refused, %d reached the server", charged, refused, running.Load())
	}
	if !strings.Contains(c.notes.String(), "tool x cost 0.01 USD (chg_1); spent 0.10, 9.00 in the account, 0.00 of the budget left") {
		t.Errorf("notes: %s", c.notes)
	}
	for _, r := range s.calls() {
		if got := string(r.Params.Meta["dev.farebox/max-price"]); got != `"0.01"` || !strings.Contains(r.Body, `"a":"<b>"`) {
			t.Errorf("a call was sent as %s", r.Body)
		}
	}
	c.send(t, toolCall(99, "free"))
	if m := c.next(t); !strings.Contains(m.Line, `"id":99,"result"`) {
		t.Errorf("a free call with an empty budget: %s", m.Line)
	}
}

// TestMaxPrice checks that each call is sent with the highest price, so that the gateway
// refuses a price that has risen since the list, and that a lower maximum of the client
// stays.
func TestMaxPrice(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) { answer(w, r, paid("0.01")) })
	c := start(t, s.URL, func(o *Options) { o.Limits.MaxPrice = limit(t, "0.02") })
	c.send(t, toolCall(1, "x"), `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x","_meta":{"dev.farebox/max-price":"0.005","k":1}}}`)
	c.next(t)
	c.next(t)
	var got []string
	for _, r := range s.calls() {
		got = append(got, string(r.Params.Meta["dev.farebox/max-price"]))
	}
	if slices.Sort(got); !slices.Equal(got, []string{`"0.005"`, `"0.02"`}) {
		t.Errorf("the calls were sent with %v", got)
	}
}

// unknownOutcome is a way in which a call fails.
type unknownOutcome struct {
	script func(w http.ResponseWriter, r *request, n int) // answers the n-th attempt
	spent  bool                                           // the call counts as spent
	words  string                                         // a part of the response
}

// afterLoss breaks the first connection, and answers later attempts with a refusal.
func afterLoss(code string) func(w http.ResponseWriter, r *request, n int) {
	return func(w http.ResponseWriter, r *request, n int) {
		if n == 1 {
			breakOff(w)
			return
		}
		answer(w, r, refusal(code, ""))
	}
}

var unknownOutcomes = map[string]unknownOutcome{
	"lost":                  {func(w http.ResponseWriter, _ *request, _ int) { breakOff(w) }, true, "not known whether the call was charged"},
	"refused after a loss":  {afterLoss("TOOL_UNKNOWN"), true, "not known whether the call was charged"},
	"limited after a loss":  {afterLoss("RATE_LIMITED"), true, "not known whether the call was charged"},
	"no money after a loss": {afterLoss("INSUFFICIENT_BALANCE"), false, "refused"},
	"not kept":              {afterLoss("RESULT_GONE"), true, "refused"},
	"store down": {func(w http.ResponseWriter, r *request, n int) {
		if n < 4 {
			answer(w, r, refusal("STORE_UNAVAILABLE", `,"retry_after_ms":1`))
			return
		}
		answer(w, r, `{"content":[],"isError":true}`)
	}, false, "isError"},
	"charged at its start": {func(w http.ResponseWriter, r *request, _ int) {
		answer(w, r, refusal("UPSTREAM_FAILED", `,"charge":"chg_2"`))
	}, true, "refused"},
	"a status of a proxy": {func(w http.ResponseWriter, _ *request, _ int) {
		http.Error(w, "the origin took too long", 524)
	}, true, "not known whether the call was charged"},
	"an error without a stamp after a loss": {func(w http.ResponseWriter, r *request, calls int) {
		if calls < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no"}}`, r.ID)
	}, true, "no"},
	"a charge that the server made up by letter case": {func(w http.ResponseWriter, r *request, _ int) {
		answer(w, r, `{"content":[],"_meta":{"dev.farebox/charge":{"id":"chg_1","amount":"0.01","currency":"USD","balance":"1.00"},"dev.farebox/Charge":{"id":"x","amount":"0.00"}},"_META":{"dev.farebox/charge":{"id":"y","amount":"0.00"}}}`)
	}, true, "chg_1"},
}

// TestUnknownOutcomesCount checks that a call with an unknown outcome counts as spent, and
// that its error says so. Without doubt, a failed call counts as nothing.
func TestUnknownOutcomesCount(t *testing.T) {
	t.Parallel()
	for name, test := range unknownOutcomes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *server
			s = newServer(t, func(w http.ResponseWriter, r *request) {
				if r.Method == "tools/list" {
					answer(w, r, priceList)
					return
				}
				test.script(w, r, len(s.calls()))
			})
			c := start(t, s.URL, func(o *Options) {
				o.Limits.Budget = limit(t, "0.01")
				o.patience.doubt = 300 * time.Millisecond
			})
			c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			c.next(t)
			c.send(t, toolCall(2, "x"))
			if m := c.next(t); !strings.Contains(m.Line, test.words) {
				t.Errorf("response: %s", m.Line)
			}
			before := len(s.calls())
			c.send(t, toolCall(3, "x"))
			c.next(t)
			if left := len(s.calls()) > before; left == test.spent {
				t.Errorf("the budget has money left: %v", left)
			}
		})
	}
}

// left reports whether the budget of a bridge can still pay a call of the tool x, by
// making one.
func left(t *testing.T, c *client, s *server) bool {
	t.Helper()
	before := len(s.calls())
	c.send(t, toolCall(1000, "x"))
	c.next(t)
	return len(s.calls()) > before
}

// TestTaskIsPaidFromBudget checks that a call that runs as a task keeps its reservation
// until the charge is in the task's result, and then counts once.
func TestTaskIsPaidFromBudget(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		switch r.Method {
		case "tools/list":
			answer(w, r, priceList)
		case "tasks/result":
			answer(w, r, paid("0.01"))
		default:
			answer(w, r, `{"task":{"taskId":"t1","status":"working"}}`)
		}
	})
	c := start(t, s.URL, func(o *Options) { o.Limits.Budget = limit(t, "0.05") })
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	c.next(t)
	c.send(t, toolCall(2, "varies"))
	c.next(t)
	if left(t, c, s) {
		t.Error("the task has no reservation")
	}
	for range 2 {
		c.send(t, `{"jsonrpc":"2.0","id":3,"method":"tasks/result","params":{"taskId":"t1"}}`)
		c.next(t)
	}
	for i := range 4 {
		if !left(t, c, s) {
			t.Errorf("after the charge of 0.01, the budget of 0.05 has not paid call %d", i)
		}
	}
	if left(t, c, s) {
		t.Error("the task was not counted")
	}
}

// TestLongResultsCount checks that a charge in a long result is not believed, because the
// gateway lets the server's own members pass there: the call counts with its price.
func TestLongResultsCount(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if r.Method == "tools/list" {
			answer(w, r, priceList)
			return
		}
		answer(w, r, strings.Replace(paid("0.00"), "ok", strings.Repeat("x", 1<<20), 1))
	})
	c := start(t, s.URL, func(o *Options) { o.Limits.Budget = limit(t, "0.01") })
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	c.next(t)
	if !left(t, c, s) || left(t, c, s) {
		t.Error("the budget did not pay exactly one call")
	}
}

// TestRisenPrice checks that a price that has risen since the list is not paid, and that
// the next call reserves the new price.
func TestRisenPrice(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		if r.Method == "tools/list" {
			answer(w, r, priceList)
			return
		}
		if string(r.Params.Meta["dev.farebox/max-price"]) == `"0.01"` {
			answer(w, r, refusal("PRICE_ABOVE_MAX", `,"price":"0.03","currency":"USD"`))
			return
		}
		answer(w, r, paid("0.03"))
	})
	c := start(t, s.URL, func(o *Options) { o.Limits.Budget = limit(t, "0.05") })
	c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	c.next(t)
	for i, want := range []bool{true, true, false} {
		if left(t, c, s) != want {
			t.Errorf("call %d was sent: %v", i, !want)
		}
	}
	if calls := s.calls(); string(calls[1].Params.Meta["dev.farebox/max-price"]) != `"0.03"` {
		t.Errorf("the second call was sent as %s", calls[1].Body)
	}
}

// TestEchoedToken checks that a server that answers with the headers of a request does
// not bring the token into the notes or to the client's model, and that the notes say
// that the token ends soon.
func TestEchoedToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *request) {
		w.Header().Set("X-Farebox-Key-Expires", "Tue, 01 Dec 2026 00:00:00 GMT")
		http.Error(w, "debug: "+r.Header.Get("Authorization"), http.StatusForbidden)
	})
	c := start(t, s.URL, nil) // which checks the notes at the end
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Error == nil || m.Error.Code != 403 || strings.Contains(m.Line, "secret-of-the-test") {
		t.Errorf("response: %s", m.Line)
	}
	if !strings.Contains(c.notes.String(), "the token expires soon: Tue, 01 Dec") {
		t.Errorf("notes: %s", c.notes)
	}
}

// TestUnreachable checks that a call to a server that is not there ends with an error
// that says that nothing was charged.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	c := start(t, "http://127.0.0.1:1/mcp", func(o *Options) { o.patience.unsent = 100 * time.Millisecond })
	c.send(t, toolCall(1, "x"))
	if m := c.next(t); m.Error == nil || !strings.Contains(m.Error.Message, "cannot be reached") || !strings.Contains(m.Error.Message, "Nothing was charged") {
		t.Errorf("response: %s", m.Line)
	}
}

// TestCheckURL checks that a token goes only to https:// and to this machine, unless that
// is allowed.
func TestCheckURL(t *testing.T) {
	t.Parallel()
	if err := CheckURL(&url.URL{Path: "sk_live_0123"}, true, false); err == nil || strings.Contains(err.Error(), "0123") {
		t.Errorf("a token in the place of the URL: %v", err)
	}
	for address, want := range map[string][3]bool{ // with a token; with a token and --insecure; without a token
		"https://mcp.example.com/mcp":  {true, true, true},
		"http://localhost:8080/mcp":    {true, true, true},
		"http://127.0.0.1:8080/mcp":    {true, true, true},
		"http://[::1]:8080/mcp":        {true, true, true},
		"http://mcp.example.com/mcp":   {false, true, true},
		"http://127.0.0.1.example/mcp": {false, true, true},
		"https://u:p@example.com/mcp":  {false, false, false},
		"ftp://example.com":            {false, false, false},
		"mcp.example.com":              {false, false, false},
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range []error{CheckURL(u, true, false), CheckURL(u, true, true), CheckURL(u, false, false)} {
			if (got == nil) != want[i] {
				t.Errorf("%s, case %d: %v", address, i, got)
			}
		}
	}
}

// TestTaskEndsFree checks that a task that ends without a charge gives its part of the
// budget back, in the forms of both kinds of protocol versions, and that other responses
// about the task do not.
func TestTaskEndsFree(t *testing.T) {
	t.Parallel()
	embedded := func(result string) string {
		return `{"resultType":"complete","taskId":"t1","status":"completed","result":` + result + `}`
	}
	for name, test := range map[string]struct {
		method, answer string
		free           bool
	}{
		"failed":            {"tasks/get", `{"taskId":"t1","status":"failed"}`, true},
		"cancelled":         {"tasks/cancel", `{"taskId":"t1","status":"cancelled"}`, true},
		"its tool failed":   {"tasks/result", `{"content":[],"isError":true}`, true},
		"embedded error":    {"tasks/get", embedded(`{"content":[],"isError":true}`), true},
		"embedded charge":   {"tasks/get", embedded(paid("0.01")), true},
		"works":             {"tasks/get", `{"taskId":"t1","status":"working"}`, false},
		"completed":         {"tasks/get", `{"taskId":"t1","status":"completed"}`, false},
		"another task":      {"tasks/get", `{"taskId":"t2","status":"failed"}`, false},
		"withheld":          {"tasks/result", refusal("INSUFFICIENT_BALANCE", ""), false},
		"result, no charge": {"tasks/result", `{"content":[]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(w http.ResponseWriter, r *request) {
				switch r.Method {
				case "tools/list":
					answer(w, r, priceList)
				case test.method:
					answer(w, r, test.answer)
				default:
					answer(w, r, `{"task":{"taskId":"t1","status":"working"}}`)
				}
			})
			c := start(t, s.URL, func(o *Options) { o.Limits.Budget = limit(t, "0.05") })
			c.send(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			c.next(t)
			c.send(t, toolCall(2, "varies"))
			c.next(t)
			c.send(t, `{"jsonrpc":"2.0","id":3,"method":"`+test.method+`","params":{"taskId":"t1"}}`)
			c.next(t)
			if got := left(t, c, s); got != test.free {
				t.Errorf("the budget has paid a further call: %t", got)
			}
		})
	}
}
