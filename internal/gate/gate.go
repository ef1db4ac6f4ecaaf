// Package gate is the pipeline of every call: it authenticates the caller, admits
// the message and settles the call. Other packages read the requests, write the
// responses and implement the stores, so gate does not depend on HTTP, Caddy or
// SQL.
//
// A Gate belongs to one server of one config and never changes; any number of
// goroutines may use a Gate at the same time. A Call belongs to one request.
package gate

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Keys finds keys by digest. The client is the address that sent the token. Lookup
// returns keys.ErrUnknown for an unknown key, and ErrFlood if the client has sent too
// many unknown tokens. Any other error means that the lookup failed; the token is then
// refused for now.
type Keys interface {
	Lookup(ctx context.Context, client netip.Addr, digest keys.Digest) (*keys.Key, error)
}

// ErrFlood reports that a client address has sent too many unknown tokens.
var ErrFlood = errors.New("too many unknown tokens from this address")

// Ledger reserves and settles charges. The gate makes the ids, and repeats an
// attempt with the same id. The errors are those of package ledger.
type Ledger interface {
	// Reserve holds the order's amount for ledger.ReservationLife, if the terms allow
	// it. If the call repeats an earlier call with a stored response, Reserve returns
	// that response instead.
	Reserve(ctx context.Context, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error)
	// Renew prolongs a reservation by another ledger.ReservationLife from now.
	Renew(ctx context.Context, id string) error
	// Capture pays a reservation. When it returns without an error, the charge is
	// durable, and so is the response if the call has an idempotency key. The Made
	// field of the returned charge says whether this call of Capture made the
	// charge. The returned balance is the payer's balance after the charge.
	Capture(ctx context.Context, id string, response []byte) (ledger.Charge, ledger.Balance, error)
	// Charge reserves and captures in one step, if the terms and the balance allow
	// it. It is for calls that lost their reservation in a restart.
	Charge(ctx context.Context, id string, o ledger.Order, terms ledger.Terms, response []byte) (ledger.Charge, ledger.Balance, error)
	// Release gives a reservation back.
	Release(ctx context.Context, id string) error
	// PostTransaction books a refund of a captured charge.
	PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error)
}

// Abandonments limits callers that disconnect before the response. The server works for
// such callers, but they are not charged. Abandonments counts by lineage, so that
// rotating a key does not reset the count. Its methods must be fast and safe for
// concurrent use.
type Abandonments interface {
	// Note counts one abandoned call.
	Note(lineage string)
	// Forgive subtracts one from the lineage's count of abandoned calls. It is called
	// when the client of such a call has returned for the response.
	Forgive(lineage string)
	// Wait returns how long the lineage's paid calls will still be refused, or zero
	// if they are allowed.
	Wait(lineage string) time.Duration
}

// Metrics counts a gate's reservations and charges. Its methods must be fast
// and safe for concurrent use.
type Metrics interface {
	// Reserved records how long it took to make a reservation, or to fail to make one.
	Reserved(took time.Duration)
	// Captured records the time that a capture took until it was durable or had
	// failed.
	Captured(took time.Duration)
	// Charge counts the end of a paid call.
	Charge(Ended)
	// Signed counts a receipt.
	Signed()
	// Unjudged counts a result that was charged because its charge_if condition
	// could not judge it.
	Unjudged(entry string)
}

// Ended describes the end of a paid call for metrics.
type Ended struct {
	Entry  string // the price book's entry for the item
	Result Result
	// Amount is the captured amount if Result is ResultCaptured, and the refunded
	// amount if Result is ResultRefunded. Otherwise it is 0.
	Amount ledger.Amount
	Fee    ledger.Amount // the operator's share of a captured amount
	Test   bool          // the call was made with a test key
}

// Result is the way a paid call ended, as metrics report it.
type Result string

// The results of paid calls.
const (
	ResultCaptured Result = "captured"
	ResultWaived   Result = "waived" // captured at no charge, under a free quota
	ResultReleased Result = "released"
	ResultRefunded Result = "refunded"
	ResultFailed   Result = "failed"   // the capture or the refund failed, and the response was withheld
	ResultReplayed Result = "replayed" // answered by a stored response
	// ResultSuspended means that the call's stream broke off and may be resumed.
	ResultSuspended Result = "suspended"
)

// Policy holds the operator's settings for one server.
type Policy struct {
	Server        string
	Provider      string // id of the account that is paid
	Environments  []keys.Environment
	Rights        *Rights        // the scopes that items require; nil requires keys.ScopeConnect for everything
	Rate          keys.Rate      // request rate of one lineage of keys; zero for no limit
	Notifications *Notifications // which notifications of extensions are forwarded; nil forwards all
	Secrets       *keys.Format   // the form of tokens
	Prices        *pricing.Book
	Currency      string
	Receipts      bool          // receipts are put into responses
	PriceNotes    bool          // prices are put into the descriptions of tools
	MaxCall       time.Duration // the longest time for which a reservation is renewed
	Caps          ledger.Caps   // caps on an account's spending at this server
	FreeCalls     int64         // free calls per account and day
	Fee           ledger.Share  // the part of each charge that goes to FeeTo
	FeeTo         string        // id of the operator's account; "" without a fee
}

// Deps are the services that a gate uses.
type Deps struct {
	Keys Keys
	// Authenticators recognize further kinds of credentials. They are asked before
	// Keys, in order.
	Authenticators []Authenticator
	// Watch reports the changes that are announced under a Caller's Handle. If
	// Watch is nil, no changes are reported.
	Watch func(keys.Digest) Watch

	Ledger       Ledger
	Bindings     Bindings
	Debts        Debts
	Abandonments Abandonments
	Limiter      Limiter
	Signer       *ledger.Signer
	Sealer       *Sealer
	Metrics      Metrics
	Logger       *slog.Logger
	Now          func() time.Time
	NewID        func(prefix string) string // returns a new id, such as "chg_" and a UUIDv7
}

// Gate admits calls to one server.
type Gate struct {
	policy    Policy
	leftOutOf leftOutNames // names already logged as left out of the server's lists
	deps      Deps
	auth      []Authenticator
}

// New returns a gate for the policy.
func New(p Policy, d Deps) *Gate {
	if d.Watch == nil {
		d.Watch = func(keys.Digest) Watch { return Watch{End: func() {}} }
	}
	g := &Gate{policy: p, deps: d}
	g.auth = append(slices.Clone(d.Authenticators), &storedKeys{gate: g})
	return g
}

// Bounds on the Authorization header, in bytes: for stored keys, and for credentials of
// further kinds, such as signed tokens.
const (
	maxAuthorization = 512
	maxFurther       = 16<<10 + 64
)

// maxCredential returns the bound on the Authorization header of this gate.
func (g *Gate) maxCredential() int {
	if len(g.deps.Authenticators) > 0 {
		return maxFurther
	}
	return maxAuthorization
}

// Authenticate reads the bearer token from the values of the Authorization header,
// the only accepted place for a token (RFC 6750, 2.1), and returns the token's
// caller. A caller that is known but may not be used is returned along with the
// refusal.
func (g *Gate) Authenticate(ctx context.Context, client netip.Addr, authorization []string) (Caller, *Refusal) {
	if len(authorization) == 0 {
		return Caller{}, &Refusal{Code: TokenMissing}
	}
	if len(authorization) > 1 || len(authorization[0]) > g.maxCredential() {
		return Caller{}, &Refusal{Code: TokenInvalid, Cause: keys.ErrMalformed}
	}
	// Scheme and token are separated by one or more spaces (RFC 9110, 11.4). Other
	// white space is not allowed.
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if token = strings.TrimLeft(token, " "); !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	return g.Redeem(ctx, client, token)
}

// Redeem is Authenticate for a bare token, without the scheme.
func (g *Gate) Redeem(ctx context.Context, client netip.Addr, token string) (Caller, *Refusal) {
	if token == "" {
		return Caller{}, &Refusal{Code: TokenMissing}
	}
	if len(token) > g.maxCredential() {
		return Caller{}, &Refusal{Code: TokenInvalid, Cause: keys.ErrMalformed}
	}
	var err error
	for _, auth := range g.auth {
		var c Caller
		if c, err = auth.Authenticate(ctx, client, token); c.Known() || !errors.Is(err, ErrOtherCredential) {
			return g.accept(c, err, auth, client)
		}
	}
	return Caller{}, &Refusal{Code: TokenInvalid, Cause: err}
}

// Admit decides whether the caller's message may be forwarded. For a paid call it
// reserves the price first. The returned Call must be closed, even if it is free.
func (g *Gate) Admit(ctx context.Context, caller *Caller, era mcp.Era, m *mcp.Message) (*Call, *Refusal) {
	if m.Kind == mcp.KindResponse {
		if era == mcp.EraStateless {
			return nil, &Refusal{Code: MessageInvalid, Reason: "clients send no responses in this protocol version"}
		}
		return &Call{}, nil
	}
	known := mcp.KnownMethod(era, m)
	item, costs, refusal := g.appraise(known, m)
	if refusal != nil {
		return nil, refusal
	}
	scopes, refusal := g.permit(caller, item, known, m)
	if refusal != nil {
		return nil, refusal
	}
	task, refusal := g.requireOwner(ctx, caller, m)
	if refusal != nil {
		return nil, refusal
	}
	if !costs {
		return &Call{task: g.task(ctx, caller, m, task), scopes: scopes}, nil
	}
	quote, refusal := g.quote(ctx, item, m)
	if refusal != nil {
		return nil, refusal
	}
	if quote.Amount == 0 {
		return &Call{scopes: scopes}, nil
	}
	if scopes = withConnect(scopes); !caller.HasScope(keys.ScopeConnect) { // every charge requires this scope
		return nil, g.lacks(caller, item, scopes)
	}
	if wait := g.deps.Abandonments.Wait(caller.Lineage); wait > 0 {
		return nil, &Refusal{Code: RateLimited, Tool: item.String(), RetryAfter: wait}
	}
	return g.reserve(ctx, caller, item, m, quote, scopes)
}

// quote prices a request and refuses a price above the caller's own maximum.
func (g *Gate) quote(ctx context.Context, item items.Item, m *mcp.Message) (pricing.Quote, *Refusal) {
	name := item.String()
	limit := ledger.Amount(math.MaxInt64)
	if m.MaxPrice != "" {
		var err error
		if limit, err = ledger.ParseAmount(m.MaxPrice); err != nil || limit < 0 {
			return pricing.Quote{}, &Refusal{
				Code: ParamsInvalid, Tool: name,
				Reason: "the highest price in _meta must be a decimal of at most six places, as in \"0.05\"",
			}
		}
	}
	quote, err := g.policy.Prices.Quote(ctx, item, argumentsOf(item, m))
	var refused *pricing.RefusedError
	switch {
	case errors.As(err, &refused):
		return quote, &Refusal{Code: PriceRefused, Tool: name, Reason: refused.Reason, Cause: refused.Cause}
	case err != nil:
		return quote, &Refusal{Code: ToolUnknown, Tool: name, Cause: err}
	case quote.Amount > limit:
		return quote, &Refusal{Code: PriceAboveMax, Tool: name, Price: quote.Amount, Maximum: limit, Currency: g.policy.Currency}
	}
	return quote, nil
}

func (g *Gate) reserve(ctx context.Context, caller *Caller, item items.Item, m *mcp.Message, quote pricing.Quote, scopes []string) (*Call, *Refusal) {
	c := &Call{gate: g, scopes: scopes, id: g.deps.NewID("chg_"), entry: quote.Entry, on: quote.ChargeOn, when: quote.ChargeIf, order: g.order(caller, item.String(), quote.Amount), terms: g.terms(caller, m), parent: trace.Keep(ctx)}
	began := g.deps.Now()
	within, span := c.span(ctx, trace.Reserve)
	reserved, err := g.deps.Ledger.Reserve(within, c.id, c.order, c.terms)
	refusal := g.refusal(err, &c.order)
	EndSpan(span, refusal)
	c.reserving = g.deps.Now().Sub(began)
	g.deps.Metrics.Reserved(c.reserving)
	switch {
	case refusal != nil:
		return nil, refusal
	case reserved.First != nil:
		return g.replay(c, reserved.First)
	}
	c.move(eventReserved)
	c.began = began
	c.deadline = began.Add(g.policy.MaxCall)
	c.startRenewal()
	return c, nil
}

func (g *Gate) order(caller *Caller, tool string, amount ledger.Amount) ledger.Order {
	earner := ledger.Earner{Provider: g.policy.Provider, Fee: g.policy.Fee, FeeTo: g.policy.FeeTo}
	return earner.Order(ledger.Order{
		Account: caller.Account, Key: caller.Subject, Lineage: caller.Lineage,
		Server: g.policy.Server, Tool: tool, Amount: amount, Test: caller.Environment == keys.Test,
	})
}

// terms returns the limits on a call of the caller as they are now.
func (g *Gate) terms(caller *Caller, m *mcp.Message) ledger.Terms {
	t := ledger.Terms{Key: ledger.CapsOf(caller.Limits.Spending()), Server: g.policy.Caps, FreeCalls: g.policy.FreeCalls, Proof: caller.proof()}
	if m.IdempotencyKey != "" {
		t.Idempotency = ledger.Idempotency{Key: m.IdempotencyKey, Fingerprint: mcp.Fingerprint(m)}
	}
	return t
}

// inFlightWait is how long a client should wait before it repeats a call again, if
// the first attempt is still running.
const inFlightWait = 2 * time.Second

// refusal returns the refusal for an error of a reservation or a capture, or nil if err
// is nil.
func (g *Gate) refusal(err error, o *ledger.Order) *Refusal {
	if err == nil {
		return nil
	}
	r := &Refusal{Code: StoreUnavailable, Cause: err, Tool: o.Tool, Price: o.Amount, Currency: g.policy.Currency, Test: o.Test}
	var insufficient *ledger.InsufficientError
	var capped *ledger.CapError
	switch {
	case errors.As(err, &insufficient):
		r.Code, r.Available = InsufficientBalance, insufficient.Balance.Available()
	case errors.As(err, &capped):
		r.Code, r.Cap = SpendingCap, capped
	case errors.Is(err, ledger.ErrInFlight):
		r.Code, r.RetryAfter = CallInFlight, inFlightWait
	case errors.Is(err, ledger.ErrReused):
		r.Code = IdempotencyKeyReused
	case errors.Is(err, ledger.ErrGone):
		r.Code = ResultGone
	}
	return r
}

// replay makes c a call that is answered with the stored response.
func (g *Gate) replay(c *Call, stored *ledger.StoredResponse) (*Call, *Refusal) {
	c.move(eventReplayed)
	c.charge, c.id, c.order = &stored.Charge, stored.Charge.ID, stored.Charge.Order
	c.first = stored.Body
	c.due = append(c.fields(stored.Balance), mcp.Field{Name: "dev.farebox/replayed", Value: []byte("true")})
	c.count(Ended{Result: ResultReplayed})
	return c, nil
}
