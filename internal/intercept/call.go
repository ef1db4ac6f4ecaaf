package intercept

import (
	"context"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// settleContext returns a context that does not end when the client leaves, so that a
// settlement always completes.
func (i *Interceptor) settleContext() context.Context { return context.WithoutCancel(i.o.Client) }

// gone reports whether the client has left.
func (i *Interceptor) gone() bool { return i.left || i.o.Client.Err() != nil }

// judge settles the call by the outcome of its response and reports whether the
// response may be sent. If it may not, judge has already ended the response. The
// message is nil if it was too long to hold.
func (i *Interceptor) judge(outcome mcp.Outcome, message []byte) ([]mcp.Field, bool) {
	v := judgeOutcome(outcomeFacts{
		outcome: outcome, charged: i.o.Call.Charges(outcome), paid: i.paid(), binds: i.o.Bind != nil,
		abandoned: i.gone() && !i.o.Call.ChargesAbandoned(),
	})
	switch v.action {
	case withhold:
		i.refuse(upstreamFailed(v.reason))
		return nil, false
	case abandon:
		i.abandon()
		return nil, false
	}
	if !i.bind(outcome, message) {
		return nil, false
	}
	if v.action == suspend {
		i.o.Call.Suspend()
		if i.gone() {
			i.leave()
			return nil, false
		}
		return nil, true
	}
	fields, refusal := i.o.Call.Settle(i.settleContext(), outcome, message)
	if refusal != nil {
		i.refuse(refusal)
		return nil, false
	}
	switch judgeSettled(i.gone(), message != nil && i.o.Call.Keeps() || i.resumable()).action {
	case leave:
		i.leave()
		return nil, false
	case abandon:
		i.abandon()
		return nil, false
	}
	return fields, true
}

// paid reports whether the call has a price.
func (i *Interceptor) paid() bool {
	return i.o.Call.Charges(mcp.OutcomeResult) || i.o.Call.Charges(mcp.OutcomeToolError)
}

// chargeableOutcome returns an outcome for which the call is charged. If a response is
// too long to keep in memory, the call is charged as if the response had this outcome,
// because its real outcome is not known yet.
func (i *Interceptor) chargeableOutcome() mcp.Outcome {
	if i.o.Call.Charges(mcp.OutcomeResult) {
		return mcp.OutcomeResult
	}
	return mcp.OutcomeToolError
}

// mayBePaidElsewhere reports whether the current long event may carry a result that
// another call pays for. A guarded notification, such as one about a task, may carry
// such a result. On the stream of a free call, which captures nothing, any event may
// carry such a result if the event has data and has not been recognised yet.
func (i *Interceptor) mayBePaidElsewhere() bool {
	e := i.events
	return e.Guarded() || !i.paid() && !e.Passing() && !e.HasResult() && e.HasData()
}

// bind records the owner of the handle in the response, if the response has a handle.
// It reports whether the response may be sent. If it may not, bind has already refused
// the call.
func (i *Interceptor) bind(outcome mcp.Outcome, message []byte) bool {
	if i.o.Bind == nil || outcome != mcp.OutcomeTask && outcome != mcp.OutcomeInputRequired {
		return true
	}
	refusal := i.o.Bind(outcome, message)
	if refusal != nil {
		i.refuse(refusal)
	}
	return refusal == nil
}

// addMeta merges the fields into the _meta of the response, or of the response within
// an event, and then applies Options.Rewrite. It removes the _meta fields that only the
// gateway may set. It returns false if the response may not be sent; addMeta has then
// already refused the call.
func (i *Interceptor) addMeta(response []byte, event bool, outcome mcp.Outcome, fields []mcp.Field) ([]byte, bool) {
	var err error
	if len(fields) > 0 || outcome != mcp.OutcomeError {
		add := mcp.AddMeta
		if event {
			add = mcp.AddMetaToEvent
		}
		if response, err = add(response, fields); err != nil {
			i.refuse(upstreamFailed("its answer cannot carry a receipt: " + err.Error()))
			return nil, false
		}
	}
	if i.o.Rewrite != nil {
		if response, err = i.o.Rewrite(response, event); err != nil {
			i.refuse(upstreamFailed("its answer cannot be rewritten: " + err.Error()))
			return nil, false
		}
	}
	return response, true
}

// refuse rejects the upstream's response: it ends the call without a charge and sends
// the refusal.
func (i *Interceptor) refuse(r *gate.Refusal) {
	i.o.Call.Release(i.settleContext())
	i.sendRefusal(r)
}

// fail ends a call that got no response and sends the refusal. If the call was
// captured for a long event that turned out not to be the response, the charge is
// refunded.
func (i *Interceptor) fail(r *gate.Refusal) {
	if i.stage == precaptured {
		i.o.Call.Release(i.settleContext())
	} else {
		i.endUnanswered()
	}
	i.sendRefusal(r)
}

// abandon ends a call after its client has left, and sends nothing to the client. A
// call that does not charge abandoned responses ends as if it had got no response.
func (i *Interceptor) abandon() {
	if !i.o.Call.ChargesAbandoned() {
		i.endUnanswered()
	}
	i.leave()
}

// endUnanswered ends a call that got no response. It suspends the call if the client
// can come back for the response, and releases it otherwise.
func (i *Interceptor) endUnanswered() {
	if i.resumable() {
		i.o.Call.Suspend()
	} else {
		i.o.Call.Release(i.settleContext())
	}
}

// leave ends a response that is not complete: nothing more is sent, and the connection
// is cut.
func (i *Interceptor) leave() {
	i.step(finish)
	i.broken = true
}

// cutOff ends the call in the middle of an event that was sent in part and may not be
// completed. Without its last byte, clients discard the event.
func (i *Interceptor) cutOff() {
	i.o.Call.Release(i.settleContext())
	i.leave()
	if i.o.Cancel != nil {
		i.o.Cancel()
	}
}

// refundPart refunds a response that was sent in part. Two kinds of client get no
// refund. A client that broke the response off may have read all it wanted. A client
// that resumed the stream may have received the whole response earlier.
func (i *Interceptor) refundPart(broken bool) {
	i.broken = broken
	if !i.gone() && !i.o.Resumed {
		i.o.Call.Release(i.settleContext())
	}
}
