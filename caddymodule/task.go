package caddymodule

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/tap"
)

// handsOut reports whether the answer to a message that costs nothing may hold
// a handle that only its account may come back with: a task's id, or the state of a
// request for input. It is read then, before it passes.
func (x *exchange) handsOut() bool {
	m := &x.message
	if m.Kind != mcp.KindRequest || !mcp.MayAsk(m.Method) {
		return false
	}
	return x.era == mcp.EraStateless || m.Task
}

// forwardFree sends a call on that costs nothing, and remembers whose the
// handle in its answer is.
func (x *exchange) forwardFree(call *gate.Call) error {
	ticket := call.Ticket(&x.message)
	if !x.settle(call, tap.Options{ID: x.message.ID, Seal: x.sealer(ticket), Bind: x.binder(ticket)}) {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// binder returns what remembers the handles in the answer to the ticket's
// request. The client's leaving does not hinder it.
func (x *exchange) binder(t *gate.Ticket) func(mcp.Outcome, []byte) *gate.Refusal {
	ctx := context.WithoutCancel(x.r.Context())
	return func(outcome mcp.Outcome, answer []byte) *gate.Refusal {
		return x.h.gate.Bind(ctx, x.key, t, outcome, answer)
	}
}

// notifies reports whether a notification of a task's status may pass.
func (x *exchange) notifies(message []byte) bool {
	return x.h.gate.Notifies(x.r.Context(), x.key, message)
}

// forwardTask sends on what is asked of a task. If the answer has its result,
// that is paid before it passes.
func (x *exchange) forwardTask(task *gate.Task) error {
	return x.settleTask(task, tap.Options{Seal: x.sealer(task.Ticket(&x.message))})
}

// resumeTask goes on with the answer to what was asked of a task.
func (x *exchange) resumeTask(t *gate.Ticket) error {
	x.message = mcp.Message{Kind: mcp.KindRequest, ID: t.Request, Method: t.Method}
	return x.settleTask(x.h.gate.ResumeTask(x.r.Context(), x.key, t), tap.Options{Seal: x.sealer(t), Resumed: true})
}

func (x *exchange) settleTask(task *gate.Task, o tap.Options) error {
	defer task.Suspend()
	o.ID = x.message.ID
	if x.message.Method != mcp.MethodTaskResult { // a report, which is read whole
		o.Rewrite, o.Hold = task.Dress, maxList
	}
	if task.ChargeID() != "" {
		repl := x.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		repl.Set("http.farebox.tool", task.Tool())
		repl.Set("http.farebox.charge", task.ChargeID())
		x.log(zap.String("farebox_tool", task.Tool()), zap.String("farebox_charge", task.ChargeID()))
	}
	complete := x.settle(task, o)
	if task.Captured() {
		x.log(zap.Bool("farebox_charged", true))
		x.count("charged")
	} else {
		x.count("allowed")
	}
	if !complete {
		panic(http.ErrAbortHandler)
	}
	return nil
}
