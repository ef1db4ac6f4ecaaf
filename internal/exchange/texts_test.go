package exchange

import (
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestRefusalsNameWhatWasRefused checks that a refusal names the refused item with
// its kind. Only tools have results with isError, so a refusal of another item is a
// JSON-RPC error.
func TestRefusalsNameWhatWasRefused(t *testing.T) {
	for name, c := range map[string]struct{ request, begins string }{
		"get_forecast":         {paidCall, `The tool \"get_forecast\" was not called`},
		"prompt:essay":         {`{"jsonrpc":"2.0","id":"call-1","method":"prompts/get","params":{"name":"essay"}}`, `The prompt \"essay\" was not fetched`},
		"resource:docs://a":    {`{"jsonrpc":"2.0","id":"call-1","method":"resources/read","params":{"uri":"docs://a"}}`, `The resource \"docs://a\" was not read`},
		"method:vendor/thing":  {`{"jsonrpc":"2.0","id":"call-1","method":"vendor/thing"}`, `The method \"vendor/thing\" was not called`},
		"prompt:resource:a://": {`{"jsonrpc":"2.0","id":"call-1","method":"prompts/get","params":{"name":"resource:a://"}}`, `The prompt \"resource:a://\" was not fetched`},
	} {
		for _, refusal := range []gate.Refusal{
			{Code: gate.InsufficientBalance, Price: 10_000, Available: 2_500, Currency: "USD"},
			{Code: gate.SpendingCap, Cap: &ledger.CapError{Cap: ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Amount: 20_000}}},
			{Code: gate.SpendingCap, Cap: &ledger.CapError{Cap: ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerCall, Amount: 20_000}}},
			{Code: gate.PriceAboveMax, Price: 10_000, Maximum: 2_500}, {Code: gate.RateLimited, RetryAfter: time.Second},
			{Code: gate.CallInFlight, RetryAfter: time.Second}, {Code: gate.IdempotencyKeyReused}, {Code: gate.ResultGone},
		} {
			refusal.Tool = name
			x, w := exchangeFor(t, c.request)
			x.Refuse(w, &refusal)
			body := w.Body.String()
			if !strings.Contains(body, c.begins) || !strings.Contains(body, `"tool":"`+name+`"`) || w.Code != 200 {
				t.Errorf("%s of %s: %d %s", refusal.Code, name, w.Code, body)
			}
			if strings.Contains(body, `"isError"`) != (name == "get_forecast") || strings.Contains(body, `"error":{"code":4`) == (name == "get_forecast") {
				t.Errorf("%s of %s has the wrong form: %s", refusal.Code, name, body)
			}
		}
	}
}
