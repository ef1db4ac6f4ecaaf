package intercept

import (
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// writeBody takes a piece of a JSON response.
func (i *Interceptor) writeBody(p []byte) error {
	i.body.Write(p)
	switch i.state {
	case holdBody:
		return i.keep(p)
	case streamBody:
		return i.send(p)
	}
	return nil
}

// endBody ends a JSON response.
func (i *Interceptor) endBody(failure *gate.Refusal) {
	switch {
	case i.state == streamBody:
		i.endStream(failure)
	case i.state == readBody:
		i.endUnseen(failure)
	case failure != nil:
		i.fail(failure)
	default:
		i.endHeld()
	}
}

// endHeld sends a body that is held whole, or refuses it.
func (i *Interceptor) endHeld() {
	v := i.body.End()
	switch verdict := judgeBody(v, i.status, i.body.HasResult()); verdict.action {
	case pass:
		i.endUnanswered()
		i.sendBody(i.hold)
	case settle:
		fields, ok := i.judge(v.Outcome, i.hold)
		if !ok {
			return
		}
		if body, ok := i.addMeta(i.hold, false, v.Outcome, fields); ok {
			i.sendBody(body)
		}
	default:
		i.refuse(upstreamFailed(verdict.reason))
	}
}

// endStream judges a long response that has been captured and streamed.
func (i *Interceptor) endStream(failure *gate.Refusal) {
	v := i.body.End()
	i.step(finish)
	if v.Class != mcp.ClassAnswer || !i.o.Call.Charges(v.Outcome) {
		i.refundPart(failure != nil || v.Class != mcp.ClassAnswer)
		return
	}
	i.broken = failure != nil // the whole response was sent, so it is charged even if the upstream failed later
}

// endUnseen settles the call by a long response that could not be sent, because the
// client had left.
func (i *Interceptor) endUnseen(failure *gate.Refusal) {
	v := i.body.End()
	i.step(finish)
	switch {
	case failure != nil:
		i.refuse(failure)
	case v.Class != mcp.ClassAnswer:
		i.refuse(upstreamFailed(unmatched(v)))
	default:
		i.judge(v.Outcome, nil)
	}
}
