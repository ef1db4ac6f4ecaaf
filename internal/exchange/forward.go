package exchange

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// pass carries out a plan of the kind relay or listener. The responses to both cost
// nothing.
func (x *Exchange) pass(ctx context.Context, p *plan) {
	if p.kind == listener {
		w := intercept.NewListener(x.w, x.head, x.sealer(p.ticket), &x.memory, x.Event, x.notifies, x.leftOut())
		defer w.Close()
		w.Keepalive(x.site.Keepalive)
		x.passTo(p, w, x.r.WithContext(ctx))
		return
	}
	x.passTo(p, intercept.NewRelay(x.w, x.head), x.r)
}

// passing is the response writer that pass() uses.
type passing interface {
	http.ResponseWriter
	Finish()
	SentHead() bool
	Withheld() bool
}

func (x *Exchange) passTo(p *plan, w passing, r *http.Request) {
	failure := x.ask(p, w, r)
	if failure == nil {
		w.Finish()
	}
	if failure == nil && (w.Withheld() || !w.SentHead()) {
		failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New("it answered in a protocol that cannot be let through")}
	}
	switch {
	case failure == nil:
	case w.SentHead():
		x.logEnded(r.Context(), failure)
		panic(http.ErrAbortHandler) // cut the connection: the response cannot be completed
	default:
		x.refuse(failure)
	}
}

// options returns how the response to the plan's request is intercepted.
func (x *Exchange) options(cancel context.CancelFunc, p *plan) intercept.Options {
	o := intercept.Options{
		ID: x.message.ID, Call: x.traced(p.call), Refuser: x, Budget: &x.memory, Client: x.r.Context(), Cancel: cancel,
		Detached: p.ends&onLeave == 0, Resumed: p.resumed, Seal: x.sealer(p.ticket),
		Notifies: x.notifies, LeftOut: x.leftOut(), Head: x.head, Keepalive: x.site.Keepalive,
	}
	if p.kind == task {
		// A response about the status of a task may have the result embedded in it.
		// Such a response is held whole, so that AddMeta can add the receipt to that
		// result.
		if x.message.Method != mcp.MethodTaskResult {
			o.Rewrite, o.Hold = p.call.(*gate.Task).AddMeta, maxList
		}
		return o
	}
	if p.kind == paid && !p.resumed || mcp.MayAsk(x.message.Method) {
		o.Bind = x.binder(p.ticket)
	}
	if list, ok := mcp.ListOf(x.message.Method); ok {
		o.Rewrite, o.Hold = x.rewriter(list), maxList
	}
	return o
}

// binder returns the function that takes the handles from a server's answer and
// binds them to the caller. The function also works after the client has left.
func (x *Exchange) binder(t *gate.Ticket) func(mcp.Outcome, []byte) *gate.Refusal {
	ctx := context.WithoutCancel(x.r.Context())
	return func(outcome mcp.Outcome, answer []byte) *gate.Refusal {
		return x.site.Gate.Bind(ctx, &x.caller, t, outcome, answer)
	}
}

// forward runs the next handler and intercepts its response, which settles the
// call. It reports whether the response is complete; if it is not, the connection
// must be cut.
func (x *Exchange) forward(ctx context.Context, cancel context.CancelFunc, p *plan) (complete bool) {
	defer x.countOutcome(p) // deferred, so that the request is also counted if code outside this package panics
	client := x.r.Context()
	t := intercept.New(x.w, x.options(cancel, p))
	abandoned := sync.OnceFunc(func() { x.abandon(t, p) })
	// Count the call as abandoned now, not at its end: a call may go on for long after
	// its client has left.
	stop := context.AfterFunc(client, func() {
		if t.Unanswered() {
			abandoned()
		}
		// The server keeps the answer for a client that comes back, but it sends
		// the answer on this stream as long as the stream is open. So end this
		// stream, unless its call is charged although the client has left.
		if t.Resumable() && (p.resumed || !p.call.ChargesAbandoned()) {
			cancel()
		}
	})
	defer stop()
	finished := false
	defer func() {
		if !finished { // code outside this package has panicked
			x.ended = Cut
			t.Finish(&gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New("its handler panicked")})
		}
	}()
	failure := x.ask(p, t, x.r.WithContext(ctx))
	finished = true
	complete = t.Finish(failure)
	if !complete && client.Err() == nil {
		x.logCut(failure)
	}
	if t.Unanswered() {
		abandoned()
	}
	switch {
	case x.ended != "": // x.ended was set when the response was broken off
	case t.Suspended():
		x.ended = Suspended
	case !complete:
		x.ended = Left
	}
	return complete
}

// abandon notes that a response ended without an answer.
func (x *Exchange) abandon(i *intercept.Interceptor, p *plan) {
	if x.r.Context().Err() != nil && p.kind != subscription { // a subscription has no end of its own, so a client that leaves has not abandoned it
		x.logAbandoned()
	}
	if p.call.Paid() && !p.resumed { // a resumed call was counted as abandoned when its first stream broke off
		p.call.Abandoned(p.ends&onLeave != 0 || i.Resumable() && !p.call.ChargesAbandoned())
		x.site.Metrics.Abandoned()
	}
}

// attempt sends the request to the upstream, or calls the next handler, once. It
// returns the server's redirect, whether the server was reached over TLS, and the
// failure as a refusal.
func (x *Exchange) attempt(w http.ResponseWriter, r *http.Request) (moved *intercept.Moved, secure bool, failure *gate.Refusal) {
	in := intercept.NewIntake(w)
	r, span := x.outgoing(r)
	end := func() {
		var err error
		if moved, err = in.End(); err != nil && (failure == nil || failure.Code == gate.UpstreamFailed) {
			failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: err}
		}
		x.endOutgoing(span, r, in.Status(), failure)
	}
	if x.site.Upstream != nil {
		defer end()
		return nil, false, x.upstreamFailure(x.site.Upstream.Send(in, r, x.body))
	}
	r, link := sendOnce(r)
	defer func() {
		end()
		secure = link.secure.Load()
	}()
	return nil, false, x.serveNext(in, r)
}

// serveNext calls the next handler and returns its failure as a refusal.
func (x *Exchange) serveNext(w http.ResponseWriter, r *http.Request) (failure *gate.Refusal) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New("it broke its answer off")}
			if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
				failure.Code = gate.UpstreamTimeout
			}
		case errTwice:
			failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: errTwice}
		default:
			panic(p)
		}
	}()
	return x.upstreamFailure(x.next.ServeHTTP(w, r))
}

// upstreamFailure returns the refusal for the error with which an attempt has ended.
func (x *Exchange) upstreamFailure(err error) *gate.Refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNested):
		return &gate.Refusal{Code: gate.Misconfigured, Cause: err}
	case x.host.Status(err) == http.StatusGatewayTimeout || errors.Is(err, context.DeadlineExceeded):
		return &gate.Refusal{Code: gate.UpstreamTimeout, Cause: err}
	}
	return &gate.Refusal{Code: gate.UpstreamFailed, Cause: err}
}
