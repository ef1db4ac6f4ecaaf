package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// Errors of Serve.
var (
	// ErrNoMetadata reports a request for OAuth metadata, which an exchange does
	// not serve.
	ErrNoMetadata = errors.New("there is no such metadata here")
	// ErrNested reports a request that another exchange has forwarded.
	ErrNested = errors.New("a request met a second farebox handler: it would be charged twice")
)

// Exchange is one request and its response. It checks the shape of the request, its
// origin, its key and its body, finds the price, sends the request to the server, and
// settles the call. The first step that refuses ends the exchange.
type Exchange struct {
	site   *Site
	host   Host
	next   Next
	w      http.ResponseWriter
	r      *http.Request
	timing timing

	caller  gate.Caller // zero until authenticated
	retry   []string    // the Idempotency-Key headers, which are not forwarded
	stage   stage
	message mcp.Message // zero until x.stage is decoded
	era     mcp.Era
	body    []byte           // the request's body, as it was read and will be forwarded
	call    *gate.Call       // nil until the message was admitted
	base    http.Header      // response header before the upstream adds its own
	memory  share.Allocation // counts the bytes of the request's body and of the response
	flight  share.Allocation // counts this request among the caller's calls in flight
	quota   gate.Quota       // the requests that the key's rate limit still allows; zero without a limit
	origin  string           // allowed Origin of a web page; "" if no page made the request

	session   string       // the server's session id, "" for none
	resumable atomic.Bool  // the client was sent an event id to resume from
	resumed   *gate.Ticket // ticket of the stream that a GET resumes; nil for other requests

	charged   struct{ tool, id string } // the charge that identifyCharge published
	tracing   *tracing                  // nil unless the web server traces requests
	abandoned sync.Once                 // guards the log line about an abandoned call

	// The fields below are for the record in the call log, and for the trace.
	sent    *sent         // nil if no record is wanted
	running bool          // the engine runs
	counted counted       // zero until the request was counted
	refusal *gate.Refusal // the latest refusal; nil for none
	status  int           // HTTP status that the latest refusal was sent with; 0 if it was not sent
	ended   Ending        // "" if x.ending() can derive the ending from the other fields
	left    atomic.Bool   // the client has abandoned the call
	settled call          // the call that was forwarded; nil if no call was forwarded
}

// New returns the exchange for a request.
func New(site *Site, host Host, next Next, w http.ResponseWriter, r *http.Request) *Exchange {
	return &Exchange{site: site, host: host, next: next, w: w, r: r, timing: timing{began: clock.Now()}, base: w.Header().Clone()}
}

// Account returns the id of the calling account, "" if it is unknown.
func (x *Exchange) Account() string {
	if !x.caller.Known() {
		return ""
	}
	return x.caller.Account
}

// BodyLen returns the length of the request body, 0 if it has not been read.
func (x *Exchange) BodyLen() int { return len(x.body) }

// The prefixes of the paths where clients look for metadata of OAuth and OpenID.
const (
	wellKnownOAuth  = "/.well-known/oauth-"
	wellKnownOpenID = "/.well-known/openid-configuration"
)

// isDiscovery reports whether the path is one at which clients look for metadata. If
// the response has any status but 404, clients conclude that the metadata exists.
func isDiscovery(path string) bool {
	return strings.HasPrefix(path, wellKnownOAuth) || strings.HasPrefix(path, wellKnownOpenID)
}

// Serve carries out the exchange. It returns nil, ErrNoMetadata or ErrNested. After an
// error, no response has been written.
func (x *Exchange) Serve() error {
	x.openRecord()
	defer x.writeRecord()
	if isDiscovery(x.r.URL.Path) {
		x.count("not_found")
		x.noteStatus(http.StatusNotFound) // the host will answer with this status
		return ErrNoMetadata
	}
	if !x.host.Enter(x.r) {
		return ErrNested
	}
	x.beginTrace()
	defer x.endTrace()
	defer func() { x.memory.Close(); x.flight.Close() }()
	if err := x.site.Engine.Acquire(x.r.Context()); err != nil {
		x.refuse(&gate.Refusal{Code: gate.StoreUnavailable, Cause: err})
		return nil
	}
	defer x.site.Engine.Release()
	defer x.noteCharge()
	defer x.recordUncharged() // before Release, because the recorder ends with the engine
	x.running = true

	limited, refusal := x.admitRequest()
	if refusal == nil {
		refusal = x.enter()
	}
	switch {
	case refusal != nil:
		x.refuse(refusal)
	case x.r.Method == http.MethodOptions:
		x.preflight()
	case x.r.Method == http.MethodPost:
		x.post(limited)
	default: // GET and DELETE; admitRequest refuses all others
		x.sessionRequest(limited)
	}
	return nil
}

// admitRequest checks everything except the body: shape, origin and key. Then it
// removes the client's credentials and claims about identity from the request. The
// refusal for a rate limit is returned separately, because it must wait until the
// request's id has been read. This refusal is dropped if the message turns out to be
// upkeep, which has a limit of its own.
func (x *Exchange) admitRequest() (limited, refusal *gate.Refusal) {
	if refusal := x.checkShape(); refusal != nil {
		return nil, refusal
	}
	if refusal := x.checkOrigin(); refusal != nil {
		return nil, refusal
	}
	if x.r.Method == http.MethodOptions {
		return nil, nil
	}
	caller, refusal := x.tracedAuthenticate()
	// Keep the caller if the key is valid or has expired, and for no other refusal: the
	// response to an invalid key must not reveal that the key exists.
	if refusal == nil || refusal.Code == gate.TokenExpired {
		x.caller = caller
	}
	if refusal != nil {
		return nil, refusal
	}
	x.host.Identify(x.r, x.site.Server, x.caller.Account, x.caller.Subject)
	if x.caller.Client != "" {
		x.annotate(slog.String("farebox_client", x.caller.Client))
	}
	if x.r.Method == http.MethodPost {
		x.quota, limited = x.site.Gate.Count(&x.caller) // if the message is upkeep, readMessage takes this count back and counts it as upkeep
	} else {
		x.quota, limited = x.site.Gate.CountUpkeep(&x.caller, false)
	}
	x.retry = x.r.Header.Values("Idempotency-Key")
	cleanRequest(x.r, &x.site.KeyHeader)
	return limited, nil
}

// client returns the client's address; the zero Addr if it is unknown.
func (x *Exchange) client() netip.Addr { return x.host.Client(x.r) }

// identifyCharge publishes the charge to placeholders and logs.
func (x *Exchange) identifyCharge(tool, charge string) {
	x.charged.tool, x.charged.id = tool, charge
	x.host.IdentifyCharge(x.r, tool, charge)
}

// annotate adds a field to the request's record in the access log.
func (x *Exchange) annotate(a slog.Attr) { x.host.Annotate(x.r, a) }

// used records that the caller's key was used now.
func (x *Exchange) used() {
	if x.caller.Key != nil {
		x.site.Engine.Used(x.caller.Key)
	}
}

// noteCharge notes the charge of this request in the engine, if the request has charged
// the caller's key.
func (x *Exchange) noteCharge() {
	if x.settled == nil || x.caller.Key == nil {
		return
	}
	if _, ok := x.settled.Charged(); ok {
		x.site.Engine.Charged(x.caller.Key, x.client())
	}
}

// post serves a message. Its argument is the rate-limit refusal from admitRequest, or
// nil.
func (x *Exchange) post(limited *gate.Refusal) {
	limited, refusal := x.readMessage(limited)
	x.beginMessage()
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	if refusal := x.tracedAdmit(limited); refusal != nil {
		x.refuse(refusal)
		return
	}
	defer x.call.Close(context.WithoutCancel(x.r.Context()))
	if answer, repeated, err := x.call.Replay(x.message.ID); repeated {
		x.used()
		x.replay(answer, err)
		return
	}
	if x.session != "" && x.message.Kind == mcp.KindRequest {
		session := x.site.Server + "\x00" + x.session
		if err := x.site.Engine.LockRequestID(x.r.Context(), x.holder(), session, x.message.ID.Text()); err != nil {
			x.refuse(requestIDRefusal(err))
			return
		}
		defer func() { x.site.Engine.UnlockRequestID(session, x.message.ID.Text(), x.resumable.Load()) }()
	}
	x.used()
	if x.site.Upstream == nil {
		x.setBody()
	}
	x.setHeaders()
	x.run()
}

// admitMessage checks the message that was read, and sets x.call.
func (x *Exchange) admitMessage(limited *gate.Refusal) *gate.Refusal {
	// Check the key again, because reading the message may have taken long, and the key
	// may have been revoked or may have expired in the meantime.
	caller, refusal := x.caller.Again(x.r.Context())
	if refusal != nil {
		return refusal
	}
	x.caller = caller
	if limited != nil {
		return limited
	}
	if refusal := x.openSession(); refusal != nil {
		return refusal
	}
	x.call, refusal = x.site.Gate.Admit(x.r.Context(), &x.caller, x.era, &x.message)
	return refusal
}

// replay answers a repeated call with its stored response.
func (x *Exchange) replay(answer []byte, err error) {
	if err != nil {
		x.refuse(&gate.Refusal{Code: gate.ResultGone, Cause: err, Tool: x.call.Tool()})
		return
	}
	x.count(replayed)
	x.charged.tool, x.charged.id = x.call.Tool(), x.call.ID()
	x.annotate(slog.String("farebox_replayed", x.call.ID()))
	h := x.w.Header()
	x.head(h)
	writeMessage(x.w, http.StatusOK, answer)
}

// requestIDRefusal returns the refusal for an error of Engine.LockRequestID.
// LockRequestID gets an id's text, so 1 and "1" count as the same id: servers may
// compare only the text.
func requestIDRefusal(err error) *gate.Refusal {
	switch {
	case share.ClassOf(err) != "":
		return shareRefusal(err)
	case errors.Is(err, ErrSessionFull):
		return &gate.Refusal{Code: gate.SessionUnknown, Cause: err} // the client then begins a new session
	case errors.Is(err, ErrIDTaken):
		return &gate.Refusal{Code: gate.MessageInvalid, Reason: err.Error()}
	}
	return &gate.Refusal{Code: gate.StoreUnavailable, Cause: err}
}

// sessionRequest serves GET, which opens a stream, and DELETE, which ends a
// session.
func (x *Exchange) sessionRequest(limited *gate.Refusal) {
	x.r.Body, x.r.ContentLength = http.NoBody, 0
	x.era = mcp.EraSession
	x.beginMessage()
	if limited != nil {
		x.refuse(limited)
		return
	}
	if refusal := x.openSession(); refusal != nil {
		x.refuse(refusal)
		return
	}
	x.used()
	x.setHeaders()
	x.run()
}

// run chooses a plan and carries it out.
func (x *Exchange) run() {
	p, refusal := x.plan()
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	x.carryOut(&p)
}

// Decisions about requests, as metrics count them.
const (
	charged    = "charged"
	notCharged = "not_charged"
	replayed   = "replayed" // the request gets a stored response
)

// count counts the request in the metrics, by its method and the decision about it.
func (x *Exchange) count(decision string) {
	method := "other"
	switch {
	case x.r.Method == http.MethodGet || x.r.Method == http.MethodDelete || x.r.Method == http.MethodOptions:
		method = x.r.Method
	case x.message.Kind == mcp.KindResponse:
		method = "response"
	case x.knowsMethod():
		method = x.message.Method
	}
	x.counted = counted{method, decision}
	x.site.Metrics.Request(method, decision)
}

// knowsMethod reports whether the protocol has the method of the message, or a rule of
// the config names the method. The number of such methods is bounded, so metrics can
// use them as labels.
func (x *Exchange) knowsMethod() bool {
	return x.message.Method != "" && (mcp.KnownMethod(x.era, &x.message) || x.site.KnowsMethod(&x.message))
}
