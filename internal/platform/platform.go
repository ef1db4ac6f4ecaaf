// Package platform is Farebox's HTTP API: servers that charge by themselves,
// gateways without a store, and whoever manages accounts and keys talk to it.
// What they may do follows from the kind of their key, and for which servers
// from the key and from what the operator's config says of servers; what a
// request says of who earns is never believed.
//
// A Platform knows neither Caddy nor SQL. It is made anew for each config and
// keeps almost nothing: its store outlives it.
package platform

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Server is one server that calls are charged for, as the operator's config
// has it.
type Server struct {
	Provider     string             // id of the account that earns
	Environments []keys.Environment // whose keys it admits; empty admits all
	Fee          ledger.Share       // of each charge, for the account FeeTo
	FeeTo        string             // id of the operator's account; "" without a fee
}

// Limiter counts what keys of a lineage ask for against rates; see gate.Limiter.
// It must be safe for concurrent use.
type Limiter interface {
	Take(lineage string, buckets [2]gate.Bucket) gate.Quota
}

// Options say what a platform serves. All must be set but the last five.
type Options struct {
	Servers  map[string]Server // by name; never changed afterwards
	Secrets  *keys.Format      // the form of tokens
	Currency string
	Version  string // of the program, for the description of the API

	Keys    Keys
	Ledger  Ledger
	Store   Store
	Admin   Admin
	Changes Revocations
	Watch   Watch
	Limiter Limiter // of how often keys ask for their balance
	Signer  Signer
	Sealer  Sealer
	Logger  *slog.Logger
	Now     func() time.Time           // nil: clock.Now
	NewID   func(prefix string) string // nil: a UUIDv7 after the prefix
	// Charged counts a charge that a provider has made; nil does not. A retry does
	// not count. What gateways charge they count themselves.
	Charged func(server string, paid ledger.Amount, test bool)
	// Used is told of each key by which something was done, and of each agent's that
	// a provider has charged; nil is not.
	Used func(*keys.Key)
	// Memory bounds the bodies that are held; nil does not.
	Memory *share.Budget
}

// Platform serves the API. It is safe for concurrent use.
type Platform struct {
	Options
	mux   *http.ServeMux
	api   huma.API
	rules map[string]rule // by the pattern of the mux
	nodes nodes

	keepAlive time.Duration // of streams
}

// rule is what a request must pass before its operation is looked at.
type rule struct {
	kinds   []keys.Kind // that may ask; nil for what needs no key
	maxBody int64       // bytes; 0 for no body
	charge  bool        // refused as a provider's request
}

// New returns a platform.
func New(o Options) (*Platform, error) {
	if o.Now == nil {
		o.Now = clock.Now
	}
	if o.NewID == nil {
		o.NewID = id.New
	}
	if o.Used == nil {
		o.Used = func(*keys.Key) {}
	}
	if o.Charged == nil {
		o.Charged = func(string, ledger.Amount, bool) {}
	}
	p := &Platform{Options: o, mux: http.NewServeMux(), rules: make(map[string]rule), nodes: newNodes(), keepAlive: keepAlive}
	p.api = p.newAPI()
	p.registerCharge()
	p.registerBalance()
	p.registerGateway()
	p.registerManagement()
	return p, p.describe()
}

// Covers reports whether a path is the API's.
func Covers(path string) bool {
	return path == wire.Base || strings.HasPrefix(path, wire.Base+"/")
}

// Limits of a request.
const (
	maxAuthorization = 512              // bytes of the header
	bodyTime         = 30 * time.Second // for the body to arrive
	smallBody        = 64 << 10
	usedBody         = 1 << 20 // the uses of some ten thousand keys
	captureBody      = 2 << 20 // an answer of ledger.MaxAnswer in base64, and its order
)

// Serve serves a request of a client, whose address may be zero if it is not
// known. The path must be one that Covers tells of. known is told whose key it
// is, before anything is done; nil is not.
func (p *Platform) Serve(w http.ResponseWriter, r *http.Request, client netip.Addr, known func(*keys.Key)) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	rule, refused := p.route(w, r)
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	if rule.kinds == nil {
		p.mux.ServeHTTP(w, r)
		return
	}
	v := &visit{client: client, idempotency: r.Header.Values("Idempotency-Key")}
	if v.key, refused = p.authenticate(r, client, &rule); refused != nil {
		writeProblem(w, refused)
		return
	}
	if known != nil {
		known(v.key)
	}
	var memory share.Allocation
	if p.Memory != nil { // whoever may ask was given a key by the operator
		p.Memory.Open(&memory, share.Holder{Address: client, Account: v.key.Account, Lineage: v.key.Lineage, Paid: true})
		defer memory.Close()
	}
	if refused = readBody(w, r, &memory, rule.maxBody); refused == nil && rule.maxBody > 0 {
		// Reading took as long as the caller liked; its key may have ended meanwhile.
		v.key, refused = p.check(r.Context(), client, v.key.Digest, &rule)
	}
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	p.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitKey{}, v)))
}

// visit is what an operation knows of its request.
type visit struct {
	key         *keys.Key // of the caller
	payer       *keys.Key // whose token the caller has shown; nil for none
	client      netip.Addr
	idempotency []string // the headers; more than one is refused by what heeds them
}

type visitKey struct{}

// visitOf returns the request's visit. Every operation that needs a key has one.
func visitOf(ctx context.Context) *visit { return ctx.Value(visitKey{}).(*visit) }

// methods that operations have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// route finds the rule of a request. A path is taken as it is: none is cleaned
// or redirected, since a client that follows would send its key again.
func (p *Platform) route(w http.ResponseWriter, r *http.Request) (rule, *wire.Problem) {
	if path.Clean(r.URL.Path) == r.URL.Path {
		if _, pattern := p.mux.Handler(r); pattern != "" {
			if rule := p.rules[pattern]; r.Method != http.MethodHead || rule.kinds == nil {
				return rule, nil
			}
		}
		if allowed := p.allowed(r); len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return rule{}, problem(wire.MethodNotAllowed, "This is not done by that method", "It has: "+strings.Join(allowed, ", "))
		}
	}
	return rule{}, problem(wire.NotFound, "There is nothing here", "The operations are listed at "+wire.Base+"/docs")
}

// allowed returns the methods that the request's path has.
func (p *Platform) allowed(r *http.Request) []string {
	return slices.DeleteFunc(slices.Clone(methods), func(method string) bool {
		probe := *r
		probe.Method = method
		_, pattern := p.mux.Handler(&probe)
		return pattern == ""
	})
}

// authenticate reads the caller's token (RFC 6750, 2.1: nowhere but in the
// Authorization header) and returns its key. A token whose form or checksum is
// wrong costs no lookup.
func (p *Platform) authenticate(r *http.Request, client netip.Addr, rule *rule) (*keys.Key, *wire.Problem) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return nil, rule.unknown("A key is needed, as in: Authorization: Bearer sk_live_…")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || len(values[0]) > maxAuthorization || !strings.EqualFold(scheme, "Bearer") {
		return nil, rule.unknown("")
	}
	digest, err := p.Secrets.Parse(token)
	if err != nil {
		return nil, rule.unknown("")
	}
	return p.check(r.Context(), client, digest, rule)
}

// check looks the caller's key up and reports whether it may ask now.
func (p *Platform) check(ctx context.Context, client netip.Addr, digest keys.Digest, rule *rule) (*keys.Key, *wire.Problem) {
	key, err := p.Keys.Lookup(ctx, client, digest)
	if err == nil {
		err = key.Check(p.Now(), keys.Use{Kinds: rule.kinds})
	}
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, keys.ErrExpired):
		return nil, rule.expired()
	case errors.Is(err, keys.ErrKind):
		return nil, problem(wire.KindWrong, "The key is of the wrong kind", "This is for keys of kind "+kindNames(rule.kinds))
	case isRefusal(err):
		return nil, rule.unknown("")
	}
	return nil, p.notLookedUp(ctx, err)
}

// notLookedUp says why a key is neither known nor known not to exist.
func (p *Platform) notLookedUp(ctx context.Context, err error) *wire.Problem {
	if errors.Is(err, ErrFlood) {
		return problem(wire.TooMany, "Too many unknown keys from this address", "")
	}
	return p.problem(ctx, "a key could not be looked up", err)
}

// isRefusal reports whether an error says that a key is not good, for whatever
// reason.
func isRefusal(err error) bool {
	return errors.Is(err, keys.ErrUnknown) || errors.Is(err, keys.ErrDeleted) || errors.Is(err, keys.ErrDisabled) ||
		errors.Is(err, keys.ErrServer) || errors.Is(err, keys.ErrEnvironment) || errors.Is(err, keys.ErrScope)
}

func (r *rule) name() string {
	if r.charge {
		return "provider key"
	}
	return "key"
}

func (r *rule) unknown(detail string) *wire.Problem {
	return problem(wire.TokenInvalid, "Invalid "+r.name(), detail)
}

func (r *rule) expired() *wire.Problem {
	if r.charge {
		return problem(wire.TokenExpired, "Provider key expired", "")
	}
	return problem(wire.TokenExpired, "Key expired", "")
}

func kindNames(kinds []keys.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.String()
	}
	return strings.Join(names, " or ")
}
