package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

var outcomes = []mcp.Outcome{
	mcp.OutcomeResult, mcp.OutcomeToolError, mcp.OutcomeError, mcp.OutcomeInputRequired, mcp.OutcomeTask, mcp.OutcomeUnknown,
}

// TestChargeOn checks that each rule charges each outcome that it names, once, and no
// other outcome. A charge comes with a receipt wherever the response can carry one.
func TestChargeOn(t *testing.T) {
	charged := map[string]map[mcp.Outcome]bool{
		"success":      {mcp.OutcomeResult: true},
		"tool_error":   {mcp.OutcomeResult: true, mcp.OutcomeToolError: true},
		"errors_alone": {mcp.OutcomeToolError: true},
		"abandoned":    {mcp.OutcomeResult: true},
		"started": {mcp.OutcomeResult: true, mcp.OutcomeToolError: true, mcp.OutcomeError: true,
			mcp.OutcomeInputRequired: true, mcp.OutcomeTask: true, mcp.OutcomeUnknown: true},
	}
	for tool, charged := range charged {
		b := newBench(t)
		for _, outcome := range outcomes {
			t.Run(tool+" "+outcome.String(), func(t *testing.T) {
				ctx, before := context.Background(), b.balance(t, false).Posted
				call, refusal := b.call(t, b.key(t, nil), toolCall(tool))
				if refusal != nil {
					t.Fatal(refusal)
				}
				if refusal := call.Start(ctx); refusal != nil {
					t.Fatal(refusal)
				}
				if ahead := b.balance(t, false).Posted < before; ahead != (tool == "started") || call.Captured() != ahead {
					t.Errorf("charged before it is forwarded: %v", ahead)
				}
				if call.Charges(outcome) != charged[outcome] {
					t.Errorf("Charges says %v", call.Charges(outcome))
				}
				fields, refusal := call.Settle(ctx, outcome, nil)
				if refusal != nil {
					t.Fatal(refusal)
				}
				if want := charged[outcome] && outcome != mcp.OutcomeError; (len(fields) == 2) != want {
					t.Errorf("%d fields", len(fields))
				}
				if again, _ := call.Settle(ctx, outcome, nil); again != nil {
					t.Error("a second receipt")
				}
				call.Close(ctx)
				want := ledger.Balance{Posted: before}
				if charged[outcome] {
					want.Posted -= 1_000
				}
				if got := b.balance(t, false); got != want || call.Captured() != charged[outcome] {
					t.Errorf("balance %+v, want %+v", got, want)
				}
			})
		}
	}
}

// TestStartedIsNeverTakenBack checks that a call that was charged at its start
// stays charged, no matter how it ends. Start does not charge calls with other
// rules.
func TestStartedIsNeverTakenBack(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	call, refusal := b.call(t, b.key(t, nil), toolCall("started"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	for range 2 { // the second Start changes nothing
		if refusal := call.Start(ctx); refusal != nil {
			t.Fatal(refusal)
		}
	}
	call.Release(ctx)
	call.Close(ctx)
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 49_000}) || !call.Captured() {
		t.Errorf("balance %+v", got)
	}
	if fmt.Sprint(b.meter.results) != "[captured]" {
		t.Errorf("counted %v", b.meter.results)
	}
	free, refusal := b.call(t, b.key(t, nil), toolCall("free"))
	if refusal != nil || free.Start(ctx) != nil || free.Charges(mcp.OutcomeResult) {
		t.Error("a free call was charged")
	}
	free.Abandoned(true)
	if len(b.left.noted) != 0 {
		t.Error("a free call was counted as abandoned")
	}
}

// TestStartFails checks a call that cannot be charged at its start. The call is
// refused, and its reservation is given back.
func TestStartFails(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	call, refusal := b.call(t, b.key(t, nil), toolCall("started"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if err := b.store.Release(ctx, call.ID()); err != nil { // the reservation is gone, as if it had expired
		t.Fatal(err)
	}
	if refusal := call.Start(ctx); refusal == nil || refusal.Code != ChargeFailed || !strings.Contains(refusal.Reason, "not sent") {
		t.Errorf("got %v", refusal)
	}
	call.Close(ctx)
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) || call.Captured() {
		t.Errorf("balance %+v", got)
	}
}

// TestAbandonedIsCounted checks that an abandoned call counts against its lineage,
// unless its response is charged anyway. If the call is cut when its client
// disconnects, there is no response to charge. A cut call therefore counts unless it
// was charged at its start.
func TestAbandonedIsCounted(t *testing.T) {
	for tool, want := range map[string][2]bool{ // whether the call counts if it goes on, and whether it counts if it is cut
		"cheap":      {true, true},
		"tool_error": {true, true},
		"abandoned":  {false, true},
		"started":    {false, false},
	} {
		for i, cut := range []bool{false, true} {
			b := newBench(t)
			call, refusal := b.call(t, b.key(t, nil), toolCall(tool))
			if refusal != nil {
				t.Fatal(refusal)
			}
			call.Abandoned(cut)
			if counted := len(b.left.noted) == 1; counted != want[i] || counted && b.left.noted[0] != call.order.Lineage {
				t.Errorf("%s, cut %v: noted %v", tool, cut, b.left.noted)
			}
			if charges := tool == "abandoned" || tool == "started"; call.ChargesAbandoned() != charges {
				t.Errorf("%s: ChargesAbandoned is %v", tool, call.ChargesAbandoned())
			}
			call.Close(context.Background())
		}
	}
}

// TestFrequentAbandonersAreRefused checks a key that has abandoned too many calls. The
// key's paid calls are refused for a stated time, and nothing is reserved for them. Its
// free calls are still accepted.
func TestFrequentAbandonersAreRefused(t *testing.T) {
	b := newBench(t)
	b.left.wait = 1500 * time.Millisecond
	secret := b.key(t, nil)
	_, refusal := b.call(t, secret, toolCall("cheap"))
	if refusal == nil || refusal.Code != RateLimited || refusal.RetryAfter != b.left.wait || refusal.Tool != "cheap" {
		t.Errorf("got %+v", refusal)
	}
	if _, refusal := b.call(t, secret, toolCall("free")); refusal != nil {
		t.Errorf("a free call: %v", refusal)
	}
	if held := b.balance(t, false).Reserved; held != 0 {
		t.Errorf("%s is reserved", held)
	}
}

// TestPriceByExpression checks that the exact price that an expression computes is
// reserved and charged. A call that the expression cannot price is refused with a
// code of its own. A call with a computed price of zero is free.
func TestPriceByExpression(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	message := func(arguments string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"by_length"` + arguments + `}}`
	}
	call, refusal := b.call(t, secret, message(`,"arguments":{"text":"`+strings.Repeat("x", 1234)+`"}`))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if held := b.balance(t, false).Reserved; held != 2468 || call.Price() != 2468 {
		t.Errorf("%s reserved for a price of %s", held, call.Price())
	}
	if _, refusal := call.Settle(context.Background(), mcp.OutcomeResult, nil); refusal != nil {
		t.Fatal(refusal)
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000 - 2468}) {
		t.Errorf("balance %+v", got)
	}
	if call, refusal := b.call(t, secret, message(`,"arguments":{"text":""}`)); refusal != nil || call.Paid() {
		t.Errorf("a price of zero: %v", refusal)
	}
	for arguments, want := range map[string]string{
		``:                            "cannot be computed",
		`,"arguments":{"text":12345}`: "cannot be computed",
		`,"arguments":{"text":"` + strings.Repeat("x", 10_001) + `"}`: "above the most that it may be, 0.02",
	} {
		_, refusal := b.call(t, secret, message(arguments))
		if refusal == nil || refusal.Code != PriceRefused || !strings.Contains(refusal.Reason, want) || strings.Contains(refusal.Error(), "12345") {
			t.Errorf("%.40s: got %v", arguments, refusal)
		}
	}
	if held := b.balance(t, false).Reserved; held != 0 {
		t.Errorf("%s is still reserved", held)
	}
}

// TestMaximumOfTheCaller checks that a caller's own maximum refuses only higher
// prices. A maximum that is not an amount is refused before anything is priced.
func TestMaximumOfTheCaller(t *testing.T) {
	b := newBench(t)
	secret := b.key(t, nil)
	message := func(tool, most string) string {
		text, err := json.Marshal(most)
		if err != nil {
			t.Fatal(err)
		}
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"text":"xxxx"},"_meta":{"dev.farebox/max-price":` + string(text) + `}}}`
	}
	for _, c := range []struct {
		tool, most string
		code       Code
	}{
		{"cheap", "0.01", ""},
		{"cheap", "5", ""},
		{"cheap", "0.009999", PriceAboveMax},
		{"cheap", "0", PriceAboveMax},
		{"by_length", "0.000008", ""},
		{"by_length", "0.000007", PriceAboveMax},
		{"free", "0", ""},
		{"dear", "2", InsufficientBalance},
		{"cheap", "-1", ParamsInvalid},
		{"cheap", "0.0000001", ParamsInvalid},
		{"cheap", "1e3", ParamsInvalid},
		{"cheap", " 1", ParamsInvalid},
		{"cheap", "1 USD", ParamsInvalid},
		{"cheap", "9999999999999999", ParamsInvalid},
		{"free", "much", ParamsInvalid},
		{"other", "much", ParamsInvalid},
		{"other", "1", ToolUnknown},
	} {
		call, refusal := b.call(t, secret, message(c.tool, c.most))
		switch {
		case c.code == "" && refusal != nil, c.code != "" && (refusal == nil || refusal.Code != c.code):
			t.Errorf("%s for %q: got %v, want %q", c.tool, c.most, refusal, c.code)
		case c.code == "":
			call.Close(context.Background())
		case c.code == PriceAboveMax && (refusal.Price <= refusal.Maximum || refusal.Currency != "USD" || refusal.Tool != c.tool):
			t.Errorf("%s for %q: %+v", c.tool, c.most, refusal)
		}
	}
	if held := b.balance(t, false).Reserved; held != 0 {
		t.Errorf("%s is still reserved", held)
	}
}
