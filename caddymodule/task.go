package caddymodule

import (
	"context"

	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// binder returns what remembers the handles in the answer to the ticket's
// request. The client's leaving does not hinder it.
func (x *exchange) binder(t *gate.Ticket) func(mcp.Outcome, []byte) *gate.Refusal {
	ctx := context.WithoutCancel(x.r.Context())
	return func(outcome mcp.Outcome, answer []byte) *gate.Refusal {
		return x.h.gate.Bind(ctx, x.key, t, outcome, answer)
	}
}

// notifies reports whether a notification may pass that is not for every caller. Streams
// live long: the key is judged as it is now, not as it was when it opened this one.
func (x *exchange) notifies(message []byte) bool {
	ctx := x.r.Context()
	key, refusal := x.h.gate.Check(ctx, x.client(), x.key.Digest)
	return refusal == nil && x.h.gate.Notifies(ctx, key, message)
}

// forwardTask sends on what is asked of a task. If the answer has its result,
// that is paid before it passes.
func (x *exchange) forwardTask(task *gate.Task) error {
	o := intercept.Options{Seal: x.sealer(task.Ticket(&x.message))}
	return x.settleTask(task, o, x.settle)
}

// resumeTask goes on with the answer to what was asked of a task.
func (x *exchange) resumeTask(t *gate.Ticket) error {
	x.message = mcp.Message{Kind: mcp.KindRequest, ID: t.Request, Method: t.Method}
	ctx, cancel := context.WithTimeout(x.r.Context(), duration(x.h.MaxCall))
	defer cancel()
	o := intercept.Options{Seal: x.sealer(t), Resumed: true}
	task, refusal := x.h.gate.ResumeTask(ctx, x.key, t)
	if refusal != nil {
		x.refuse(refusal)
		return nil
	}
	return x.settleTask(task, o, func(call settled, o intercept.Options) bool {
		return x.settleStream(ctx, call, t, o)
	})
}

// settleTask has settle send the request on, and counts what came of it.
func (x *exchange) settleTask(task *gate.Task, o intercept.Options, settle func(settled, intercept.Options) bool) error {
	defer task.Suspend()
	o.ID = x.message.ID
	if x.message.Method != mcp.MethodTaskResult { // a report, which is read whole
		o.Rewrite, o.Hold = task.Dress, maxList
	}
	if task.ChargeID() != "" {
		x.identifyCharge(task.Tool(), task.ChargeID())
	}
	complete := settle(task, o)
	if task.Captured() {
		x.log(zap.Bool("farebox_charged", true))
		x.count("charged")
	} else {
		x.count("allowed")
	}
	return finished(complete)
}
