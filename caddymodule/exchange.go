package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// exchange is one request on its way through a handler, and its response. It
// goes: shape, origin, token, body, price, upstream, settlement. The first
// step that refuses ends it.
type exchange struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	next  caddyhttp.Handler
	began time.Time

	key     *keys.Key
	retry   []string    // the Idempotency-Key headers, which the upstream does not get
	message mcp.Message // zero until the body was read
	era     mcp.Era
	// misheaded says that its headers are not as 2026-07-28 has them, which has a
	// status for that.
	misheaded bool
	body      []byte
	call      *gate.Call       // nil until the message was admitted
	base      http.Header      // of the response, before the upstream's came
	memory    share.Allocation // bytes that it holds, of its body and its answer
	flight    share.Allocation // the one call that it is
	quota     gate.Quota       // of the key's requests; zero if they have no bound
	often     *gate.Refusal    // of a request that came too soon, to be told once it was read
	origin    string           // an allowed foreign page's, "" if there is none

	session   string       // the server's id of it, "" for none
	ticketOut atomic.Bool  // an event id went out with which the client may come back
	resumed   *gate.Ticket // of the stream that a GET goes on with; nil for none

	charged    struct{ tool, id string } // what is to be paid, once it is known
	abandoned  sync.Once                 // that its client left is logged once
	keepFields bool                      // for a record of our own in the access log
	fields     []zap.Field
}

func newExchange(h *Handler, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) *exchange {
	return &exchange{h: h, w: w, r: r, next: next, began: clock.Now(), base: w.Header().Clone()}
}

const seenVar = "farebox.seen"

var errSecond = errors.New("a request met a second farebox handler: it would be charged twice")

// serve carries the exchange out.
func (x *exchange) serve() error {
	if caddyhttp.GetVar(x.r.Context(), seenVar) != nil {
		return caddyhttp.Error(http.StatusInternalServerError, errSecond)
	}
	caddyhttp.SetVar(x.r.Context(), seenVar, true)
	defer func() { x.memory.Close(); x.flight.Close() }()
	if err := x.awaitRuntime(); err != nil {
		x.refuse(&gate.Refusal{Code: gate.StoreUnavailable, Cause: err})
		return nil
	}
	defer x.h.rt.Release()

	if refusal := x.admitRequest(); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	if refusal := x.enter(); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	switch x.r.Method {
	case http.MethodOptions:
		x.preflight()
		return nil
	case http.MethodPost:
		return x.post()
	default: // GET and DELETE; admitRequest lets no other pass
		return x.sessionRequest()
	}
}

// awaitRuntime waits, for a bounded time, until the store is open, and takes a
// lease on it.
func (x *exchange) awaitRuntime() error {
	select {
	case <-x.h.ready:
		return x.h.rt.Acquire()
	default:
	}
	timer := time.NewTimer(startPatience)
	defer timer.Stop()
	select {
	case <-x.h.ready:
		return x.h.rt.Acquire()
	case <-timer.C:
		return errors.New("the store is not open yet")
	case <-x.r.Context().Done():
		return x.r.Context().Err()
	}
}

// admitRequest checks all but the body: the shape of the request, where it
// comes from, and its token. Then it takes the client's credentials and claims
// out of the request.
func (x *exchange) admitRequest() *gate.Refusal {
	if refusal := checkShape(x.r); refusal != nil {
		return refusal
	}
	if refusal := x.checkOrigin(); refusal != nil {
		return refusal
	}
	if x.r.Method == http.MethodOptions {
		return nil
	}
	key, refusal := x.authenticate()
	if refusal == nil || refusal.Code == gate.TokenExpired { // of others it is not told that they exist
		x.key = key
	}
	if refusal != nil {
		return refusal
	}
	x.identify()
	if x.r.Method == http.MethodPost {
		x.quota, x.often = x.h.gate.Count(key) // until its message is known
	} else {
		x.quota, x.often = x.h.gate.CountUpkeep(key, false)
	}
	x.retry = x.r.Header.Values("Idempotency-Key")
	cleanRequest(x.r, &x.h.credential)
	return nil
}

// client returns the client's address, as Caddy's trusted proxies tell it. The
// zero Addr stands for one that is not known.
func (x *exchange) client() netip.Addr {
	text, _ := caddyhttp.GetVar(x.r.Context(), caddyhttp.ClientIPVarKey).(string)
	client, _ := netip.ParseAddr(text)
	return client
}

// identify tells Caddy's placeholders and logs who calls.
func (x *exchange) identify() {
	repl := x.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("http.auth.user.id", x.key.Account)
	repl.Set("http.farebox.account", x.key.Account)
	repl.Set("http.farebox.key", x.key.ID)
	repl.Set("http.farebox.server", x.h.Server)
	x.log(zap.String("farebox_account", x.key.Account), zap.String("farebox_key", x.key.ID), zap.String("farebox_server", x.h.Server))
}

// identifyCharge tells Caddy's placeholders and logs what is to be paid.
func (x *exchange) identifyCharge(tool, charge string) {
	x.charged.tool, x.charged.id = tool, charge
	repl := x.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("http.farebox.tool", tool)
	repl.Set("http.farebox.charge", charge)
	x.log(zap.String("farebox_tool", tool), zap.String("farebox_charge", charge))
}

// log adds fields to the request's access log record.
func (x *exchange) log(fields ...zap.Field) {
	for _, f := range fields {
		if x.keepFields {
			x.fields = append(slices.DeleteFunc(x.fields, func(old zap.Field) bool { return old.Key == f.Key }), f)
		}
	}
	extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	for _, f := range fields {
		extra.Set(f)
	}
}

// post serves a message.
func (x *exchange) post() error {
	if refusal := x.readMessage(); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	// Reading took as long as the client liked; the key may have ended meanwhile.
	key, refusal := x.h.gate.Check(x.r.Context(), x.client(), x.key.Digest)
	if refusal != nil {
		x.refuse(refusal)
		return nil
	}
	x.key = key
	if x.often != nil {
		x.refuse(x.often)
		return nil
	}
	if refusal := x.openSession(); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	call, refusal := x.h.gate.Admit(x.r.Context(), x.key, x.era, &x.message)
	if refusal != nil {
		x.refuse(refusal)
		return nil
	}
	x.call = call
	defer call.Close(context.WithoutCancel(x.r.Context()))
	if answer, repeated, err := call.First(x.message.ID); repeated {
		x.h.rt.Used(x.key)
		x.repeat(answer, err)
		return nil
	}
	if x.session != "" && x.message.Kind == mcp.KindRequest {
		session := x.h.Server + "\x00" + x.session
		if err := x.h.rt.LockRequestID(x.r.Context(), x.holder(), session, x.message.ID.Text()); err != nil {
			x.refuse(x.notClaimed(err))
			return nil
		}
		defer func() { x.h.rt.UnlockRequestID(session, x.message.ID.Text(), x.ticketOut.Load()) }()
	}
	x.h.rt.Used(x.key)
	x.setBody()
	x.setHeaders()
	metrics.Overhead(clock.Since(x.began))
	if call.Paid() {
		return x.forwardPaid(call)
	}
	if task := call.Task(); task != nil {
		return x.forwardTask(task)
	}
	x.count("allowed")
	if x.message.Kind != mcp.KindRequest {
		return x.forward(intercept.NewRelay(x.w, x.head), x.r)
	}
	return x.forwardFree(call)
}

// repeat answers a call that was sent again with what was paid the first time.
func (x *exchange) repeat(answer []byte, err error) {
	if err != nil {
		x.refuse(&gate.Refusal{Code: gate.ResultGone, Cause: err, Tool: x.call.Tool()})
		return
	}
	x.count("replayed")
	x.log(zap.String("farebox_replayed", x.call.ID()))
	h := x.w.Header()
	x.head(h)
	writeMessage(x.w, http.StatusOK, answer)
}

// notClaimed says why a request's id cannot be used. Servers may know ids by
// their text alone, so that 1 and "1" are one.
func (x *exchange) notClaimed(err error) *gate.Refusal {
	if share.ClassOf(err) != "" {
		return x.noShare(err)
	}
	if errors.Is(err, engine.ErrSessionFull) {
		return &gate.Refusal{Code: gate.SessionUnknown, Cause: err} // its client begins a new one
	}
	if !errors.Is(err, engine.ErrIDTaken) {
		return &gate.Refusal{Code: gate.StoreUnavailable, Cause: err}
	}
	return &gate.Refusal{Code: gate.MessageInvalid, Reason: err.Error()}
}

// sessionRequest serves GET, which opens a stream, and DELETE, which ends a
// session.
func (x *exchange) sessionRequest() error {
	x.r.Body, x.r.ContentLength = http.NoBody, 0
	x.era = mcp.EraSession
	if x.often != nil {
		x.refuse(x.often)
		return nil
	}
	if refusal := x.openSession(); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	x.h.rt.Used(x.key)
	x.setHeaders()
	switch {
	case x.r.Method != http.MethodGet:
		x.count("allowed")
		return x.forward(intercept.NewRelay(x.w, x.head), x.r)
	case x.resumed != nil && !x.resumed.Request.IsZero():
		return x.resume(x.resumed)
	}
	x.count("allowed")
	listener := intercept.NewListener(x.w, x.head, x.sealer(new(gate.Ticket)), &x.memory, x.Event, x.notifies, x.leftOut())
	defer listener.Close()
	listener.Keepalive(x.h.keepalive())
	return x.forwardStream(listener)
}

// forwardPaid sends a paid call on and settles it by the answer.
func (x *exchange) forwardPaid(call *gate.Call) error {
	x.identifyCharge(call.Tool(), call.ID())
	x.log(zap.Stringer("farebox_price", call.Price()))

	if refusal := call.Start(context.WithoutCancel(x.r.Context())); refusal != nil {
		x.refuse(refusal)
		return nil
	}
	ticket := call.Ticket(&x.message)
	complete := x.settle(call, intercept.Options{
		ID: x.message.ID, Seal: x.sealer(ticket), Bind: x.binder(ticket),
		Detached: x.era == mcp.EraSession, // in these versions of the protocol to leave is not to cancel
	})
	x.countCharged(call)
	return finished(complete)
}

// finished ends a response: one that is out and cannot be ended well is cut off
// with its connection.
func finished(complete bool) error {
	if !complete {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// settled is what an exchange settles: a call, or what is asked of a task.
type settled interface {
	intercept.Call
	Paid() bool
	Abandoned(cut bool)
}

// settle runs the next handler with a tap on its response, which settles the
// call. It reports whether the response is complete; if not, the connection must
// be cut.
func (x *exchange) settle(call settled, o intercept.Options) (complete bool) {
	base := x.r.Context()
	if o.Detached {
		base = context.WithoutCancel(base)
	}
	ctx, cancel := context.WithTimeout(base, duration(x.h.MaxCall))
	defer cancel()
	return x.settleIn(ctx, cancel, call, o)
}

// settleStream is settle for a response that stays open, and ends with the key,
// and with its right to what the ticket is of.
func (x *exchange) settleStream(ctx context.Context, call settled, t *gate.Ticket, o intercept.Options) (complete bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unwatch, refusal := x.watch(ctx, cancel, t)
	if refusal != nil {
		x.refuse(refusal)
		return true
	}
	defer unwatch()
	return x.settleIn(ctx, cancel, call, o)
}

func (x *exchange) settleIn(ctx context.Context, cancel context.CancelFunc, call settled, o intercept.Options) (complete bool) {
	client := x.r.Context()
	o.Call, o.Refuser, o.Budget, o.Client, o.Cancel, o.Head = call, x, &x.memory, client, cancel, x.head
	o.Notifies, o.LeftOut, o.Keepalive = x.notifies, x.leftOut(), x.h.keepalive()
	t := intercept.New(x.w, o)
	abandoned := sync.OnceFunc(func() {
		if client.Err() != nil && x.message.Method != "subscriptions/listen" { // which its client ends as it likes
			x.logAbandoned()
		}
		if call.Paid() && !o.Resumed { // one that was left was counted then
			call.Abandoned(!o.Detached || t.Resumable() && !call.ChargesAbandoned())
			metrics.Abandoned(x.h.Server)
		}
	})
	// At once, not at the end: a call may go on for long when its client left.
	stop := context.AfterFunc(client, func() {
		if t.Unanswered() {
			abandoned()
		}
		// The server keeps the answer for a client that comes back; with this stream
		// open it would send it here. Unless it is wanted here.
		if t.Resumable() && (o.Resumed || !call.ChargesAbandoned()) {
			cancel()
		}
	})
	defer stop()
	finished := false
	defer func() {
		if !finished { // a panic that is not ours passes through here
			t.Finish(&gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New("its handler panicked")})
		}
	}()
	failure := x.run(t, x.r.WithContext(ctx))
	finished = true
	complete = t.Finish(failure)
	if !complete && client.Err() == nil {
		x.logCut(failure)
	}
	if t.Unanswered() {
		abandoned()
	}
	return complete
}

func (x *exchange) countCharged(call *gate.Call) {
	x.log(zap.Bool("farebox_charged", call.Captured()))
	if call.Spent() {
		shares.payers.Note(x.key.Account)
	}
	if call.Captured() {
		x.count("charged")
	} else {
		x.count("not_charged")
	}
}

// attempt calls the next handler, once, and returns the redirect that it answered
// with, or what went wrong as a refusal; and whether the server was reached by TLS.
func (x *exchange) attempt(w http.ResponseWriter, r *http.Request) (moved *intercept.Moved, secure bool, failure *gate.Refusal) {
	in := intercept.NewIntake(w)
	r, link := watched(r)
	defer func() {
		var err error
		if moved, err = in.End(); err != nil && (failure == nil || failure.Code == gate.UpstreamFailed) {
			failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: err}
		}
		secure = link.secure.Load()
	}()
	return nil, false, x.serveNext(in, r)
}

// serveNext calls the next handler, and returns what went wrong as a refusal.
func (x *exchange) serveNext(w http.ResponseWriter, r *http.Request) (failure *gate.Refusal) {
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
	err := x.next.ServeHTTP(w, r)
	if err == nil {
		return nil
	}
	var handled caddyhttp.HandlerError
	if errors.Is(err, errSecond) {
		return &gate.Refusal{Code: gate.Misconfigured, Cause: err}
	}
	if errors.As(err, &handled) && handled.StatusCode == http.StatusGatewayTimeout || errors.Is(err, context.DeadlineExceeded) {
		return &gate.Refusal{Code: gate.UpstreamTimeout, Cause: err}
	}
	return &gate.Refusal{Code: gate.UpstreamFailed, Cause: err}
}

// count counts the request by what became of it.
func (x *exchange) count(decision string) {
	method := "other"
	switch {
	case x.r.Method == http.MethodGet || x.r.Method == http.MethodDelete || x.r.Method == http.MethodOptions:
		method = x.r.Method
	case x.message.Kind == mcp.KindResponse:
		method = "response"
	case x.message.Method != "" && (mcp.KnownMethod(x.era, &x.message) || x.h.knowsMethod(&x.message)):
		method = x.message.Method
	}
	metrics.Request(x.h.Server, method, decision)
}
