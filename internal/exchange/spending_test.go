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

// answerOf returns the response that a client gets to a refusal of paidCall.
func answerOf(t *testing.T, r *gate.Refusal) (status int, header http.Header, text string, field map[string]any) {
	t.Helper()
	x, w := exchangeFor(t, paidCall)
	x.Refuse(w, r)
	var message struct {
		ID     string
		Result struct {
			IsError bool
			Content []struct{ Type, Text string }
			Meta    map[string]map[string]any `json:"_meta"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &message); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if message.ID != "call-1" || !message.Result.IsError || len(message.Result.Content) != 1 || message.Result.Content[0].Type != "text" {
		t.Errorf("no tool result with an error and a text: %s", w.Body)
	}
	return w.Code, w.Header(), message.Result.Content[0].Text, message.Result.Meta["dev.farebox/error"]
}

// TestSpendingCapText checks the text that a model reads. The text names the cap
// that prevents the call, the amount left of the cap, and the time when the cap
// resets. It also says that nothing was charged. A program reads the same in _meta.
func TestSpendingCapText(t *testing.T) {
	tomorrow := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		cap   ledger.Cap
		text  string
		field string
	}{
		{ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Amount: 20_000_000, Spent: 19_000_000, Held: 995_000, Resets: tomorrow},
			"this call costs 0.01 USD, and of the 20.00 USD that this key of account acct_1 may spend in a day only 0.005 USD are left. The cap begins anew at 2026-12-01 00:00:00 (UTC); until then dearer calls than that will be refused, unless the operator of this gateway raises it.",
			`{"amount":"20.00","holder":"key","left":"0.005","period":"day","resets":"2026-12-01T00:00:00Z"}`},
		{ledger.Cap{Holder: ledger.HolderAccount, Period: ledger.PerMonth, Amount: 1_000_000, Spent: 2_000_000, Resets: tomorrow}, // the cap was lowered below the amount spent
			"of the 1.00 USD that account acct_1 may spend in a month only 0.00 USD are left. The cap begins anew at 2026-12-01 00:00:00 (UTC)",
			`{"amount":"1.00","holder":"account","left":"0.00","period":"month","resets":"2026-12-01T00:00:00Z"}`},
		{ledger.Cap{Holder: ledger.HolderServer, Period: ledger.PerDay, Amount: 1_000_000, Resets: tomorrow},
			"of the 1.00 USD that one account at this server may spend in a day only 1.00 USD are left.",
			`{"amount":"1.00","holder":"server","left":"1.00","period":"day","resets":"2026-12-01T00:00:00Z"}`},
		{ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerCall, Amount: 5_000},
			"this call costs 0.01 USD, and this key of account acct_1 may spend at most 0.005 USD on one call. Ask the operator of this gateway to raise the cap; until then every retry will be refused.",
			`{"amount":"0.005","holder":"key","left":"0.005","period":"call"}`},
	} {
		status, header, text, field := answerOf(t, &gate.Refusal{
			Code: gate.SpendingCap, Tool: "get_forecast", Price: 10_000, Currency: "USD", Cap: &ledger.CapError{Cap: c.cap, Needed: 10_000},
		})
		if status != http.StatusOK || header.Get("Retry-After") != "" {
			t.Errorf("status %d, header %v", status, header)
		}
		if !strings.HasPrefix(text, `The tool "get_forecast" was not called and nothing was charged: `) || !strings.Contains(text, c.text) {
			t.Errorf("the model reads %q; want %q in it", text, c.text)
		}
		cap, err := json.Marshal(field["cap"])
		if err != nil {
			t.Fatal(err)
		}
		if string(cap) != c.field || field["code"] != "SPENDING_CAP" || field["tool"] != "get_forecast" || field["price"] != "0.01" || field["currency"] != "USD" {
			t.Errorf("the program reads %v; want a cap of %s", field, c.field)
		}
	}
}

// TestIdempotencyTexts checks the three texts for a caller that repeats a call. The
// first advises the caller to wait, the second to use a new key, and the third says
// that the result is gone. Each text also says that nothing more was charged, or
// that the tool was not called again.
func TestIdempotencyTexts(t *testing.T) {
	for _, c := range []struct {
		refusal gate.Refusal
		words   []string
		waits   any
	}{
		{gate.Refusal{Code: gate.CallInFlight, Tool: "get_forecast", RetryAfter: 2 * time.Second},
			[]string{`The tool "get_forecast" was not called again`, "still under way", "Wait", "same call again"}, 2000.0},
		{gate.Refusal{Code: gate.IdempotencyKeyReused, Tool: "get_forecast"},
			[]string{`The tool "get_forecast" was not called and nothing was charged`, "stands for another call", "new key"}, nil},
		{gate.Refusal{Code: gate.ResultGone, Tool: "get_forecast"},
			[]string{`The tool "get_forecast" was not called again and nothing more was charged`, "not kept", "use a new key"}, nil},
	} {
		status, header, text, field := answerOf(t, &c.refusal)
		if status != http.StatusOK || header.Get("Retry-After") != "" {
			t.Errorf("%s: status %d, header %v", c.refusal.Code, status, header)
		}
		for _, word := range c.words {
			if !strings.Contains(text, word) {
				t.Errorf("%s: the model reads %q; want %q in it", c.refusal.Code, text, word)
			}
		}
		if field["code"] != string(c.refusal.Code) || field["tool"] != "get_forecast" || field["retry_after_ms"] != c.waits || field["price"] != nil {
			t.Errorf("%s: the program reads %v", c.refusal.Code, field)
		}
	}
	for code, want := range map[gate.Code]string{gate.CallInFlight: "IDEMPOTENCY_IN_FLIGHT", gate.IdempotencyKeyReused: "IDEMPOTENCY_KEY_REUSED", gate.ResultGone: "RESULT_GONE", gate.SpendingCap: "SPENDING_CAP"} {
		if string(code) != want {
			t.Errorf("the code %s is not %s, which clients know", code, want)
		}
	}
}

// TestSpendingRefusalsWithoutATool checks refusals of spending for requests other than
// tools/call. Such a refusal is a JSON-RPC error, because only the result of a
// tools/call can carry a refusal.
func TestSpendingRefusalsWithoutATool(t *testing.T) {
	for code, rpc := range map[gate.Code]int{gate.SpendingCap: 402, gate.CallInFlight: 409, gate.IdempotencyKeyReused: 409, gate.ResultGone: 410} {
		x, w := exchangeFor(t, `{"jsonrpc":"2.0","id":"call-1","method":"ping"}`)
		x.Refuse(w, &gate.Refusal{Code: code, Cap: &ledger.CapError{}})
		var message struct {
			Error struct{ Code int }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &message); err != nil || message.Error.Code != rpc {
			t.Errorf("%s: %s (%v)", code, w.Body, err)
		}
	}
}

// TestIdempotencyKeyOfTheHeader checks that an idempotency key of 1 to 256 bytes is
// accepted in one header or in _meta. Two different keys are refused as ambiguous.
func TestIdempotencyKeyOfTheHeader(t *testing.T) {
	longest := strings.Repeat("k", mcp.MaxIdempotencyKey)
	for name, c := range map[string]struct {
		meta   string
		header []string
		key    string
		reason string
	}{
		"none":          {"", nil, "", ""},
		"header":        {"", []string{"a"}, "a", ""},
		"meta":          {"m", nil, "m", ""},
		"both, alike":   {"m", []string{"m"}, "m", ""},
		"longest":       {"", []string{longest}, longest, ""},
		"too long":      {"", []string{longest + "k"}, "", "1 to 256 bytes"},
		"empty":         {"", []string{""}, "", "1 to 256 bytes"},
		"two":           {"", []string{"a", "a"}, "", "more than one"},
		"both, unalike": {"m", []string{"M"}, "m", "differ"},
	} {
		x, _ := exchangeFor(t, paidCall)
		x.retry, x.message.IdempotencyKey = c.header, c.meta
		refusal := x.readIdempotencyKey()
		switch {
		case c.reason == "" && (refusal != nil || x.message.IdempotencyKey != c.key):
			t.Errorf("%s: key %q, %v", name, x.message.IdempotencyKey, refusal)
		case c.reason != "" && (refusal == nil || refusal.Code != gate.ParamsInvalid || !strings.Contains(refusal.Reason, c.reason)):
			t.Errorf("%s: %v, want %q", name, refusal, c.reason)
		}
	}
}
