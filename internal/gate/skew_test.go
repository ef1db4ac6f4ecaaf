package gate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestClocksDoNotDecideWhoCaptured checks that the store decides whether a resumed call
// made the capture itself or found that an earlier stream had made it. No matter how
// the clocks of store and gateway differ, a delivered response stays charged and counts
// once. A call refunds only a capture that it made itself and could not deliver. The
// same holds for tasks.
func TestClocksDoNotDecideWhoCaptured(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Minute, 0, time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			b, ctx := skewedBench(t, ahead), context.Background()
			secret := b.key(t, nil)
			key := b.callerOf(t, secret)
			suspended := func() *Ticket {
				t.Helper()
				call, refusal := b.call(t, secret, toolCall("cheap"))
				if refusal != nil {
					t.Fatal(refusal)
				}
				call.TicketOut()
				ticket := call.Ticket(&mcp.Message{Method: "tools/call"})
				call.Suspend()
				return ticket
			}
			resumed := func(ticket *Ticket) *Call {
				t.Helper()
				call, refusal := b.Resume(t.Context(), key, ticket)
				if refusal == nil {
					_, refusal = call.Settle(ctx, mcp.OutcomeResult, nil)
				}
				if refusal != nil {
					t.Fatal(refusal)
				}
				return call
			}
			ticket := suspended()
			resumed(ticket).Close(ctx) // this stream delivered the response
			again := resumed(ticket)
			again.Release(ctx) // this stream did not deliver the response, but must not refund the charge of the first stream
			again.Close(ctx)
			if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
				t.Errorf("after a result that was delivered: %+v", got)
			}
			lost := resumed(suspended())
			lost.Release(ctx)
			lost.Close(ctx)
			if got := b.balance(t, false); got != (ledger.Balance{Posted: 40_000}) {
				t.Errorf("after a result that was not delivered: %+v", got)
			}
			if got := fmt.Sprint(b.meter.results); got != "[suspended captured suspended captured refunded]" {
				t.Errorf("counted %s", got)
			}

			if refusal := b.accepted(t, secret, "cheap", "t"); refusal != nil {
				t.Fatal(refusal)
			}
			for i := range 2 {
				task, refusal := b.ask(t, secret, mcp.MethodTaskResult, "t")
				if refusal == nil {
					_, refusal = task.Settle(ctx, mcp.OutcomeResult, nil)
				}
				if refusal != nil || task.Captured() != (i == 0) {
					t.Errorf("asked %d times: paid now %v, %v", i+1, task != nil && task.Captured(), refusal)
				}
			}
		})
	}
}
