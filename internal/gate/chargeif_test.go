package gate

import (
	"context"
	"fmt"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

func resultOf(structured string) []byte {
	return []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":` + structured + `}}`)
}

// TestChargeIf checks promise 2 of docs/promises.md, for results that report failure in
// a field of their own. A result that the operator's condition rejects is released like
// a tool error. A result that the condition cannot judge is charged, as it would be
// without a condition. Such a result is also counted as unjudged.
func TestChargeIf(t *testing.T) {
	for name, c := range map[string]struct {
		answer  []byte
		outcome mcp.Outcome
		counted string
	}{
		"yes":               {resultOf(`{"ok":true}`), mcp.OutcomeResult, "[captured]"},
		"no":                {resultOf(`{"ok":false}`), mcp.OutcomeResult, "[released]"},
		"not to be told":    {resultOf(`{}`), mcp.OutcomeResult, "[unjudged captured]"},
		"no bool":           {resultOf(`{"ok":"yes"}`), mcp.OutcomeResult, "[unjudged captured]"},
		"not at hand":       {nil, mcp.OutcomeResult, "[unjudged captured]"},
		"an error of tools": {resultOf(`{"ok":true}`), mcp.OutcomeToolError, "[released]"},
	} {
		t.Run(name, func(t *testing.T) {
			b, ctx := newBench(t), context.Background()
			call, refusal := b.call(t, b.key(t, nil), toolCall("judged"))
			if refusal != nil {
				t.Fatal(refusal)
			}
			if !call.Reads() {
				t.Error("it does not ask for the answer")
			}
			fields, refusal := call.Settle(ctx, c.outcome, c.answer)
			if refusal != nil {
				t.Fatal(refusal)
			}
			call.Close(ctx)
			want := ledger.Balance{Posted: 50_000}
			if call.Captured() {
				want.Posted -= 1_000
			}
			if got := b.balance(t, false); got != want || fmt.Sprint(b.meter.results) != c.counted || (len(fields) == 2) != call.Captured() {
				t.Errorf("balance %+v, %d fields, counted %v; want %s", got, len(fields), b.meter.results, c.counted)
			}
		})
	}
}

// TestChargeIfOfTasks checks that the condition also judges the result of a task,
// both in a response of its own and embedded in a status.
func TestChargeIfOfTasks(t *testing.T) {
	for method, form := range map[string]string{
		mcp.MethodTaskResult: `{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"ok":%v}}}`,
		mcp.MethodTaskGet:    `{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","status":"completed","result":{"structuredContent":{"ok":%v}}}}`,
	} {
		for _, ok := range []bool{true, false} {
			b, ctx := newBench(t), context.Background()
			secret := b.key(t, nil)
			if refusal := b.accepted(t, secret, "judged", "t"); refusal != nil {
				t.Fatal(refusal)
			}
			want := map[bool]ledger.Balance{true: {Posted: 49_000}, false: {Posted: 50_000}}[ok]
			for range 2 {
				task, refusal := b.ask(t, secret, method, "t")
				if refusal != nil {
					t.Fatal(refusal)
				}
				if _, refusal := task.Settle(ctx, mcp.OutcomeResult, fmt.Appendf(nil, form, ok)); refusal != nil {
					t.Fatal(refusal)
				}
				if got := b.balance(t, false); got != want {
					t.Errorf("%s, %v: balance %+v", method, ok, got)
				}
			}
		}
	}
}

// TestChargeIfOfResumedCalls checks that the condition of the price still judges a
// call that is resumed after its stream broke off.
func TestChargeIfOfResumedCalls(t *testing.T) {
	b, ctx := newBench(t), context.Background()
	secret := b.key(t, nil)
	call, refusal := b.call(t, secret, toolCall("judged"))
	if refusal != nil {
		t.Fatal(refusal)
	}
	ticket := call.Ticket(&mcp.Message{Method: "tools/call"})
	call.TicketOut()
	call.Suspend()
	resumed, refusal := b.Resume(t.Context(), b.callerOf(t, secret), ticket)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := resumed.Settle(ctx, mcp.OutcomeResult, resultOf(`{"ok":false}`)); refusal != nil {
		t.Fatal(refusal)
	}
	if got := b.balance(t, false); got != (ledger.Balance{Posted: 50_000}) || resumed.Captured() {
		t.Errorf("balance %+v", got)
	}
}
