package exchange

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestRefusalFormsAreExhaustive checks that every code has a form. Only a lost
// session is a 404, because clients take any 404 for a lost session. No JSON-RPC
// code of ours lies in the range that JSON-RPC reserves for itself.
func TestRefusalFormsAreExhaustive(t *testing.T) {
	standard := map[int]bool{-32700: true, -32600: true, -32601: true, -32602: true, -32020: true}
	for _, code := range gate.Codes() {
		f, ok := refusalForms[code]
		switch {
		case !ok:
			t.Errorf("%s has no form", code)
		case (f.status == 404) != (code == gate.SessionUnknown) || f.status < 200:
			t.Errorf("%s is answered with %d", code, f.status)
		case f.rpc >= -32768 && f.rpc <= -32000 && !standard[f.rpc]:
			t.Errorf("%s has the reserved code %d", code, f.rpc)
		case f.text == "":
			t.Errorf("%s says nothing", code)
		case (f.status == 401) != f.challenge:
			t.Errorf("%s: a 401, and nothing else, carries a challenge (RFC 9110, 15.5.2)", code)
		case (f.http == 503 || f.status == 429) != (f.retryAfter > 0):
			t.Errorf("%s: a 503 or 429, and nothing else, says when to come again", code)
		case f.status >= 500:
			t.Errorf("%s: several SDKs hang or drop their session at a %d", code, f.status)
		case f.status == 200 && f.http == 0 && !f.toolResult && f.rpc >= 400:
			t.Errorf("%s: a code that is not MCP's own needs a status for clients that go by the status", code)
		}
	}
	if len(refusalForms) != len(gate.Codes()) {
		t.Errorf("%d forms for %d codes", len(refusalForms), len(gate.Codes()))
	}
}

// TestRefusalsCarryTheID checks that each refusal is a whole JSON-RPC message with
// the request's id and the refusal's code. Caches must not store the refusal.
func TestRefusalsCarryTheID(t *testing.T) {
	for _, code := range gate.Codes() {
		x, w := exchangeFor(t, paidCall)
		refusal := &gate.Refusal{Code: code, Tool: "get_forecast", Price: 10_000, Available: 2_500, Currency: "USD", Scopes: []string{"billing.write"}, Lacking: []string{"billing.write"},
			Cap: &ledger.CapError{Cap: ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Amount: 20_000, Spent: 15_000}, Needed: 10_000}}
		x.Refuse(w, refusal)
		var message struct {
			JSONRPC string `json:"jsonrpc"`
			ID      string `json:"id"`
			Error   *struct {
				Code    int    `json:"code"`
				Message string `json:"message"`
				Data    struct {
					Meta map[string]errorField `json:"_meta"`
				} `json:"data"`
			} `json:"error"`
			Result *struct {
				IsError bool                  `json:"isError"`
				Meta    map[string]errorField `json:"_meta"`
				Content []struct{ Text string }
			} `json:"result"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &message); err != nil || message.ID != "call-1" || message.JSONRPC != "2.0" {
			t.Fatalf("%s: %s (%v)", code, w.Body, err)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Code != refusalForms[code].status {
			t.Errorf("%s: %d %v", code, w.Code, w.Header())
		}
		var field errorField
		if refusalForms[code].toolResult {
			field = message.Result.Meta["dev.farebox/error"]
			if !message.Result.IsError || strings.Contains(w.Body.String(), "structuredContent") {
				t.Errorf("%s: %s", code, w.Body)
			}
		} else {
			field = message.Error.Data.Meta["dev.farebox/error"]
			if message.Error.Code != refusalForms[code].rpc || message.Error.Message == "" {
				t.Errorf("%s: %s", code, w.Body)
			}
		}
		if field.Code != code {
			t.Errorf("%s: the field says %q", code, field.Code)
		}
	}
}

// TestInsufficientBalanceText checks the text that a model reads. The text has the
// name of the refused tool, its price and the balance. It also says that nothing was
// charged, and how to go on.
func TestInsufficientBalanceText(t *testing.T) {
	x, _ := exchangeFor(t, paidCall)
	body := string(x.refusalBody(&gate.Refusal{Code: gate.InsufficientBalance, Tool: "get_forecast", Price: 10_000, Available: 2_500, Currency: "USD"}, false))
	for _, word := range []string{"get_forecast", "0.01 USD", "0.0025 USD", "nothing was charged", "acct_1", "top the account up", `"price":"0.01"`, `"available":"0.0025"`} {
		if !strings.Contains(body, word) {
			t.Errorf("%q is not in %s", word, body)
		}
	}
}

// TestRefusalsNameContacts checks that a refusal names the caller's own account,
// the credits left, and the operator's contact and top-up page, in words and in
// data. Without a contact or a page the text is still a sentence.
func TestRefusalsNameContacts(t *testing.T) {
	poor := gate.Refusal{Code: gate.InsufficientBalance, Tool: "get_forecast", Price: 10_000, Available: 2_500, Currency: "USD"}
	capped := gate.Refusal{Code: gate.SpendingCap, Tool: "get_forecast", Price: 10_000, Currency: "USD",
		Cap: &ledger.CapError{Cap: ledger.Cap{Holder: ledger.HolderAccount, Period: ledger.PerDay, Amount: 20_000, Spent: 15_000}, Needed: 10_000}}
	scope := gate.Refusal{Code: gate.ScopeInsufficient, Tool: "get_forecast", Scopes: []string{"a"}, Lacking: []string{"a"}}
	const contact, topUp = "billing@example.com", "https://pay.example.com/credits?from=mcp"
	for _, c := range []struct {
		refusal             gate.Refusal
		name, contact, link string
		words, never        []string
	}{
		{poor, "jane@example.com", contact, topUp, []string{
			"the balance of account jane@example.com (acct_1) has only 0.0025 USD available. Top the account up at " + topUp + ", or ask " + contact + ", then call again",
			`"account":"acct_1"`, `"account_name":"jane@example.com"`, `"contact":"` + contact + `"`, `"topup_url":"` + topUp + `"`,
		}, nil},
		{poor, "", "", topUp, []string{"of account acct_1 has only", "Top the account up at " + topUp + ", then call again"}, []string{"account_name", `"contact"`}},
		{poor, "", contact, "", []string{"Ask " + contact + " to top the account up, then"}, []string{"topup_url"}},
		{poor, "", "", "", []string{"Ask the operator of this gateway to top the account up, then"}, []string{"topup_url", `"contact"`}},
		{capped, "jane@example.com", contact, topUp, []string{
			"that account jane@example.com (acct_1) may spend in a day only 0.005 USD are left", "unless " + contact + " raises it", `"account_name":"jane@example.com"`,
		}, []string{topUp}}, // the top-up page must not be named, because topping up does not raise a cap
		{scope, "jane@example.com", contact, topUp, []string{"Ask " + contact + " for a key that may", `"contact":"` + contact + `"`}, []string{topUp, "acct_1", "jane"}},
		{gate.Refusal{Code: gate.TokenInvalid}, "jane@example.com", contact, topUp, nil, []string{"acct_1", "jane"}},
		{gate.Refusal{Code: gate.StoreUnavailable}, "jane@example.com", contact, topUp, nil, []string{"acct_1", "jane"}},
	} {
		x, _ := exchangeFor(t, paidCall)
		x.site.Contact, x.site.TopUpURL = c.contact, func(*http.Request, *gate.Caller) string { return c.link }
		x.site.Engine = &fakeEngine{names: func(id string) string {
			if id != "acct_1" {
				t.Errorf("the name of %q is asked for", id)
			}
			return c.name
		}}
		body := string(x.refusalBody(&c.refusal, false))
		for _, word := range c.words {
			if !strings.Contains(body, word) {
				t.Errorf("%s: %q is not in %s", c.refusal.Code, word, body)
			}
		}
		for _, word := range c.never {
			if strings.Contains(body, word) {
				t.Errorf("%s: %q is in %s", c.refusal.Code, word, body)
			}
		}
	}
}

// TestChallenge checks that the challenge names the error only if a token was sent
// (RFC 6750, 3.1).
func TestChallenge(t *testing.T) {
	for code, want := range map[gate.Code]string{
		gate.TokenMissing: `Bearer realm="weather"`,
		gate.TokenInvalid: `Bearer realm="weather", error="invalid_token"`,
		gate.TokenExpired: `Bearer realm="weather", error="invalid_token"`,
	} {
		x, w := exchangeFor(t, paidCall)
		x.Refuse(w, &gate.Refusal{Code: code})
		if got := w.Header().Values("WWW-Authenticate"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", code, got, want)
		}
	}
}

// TestPolicyRefusalTexts checks that a caller with a maximum of its own reads the price
// and the maximum. A caller that abandons too many calls reads how long to wait. This
// text is in a tool result, because the status 429 is kept for floods of unknown
// tokens.
func TestPolicyRefusalTexts(t *testing.T) {
	for _, c := range []struct {
		refusal gate.Refusal
		status  int
		words   []string
	}{
		{gate.Refusal{Code: gate.PriceAboveMax, Tool: "get_forecast", Price: 10_000, Maximum: 2_500, Currency: "USD"}, 200,
			[]string{`"isError":true`, "get_forecast", "0.01 USD", "0.0025 USD", "nothing was charged", "dev.farebox/max-price", `"price":"0.01"`, `"maximum":"0.0025"`, `"currency":"USD"`}},
		{gate.Refusal{Code: gate.PriceAboveMax, Tool: "get_forecast", Price: 10_000, Currency: "USD"}, 200, []string{`"maximum":"0.00"`}},
		{gate.Refusal{Code: gate.RateLimited, Tool: "get_forecast", RetryAfter: 1500*time.Millisecond + 1}, 200,
			[]string{`"isError":true`, "get_forecast", "nothing was charged", "abandoned", "Wait 2 seconds", `"retry_after_ms":1501`}},
		{gate.Refusal{Code: gate.RateLimited}, 429, []string{`"error":{"code":429`, "Too many unknown tokens"}},
		{gate.Refusal{Code: gate.PriceRefused, Tool: "get_forecast", Reason: "the price of this call comes out below zero"}, 200,
			[]string{`"error":{"code":-32602`, "comes out below zero", `"tool":"get_forecast"`}},
	} {
		x, w := exchangeFor(t, paidCall)
		x.Refuse(w, &c.refusal)
		if w.Code != c.status || (w.Code == 429) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%s: %d %v", c.refusal.Code, w.Code, w.Header())
		}
		for _, word := range c.words {
			if !strings.Contains(strings.ReplaceAll(w.Body.String(), `\"`, ``), word) {
				t.Errorf("%s: %q is not in %s", c.refusal.Code, word, w.Body)
			}
		}
	}
}

// TestChargedAtStartTextIsHonest checks the refusals of a call that was charged at
// its start. No such refusal says that nothing was charged.
func TestChargedAtStartTextIsHonest(t *testing.T) {
	for _, code := range []gate.Code{gate.UpstreamFailed, gate.UpstreamTimeout, gate.StoreUnavailable} {
		if !strings.Contains(refusalForms[code].text, "nothing was charged") {
			t.Errorf("%s: the usual text is %q", code, refusalForms[code].text)
		}
		if got := chargedAtStartText(code, refusalForms[code].text); strings.Contains(got, "nothing was charged") || !strings.Contains(got, "was charged when it started") {
			t.Errorf("%s: %q", code, got)
		}
	}
}

// TestUnknownMethodByEra checks that an unknown method is a 404 in MCP 2026-07-28, as
// its Streamable HTTP transport requires. In the versions with sessions, the status is
// not 404, because clients would take a 404 for a lost session.
func TestUnknownMethodByEra(t *testing.T) {
	for era, status := range map[mcp.Era]int{mcp.EraSession: 200, mcp.EraStateless: 404} {
		x, w := exchangeFor(t, `{"jsonrpc":"2.0","id":1,"method":"tools/steal"}`)
		x.era = era
		x.Refuse(w, &gate.Refusal{Code: gate.MethodUnknown})
		if w.Code != status || !strings.Contains(w.Body.String(), `"code":-32601`) {
			t.Errorf("era %d: got %d %s; want %d and -32601", era, w.Code, w.Body, status)
		}
	}
}

// TestFailuresByID checks that with error_style mcp, a failure of a request with an
// id has status 200, because at other statuses SDKs hang or drop their session. A
// header names the code, and the message has the time to wait. With error_style
// http, or for a message without an id, the failure has its own status.
func TestFailuresByID(t *testing.T) {
	notification := `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	for code, status := range map[gate.Code]int{
		gate.UpstreamFailed: 502, gate.UpstreamTimeout: 504, gate.StoreUnavailable: 503, gate.ChargeFailed: 503,
		gate.ParamsInvalid: 400, gate.MessageInvalid: 400, gate.MessageMalformed: 400, gate.Misconfigured: 500,
	} {
		for _, c := range []struct {
			body, style string
			want        int
		}{{paidCall, "", 200}, {paidCall, StyleMCP, 200}, {paidCall, StyleHTTP, status}, {notification, "", status}, {"", "", status}} {
			x, w := exchangeFor(t, c.body)
			x.site.ErrorStyle = c.style
			x.Refuse(w, &gate.Refusal{Code: code})
			h, again := w.Header(), status == 503
			told := strings.Contains(w.Body.String(), `"retry_after_ms":5000`)
			if w.Code != c.want || (h.Get("X-Farebox-Error") == string(code)) != (c.want == 200) || (h.Get("Retry-After") != "") != (again && c.want != 200) || told != again {
				t.Errorf("%s, %q, %q: %d %v %s; want %d", code, c.style, c.body, w.Code, h, w.Body, c.want)
			}
		}
	}
}

// TestMismatchedHeadersAre400 checks that the response has status 400 if a message and
// its headers contradict each other, as MCP 2026-07-28 requires.
func TestMismatchedHeadersAre400(t *testing.T) {
	x, w := exchangeFor(t, paidCall)
	x.advance(refusedHeaders)
	x.Refuse(w, &gate.Refusal{Code: gate.ParamsInvalid})
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"id":"call-1"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
