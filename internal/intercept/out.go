package intercept

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/fareboxhq/farebox/internal/gate"
)

// Budget bounds the bytes held for one exchange; share.Allocation implements Budget.
// Only one goroutine at a time uses a Budget.
type Budget interface {
	// Take takes n bytes from the budget, or returns an error if fewer are available.
	Take(n int64) error
	// Give returns n bytes to the budget.
	Give(n int64)
}

// staleFields are header fields that describe the upstream's body. They are wrong as
// soon as the body is changed by a receipt, a cut or a refusal.
var staleFields = []string{"Etag", "Digest", "Content-Digest", "Repr-Digest", "Content-Md5", "Trailer"}

// savedHeader is a copy of a header. It shares the slices of values with the header,
// but values that are added to the header later do not appear in the copy.
type savedHeader []savedField

type savedField struct {
	name   string
	values []string
}

func saveHeader(h http.Header) savedHeader {
	saved := make(savedHeader, 0, len(h))
	for name, values := range h {
		saved = append(saved, savedField{name, slices.Clip(values)})
	}
	return saved
}

// setHeader replaces the header of the response by the saved header.
func (i *Interceptor) setHeader(saved savedHeader) {
	h := i.w.Header()
	clear(h)
	for _, f := range saved {
		h[f.name] = f.values
	}
}

func (i *Interceptor) writeHead(status int) {
	defer i.deadline()()
	i.writeHeadNow(status)
}

// writeHeadNow is writeHead without a write deadline of its own.
func (i *Interceptor) writeHeadNow(status int) {
	h := i.w.Header()
	if i.state == streamBody || i.state.inEvents() {
		h.Del("Content-Length")
		for _, name := range staleFields {
			h.Del(name)
		}
	}
	if i.o.Head != nil {
		i.o.Head(h)
	}
	i.sentHead = true
	i.w.WriteHeader(status)
}

// sendBody sends a whole response with the upstream's status.
func (i *Interceptor) sendBody(body []byte) {
	i.step(finish)
	i.responded = true
	i.setHeader(i.head)
	i.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	for _, name := range staleFields {
		i.w.Header().Del(name)
	}
	defer i.deadline()()
	i.writeHeadNow(i.status)
	if i.sendNow(body) != nil {
		i.broken = true
	}
}

// sendRefusal ends the response with a refusal. The refusal is a whole response if no
// head has been sent, and an event on an event stream.
func (i *Interceptor) sendRefusal(r *gate.Refusal) {
	asEvent := i.state.inEvents()
	i.step(finish)
	i.dropHold()
	switch {
	case i.gone():
		i.broken = true
	case !i.sentHead:
		i.setHeader(i.base)
		if i.o.Head != nil {
			i.o.Head(i.w.Header())
		}
		i.sentHead, i.responded = true, true
		defer i.deadline()()
		i.o.Refuser.Refuse(i.w, r)
	case asEvent:
		i.responded = true
		i.broken = i.send(i.o.Refuser.Event(r)) != nil || i.flush() != nil
	default:
		i.broken = true
	}
	if i.o.Cancel != nil {
		i.o.Cancel()
	}
}

func (i *Interceptor) deadline() (lift func()) { return bound(i.rc, i.o.WriteTimeout) }

// send writes to the client. After the client of a call with Options.Detached has left,
// send returns nil without writing. An error would make the proxy abort the upstream
// request.
func (i *Interceptor) send(p []byte) error {
	defer i.deadline()()
	return i.sendNow(p)
}

// sendNow is send without a write deadline of its own.
func (i *Interceptor) sendNow(p []byte) error {
	if i.gone() && i.o.Detached {
		return nil
	}
	if i.ids != nil {
		i.out = i.ids.Append(i.out[:0], p)
		p = i.out
	}
	p = i.pulse.sends(p)
	if _, err := i.w.Write(p); err != nil {
		return i.writeFailed(err)
	}
	return nil
}

func (i *Interceptor) flush() error {
	if i.gone() && i.o.Detached {
		return nil
	}
	defer i.deadline()()
	if err := i.rc.Flush(); err != nil {
		return i.writeFailed(err)
	}
	return nil
}

// writeFailed records that the client has left, and returns the error to report to
// the proxy.
func (i *Interceptor) writeFailed(err error) error {
	i.left = true
	if i.o.Detached {
		return nil
	}
	return err
}

// beat sends a comment on a quiet stream, unless an event has been sent in part,
// because the comment would land inside the event.
func (i *Interceptor) beat() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.state.inEvents() || i.gone() || !i.pulse.due(!i.state.longEvent()) {
		return
	}
	defer i.deadline()()
	_, err := i.w.Write(heartbeat)
	if err == nil {
		err = i.rc.Flush()
	}
	if err != nil && i.writeFailed(err) != nil && i.o.Cancel != nil {
		i.o.Cancel()
	}
}

// seal returns the sealed form of an event id, and records that the client can now
// resume the stream.
func (i *Interceptor) seal(id []byte) []byte {
	i.sealed = true
	return i.o.Seal(id)
}

// keep holds another piece. A response that becomes too long is captured and then
// streams. If the budget is exhausted, the call fails. But if the response has
// already been sent by then, the call stays charged, and only the rest of the
// stream is dropped.
func (i *Interceptor) keep(p []byte) error {
	if len(i.hold)+len(p) > i.o.Hold {
		return i.overflow(p)
	}
	if need := len(i.hold) + len(p) - i.taken; need > 0 {
		if err := i.o.Budget.Take(int64(need)); err != nil {
			if i.stage == answered {
				i.step(finish)
				return nil
			}
			i.fail(&gate.Refusal{Code: gate.StoreUnavailable, Cause: fmt.Errorf("the answer cannot be held: %w", err)})
			return nil
		}
		i.taken += need
	}
	i.hold = append(i.hold, p...)
	return nil
}

// overflow handles a response or an event that p makes too long to hold. It
// captures the call as if the response had an outcome that is charged. If the
// actual outcome is not charged, the charge is refunded later.
func (i *Interceptor) overflow(p []byte) error {
	f := longFacts{status: i.status, stage: i.stage, rewrites: i.o.Rewrite != nil}
	if i.state == holdEvent {
		f.otherType, f.passing, f.guarded = i.events.OtherType(), i.events.Passing(), i.mayBePaidElsewhere()
	}
	switch v := judgeLong(f); v.action {
	case leaveOut:
		i.step(longOther)
		i.dropHold()
		return nil
	case end:
		i.step(finish)
		return nil
	case pass:
		i.step(longPassing)
		return i.sendLong(p)
	case withhold:
		i.refuse(upstreamFailed(v.reason))
		return nil
	}
	if !i.gone() {
		if _, refusal := i.o.Call.Settle(i.settleContext(), i.chargeableOutcome(), nil); refusal != nil {
			i.refuse(refusal)
			return nil
		}
		i.stage = precaptured
	}
	if i.gone() { // the client may have left during the capture; no byte of the response has been sent yet
		i.overflowUnseen()
		return nil
	}
	i.responded = true
	i.step(longPaid)
	if i.state == streamBody {
		i.writeHead(http.StatusOK)
	}
	return i.sendLong(p)
}

// overflowUnseen handles a long response after its client has left. If the call goes on
// without its client (Options.Detached) and charges abandoned responses, the response
// is read to its end and settled by its outcome. Otherwise the call ends here.
func (i *Interceptor) overflowUnseen() {
	i.dropHold()
	if i.o.Detached && i.o.Call.ChargesAbandoned() {
		i.step(longUnseen)
		return
	}
	i.o.Call.Release(i.settleContext())
	i.leave()
}

// sendLong sends the held bytes and then p, and returns the held bytes to the budget.
func (i *Interceptor) sendLong(p []byte) error {
	held := i.hold
	defer i.dropHold()
	if err := i.send(held); err != nil {
		return err
	}
	return i.send(p)
}

// sendHeld sends a whole event.
func (i *Interceptor) sendHeld(event []byte) error {
	err := i.send(event)
	i.resetHold()
	return err
}

// resetHold empties the buffer, but keeps its memory and its part of the budget for
// the next event.
func (i *Interceptor) resetHold() { i.hold = i.hold[:0] }

func (i *Interceptor) dropHold() {
	i.o.Budget.Give(int64(i.taken))
	i.hold, i.taken = nil, 0
}
