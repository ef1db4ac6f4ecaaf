package intercept

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// settleContext outlives the client: a settlement is never given up half-way.
func (t *Tap) settleContext() context.Context { return context.WithoutCancel(t.o.Client) }

// gone reports whether the client has left.
func (t *Tap) gone() bool { return t.left || t.o.Client.Err() != nil }

// settle ends the call by the answer's outcome. It reports whether the answer
// may go; if not, it has said to the client what there is to say. The message is
// nil if it is not at hand.
func (t *Tap) settle(outcome mcp.Outcome, message []byte) ([]mcp.Field, bool) {
	if t.paid() && (outcome == mcp.OutcomeTask && t.o.Bind == nil || outcome == mcp.OutcomeUnknown) {
		t.refuse(upstreamFailed("its result is of a type that cannot be priced"))
		return nil, false
	}
	if t.gone() && !t.o.Call.ChargesAbandoned() {
		t.abandon()
		return nil, false
	}
	if !t.bind(outcome, message) {
		return nil, false
	}
	if outcome == mcp.OutcomeTask && t.o.Bind != nil && !t.o.Call.Charges(outcome) {
		// Its result will be paid, when it is asked for.
		t.o.Call.Suspend()
		if t.gone() {
			t.leave()
			return nil, false
		}
		return nil, true
	}
	fields, refusal := t.o.Call.Settle(t.settleContext(), outcome, message)
	if refusal != nil {
		t.refuse(refusal)
		return nil, false
	}
	if t.gone() { // before or during the capture: nothing of the answer is out yet
		if message != nil && t.o.Call.Keeps() || t.resumable() {
			t.leave() // who comes back gets it for this charge
		} else {
			t.abandon()
		}
		return nil, false
	}
	return fields, true
}

// paid reports whether the call has a price.
func (t *Tap) paid() bool {
	return t.o.Call.Charges(mcp.OutcomeResult) || t.o.Call.Charges(mcp.OutcomeToolError)
}

// tooLong reports whether the event at hand, which is too long to be held, may
// bring what is paid elsewhere: what is told of a task, or, where nothing is
// captured for it, anything of which it is not known yet what it is.
func (t *Tap) tooLong() bool {
	return t.events.Guarded() || !t.paid() && !t.events.Passing() && !t.events.HasResult() && t.events.HasData()
}

// bind remembers whose the answer's handle is, if it has one. It reports
// whether the answer may go on; if not, it has said so to the client.
func (t *Tap) bind(outcome mcp.Outcome, message []byte) bool {
	if t.o.Bind == nil || outcome != mcp.OutcomeTask && outcome != mcp.OutcomeInputRequired {
		return true
	}
	refusal := t.o.Bind(outcome, message)
	if refusal != nil {
		t.refuse(refusal)
	}
	return refusal == nil
}

// abandon ends a call whose client has left: nothing is written, and nothing
// charged unless the call was settled for that.
func (t *Tap) abandon() {
	if !t.o.Call.ChargesAbandoned() {
		t.drop()
	}
	t.leave()
}

// drop ends a call that has had no answer, unless its client may come back for
// it.
func (t *Tap) drop() {
	if t.resumable() {
		t.o.Call.Suspend()
	} else {
		t.o.Call.Release(t.settleContext())
	}
}

// leave ends the response to a client that is gone.
func (t *Tap) leave() {
	t.mode = modeDone
	t.broken = true
}

// judgeBody lets a whole JSON body go, or not.
func (t *Tap) judgeBody() {
	v := t.body.End()
	if t.status >= 400 && !t.body.HasResult() {
		t.drop()
		t.sendBody(t.hold)
		return
	}
	if v.Class != mcp.ClassAnswer || t.status >= 400 { // an error status with a result in it
		t.refuse(upstreamFailed("its answer cannot be matched: " + reasonOf(v)))
		return
	}
	fields, ok := t.settle(v.Outcome, t.hold)
	if !ok {
		return
	}
	body, ok := t.dress(t.hold, false, v.Outcome, fields)
	if ok {
		t.sendBody(body)
	}
}

// dress puts the fields into an answer, or into the event that it is in, and
// rewrites it. From a result, what only the gateway may say is taken out. If it
// cannot, it has said so to the client.
func (t *Tap) dress(answer []byte, event bool, outcome mcp.Outcome, fields []mcp.Field) ([]byte, bool) {
	var err error
	if len(fields) > 0 || outcome != mcp.OutcomeError {
		stamp := mcp.Stamp
		if event {
			stamp = mcp.StampEvent
		}
		if answer, err = stamp(answer, fields); err != nil {
			t.refuse(upstreamFailed("its answer cannot carry a receipt: " + err.Error()))
			return nil, false
		}
	}
	if t.o.Rewrite != nil {
		if answer, err = t.o.Rewrite(answer, event); err != nil {
			t.refuse(upstreamFailed("its answer cannot be rewritten: " + err.Error()))
			return nil, false
		}
	}
	return answer, true
}

func reasonOf(v mcp.Verdict) string {
	switch {
	case v.Reason != "":
		return v.Reason
	case v.Class == mcp.ClassEmpty:
		return "it is empty"
	case v.Class == mcp.ClassPassing:
		return "it is no answer"
	}
	return "it is no answer to this request"
}

// sendBody writes a whole response with the upstream's status.
func (t *Tap) sendBody(body []byte) {
	t.mode, t.told = modeDone, true
	t.setHeader(t.head)
	t.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	for _, name := range staleFields {
		t.w.Header().Del(name)
	}
	t.writeHead(t.status)
	if t.send(body) != nil {
		t.broken = true
	}
}

// refuse ends the call without a charge, because of its answer, and says why.
func (t *Tap) refuse(r *gate.Refusal) {
	t.o.Call.Release(t.settleContext())
	t.tell(r)
}

// fail is refuse for a call that has had no answer. What was captured for an
// event that turned out to be none is given back.
func (t *Tap) fail(r *gate.Refusal) {
	if t.early {
		t.o.Call.Release(t.settleContext())
	} else {
		t.drop()
	}
	t.tell(r)
}

// tell says why there is no answer: as a response of its own if no head is out,
// else as an event.
func (t *Tap) tell(r *gate.Refusal) {
	wasEvents := t.mode == modeEvents
	t.mode = modeDone
	t.dropHold()
	switch {
	case t.gone():
		t.broken = true
	case !t.sentHead:
		t.setHeader(t.base)
		if t.o.Head != nil {
			t.o.Head(t.w.Header())
		}
		t.sentHead, t.told = true, true
		defer t.deadline()()
		t.o.Refuser.Refuse(t.w, r)
	case wasEvents:
		t.told = true
		t.broken = t.send(t.o.Refuser.Event(r)) != nil || t.flush() != nil
	default:
		t.broken = true
	}
	if t.o.Cancel != nil {
		t.o.Cancel()
	}
}

// setHeader makes the header what it was.
func (t *Tap) setHeader(was http.Header) {
	h := t.w.Header()
	clear(h)
	maps.Copy(h, was)
}

// staleFields describe a body that a receipt, a cut or a held answer changes.
var staleFields = []string{"Etag", "Digest", "Content-Digest", "Repr-Digest", "Content-Md5", "Trailer"}

func (t *Tap) writeHead(status int) {
	h := t.w.Header()
	if t.mode == modeEvents || t.mode == modeStream {
		h.Del("Content-Length")
		for _, name := range staleFields {
			h.Del(name)
		}
	}
	if t.o.Head != nil {
		t.o.Head(h)
	}
	t.sentHead = true
	defer t.deadline()()
	t.w.WriteHeader(status)
}

func (t *Tap) deadline() (lift func()) { return bound(t.rc, t.o.WriteTimeout) }

// send writes to the client. When a detached call's client has left, it
// pretends to: an error would make the proxy give the upstream up.
func (t *Tap) send(p []byte) error {
	if t.gone() && t.o.Detached {
		return nil
	}
	if t.ids != nil {
		t.out = t.ids.Append(t.out[:0], p)
		p = t.out
	}
	p = t.pulse.sends(p)
	defer t.deadline()()
	if _, err := t.w.Write(p); err != nil {
		return t.lost(err)
	}
	return nil
}

func (t *Tap) flush() error {
	if t.gone() && t.o.Detached {
		return nil
	}
	defer t.deadline()()
	if err := t.rc.Flush(); err != nil {
		return t.lost(err)
	}
	return nil
}

func (t *Tap) lost(err error) error {
	t.left = true
	if t.o.Detached {
		return nil
	}
	return err
}

// keep adds to what is held. What is too long for that is captured first and
// streamed from then on. Where there is no room, the call ends here; but one that
// has had its answer has paid for it, and what follows is dropped.
func (t *Tap) keep(p []byte) error {
	if len(t.hold)+len(p) > t.o.Hold {
		return t.overflow(p)
	}
	if need := len(t.hold) + len(p) - t.taken; need > 0 {
		if err := t.o.Budget.Take(int64(need)); err != nil {
			if t.answered {
				t.mode = modeDone
				return nil
			}
			t.fail(&gate.Refusal{Code: gate.StoreUnavailable, Cause: fmt.Errorf("the answer cannot be held: %w", err)})
			return nil
		}
		t.taken += need
	}
	t.hold = append(t.hold, p...)
	return nil
}

func (t *Tap) dropHold() {
	t.o.Budget.Give(int64(t.taken))
	t.hold, t.taken = nil, 0
}

// worth returns an outcome that is charged: what a long answer may turn out to
// be.
func (t *Tap) worth() mcp.Outcome {
	if t.o.Call.Charges(mcp.OutcomeResult) {
		return mcp.OutcomeResult
	}
	return mcp.OutcomeToolError
}

// overflowUnseen meets a long answer whose client has left. It is read to its
// end, and settled by its outcome then, if that may be charged and the upstream
// goes on; else the call ends here.
func (t *Tap) overflowUnseen() {
	t.dropHold()
	switch {
	case !t.o.Detached || !t.o.Call.ChargesAbandoned():
		t.o.Call.Release(t.settleContext())
		t.leave()
	case t.mode == modeEvents:
		t.long, t.unseen = true, true
	default:
		t.mode, t.unseen = modeStream, true
	}
}

// overflow begins to stream an answer that is too long to hold: captured as
// one that is charged, and refunded if it ends as anything else.
func (t *Tap) overflow(p []byte) error {
	if t.status >= 400 {
		t.refuse(upstreamFailed("its error is too long"))
		return nil
	}
	if t.mode == modeEvents && t.events.OtherType() { // it is not known yet what a client could read in it
		t.skips = true
		t.dropHold()
		return nil
	}
	if t.answered { // one request has one answer: what follows it is dropped
		t.mode = modeDone
		return nil
	}
	if t.o.Rewrite != nil {
		t.refuse(upstreamFailed("its answer is too long to be rewritten"))
		return nil
	}
	if t.mode == modeEvents && t.tooLong() {
		t.refuse(upstreamFailed(tooLongToRead))
		return nil
	}
	if t.mode == modeEvents && t.events.Passing() { // a long notification, or a request of the server's
		t.long, t.passing = true, true
		held := t.hold
		defer t.dropHold()
		if err := t.send(held); err != nil {
			return err
		}
		return t.send(p)
	}
	if !t.gone() {
		if _, refusal := t.o.Call.Settle(t.settleContext(), t.worth(), nil); refusal != nil {
			t.refuse(refusal)
			return nil
		}
		t.early = true
	}
	if t.gone() { // maybe since the capture only: nothing of the answer is out yet
		t.overflowUnseen()
		return nil
	}
	t.told = true
	if t.mode == modeEvents {
		t.long = true
	} else {
		t.mode = modeStream
		t.writeHead(http.StatusOK)
	}
	held := t.hold
	defer t.dropHold()
	if err := t.send(held); err != nil {
		return err
	}
	return t.send(p)
}
