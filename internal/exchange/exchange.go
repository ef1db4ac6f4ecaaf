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
	"time"

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

// Exchange is one request and its response. Its steps are shape, origin, key, body,
// price, server and settlement; the first step that refuses ends the exchange.
type Exchange struct {
	site  *Site
	host  Host
	next  Next
	w     http.ResponseWriter
	r     *http.Request
	began time.Time

	caller  gate.Caller // zero until authenticated
	retry   []string    // the Idempotency-Key headers, which are not forwarded
	stage   stage
	message mcp.Message // zero until stage is decoded
	era     mcp.Era
	body    []byte           // the request's body, as it was read and will be forwarded
	call    *gate.Call       // nil until the message was admitted
	base    http.Header      // response header before the upstream adds its own
	memory  share.Allocation // counts the bytes of the request's body and of the response
	flight  share.Allocation // counts this request among the caller's calls in flight
	quota   gate.Quota       // remainder of the key's rate; zero without a rate
	origin  string           // allowed Origin of a web page; "" without one

	session   string       // the server's session id, "" for none
	resumable atomic.Bool  // the client was sent an event id to resume from
	resumed   *gate.Ticket // ticket of the stream that a GET resumes; nil without one

	charged   struct{ tool, id string } // the charge that identifyCharge published
	abandoned sync.Once                 // guards the log line about an abandoned call
}

// New returns the exchange for a request.
func New(site *Site, host Host, next Next, w http.ResponseWriter, r *http.Request) *Exchange {
	return &Exchange{site: site, host: host, next: next, w: w, r: r, began: clock.Now(), base: w.Header().Clone()}
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

// isDiscovery reports whether clients look for metadata at that path. If the
// response has any status but 404, they conclude that the metadata exists.
func isDiscovery(path string) bool {
	return strings.HasPrefix(path, wellKnownOAuth) || strings.HasPrefix(path, wellKnownOpenID)
}

// Serve carries out the exchange. If it returns an error, ErrNoMetadata or
// ErrNested, no response has been written.
func (x *Exchange) Serve() error {
	if isDiscovery(x.r.URL.Path) {
		x.count("not_found")
		return ErrNoMetadata
	}
	if !x.host.Enter(x.r) {
		return ErrNested
	}
	defer func() { x.memory.Close(); x.flight.Close() }()
	if err := x.site.Engine.Acquire(x.r.Context()); err != nil {
		x.refuse(&gate.Refusal{Code: gate.StoreUnavailable, Cause: err})
		return nil
	}
	defer x.site.Engine.Release()

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
// removes the client's credentials and claims about identity from the request. A
// rate-limit refusal is returned separately, as the result limited: the request's id
// must be read before the refusal can be sent, and upkeep may still pass.
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
	caller, refusal := x.authenticate()
	if refusal == nil || refusal.Code == gate.TokenExpired { // the response to an invalid key must not reveal that the key exists
		x.caller = caller
	}
	if refusal != nil {
		return nil, refusal
	}
	x.host.Identify(x.r, x.site.Server, x.caller.Account, x.caller.Subject)
	if x.r.Method == http.MethodPost {
		x.quota, limited = x.site.Gate.Count(&x.caller) // readMessage moves the count if the message is upkeep
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

// post serves a message. The parameter limited is the rate-limit refusal of
// admitRequest, if any.
func (x *Exchange) post(limited *gate.Refusal) {
	limited, refusal := x.readMessage(limited)
	if refusal != nil {
		x.refuse(refusal)
		return
	}
	if refusal := x.admitMessage(limited); refusal != nil {
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
	x.site.Metrics.Overhead(clock.Since(x.began))
	x.run()
}

// admitMessage checks the message that was read, and sets x.call.
func (x *Exchange) admitMessage(limited *gate.Refusal) *gate.Refusal {
	// The client decides how long reading takes, and the key may have ended in the
	// meantime.
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
	x.count("replayed")
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

// count counts the request by its outcome.
func (x *Exchange) count(decision string) {
	method := "other"
	switch {
	case x.r.Method == http.MethodGet || x.r.Method == http.MethodDelete || x.r.Method == http.MethodOptions:
		method = x.r.Method
	case x.message.Kind == mcp.KindResponse:
		method = "response"
	case x.message.Method != "" && (mcp.KnownMethod(x.era, &x.message) || x.site.KnowsMethod(&x.message)):
		method = x.message.Method
	}
	x.site.Metrics.Request(x.site.Server, method, decision)
}
