// Package platform is Farebox's HTTP API. It serves servers that charge by themselves,
// gateways without a store, and operators. The kind of a key determines which
// operations the key may perform. The key and the operator's config determine for which
// servers the key may perform these operations. A request cannot choose the account
// that earns.
//
// A Platform depends on neither Caddy nor SQL. Each config has its own Platform. A
// Platform keeps almost no state, and its store outlives it.
package platform

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Server is a server in the operator's config.
type Server struct {
	ledger.Earner
	Environments []keys.Environment // environments of the keys that the server admits; empty admits all
}

// Limiter counts the requests of a lineage against rates; see gate.Limiter. It must
// be safe for concurrent use.
type Limiter interface {
	Take(lineage string, buckets [2]gate.Bucket) gate.Quota
}

// Options configure a platform. All fields except the last five are required.
type Options struct {
	Servers  map[string]Server // the servers by name; the map must not change after New
	Secrets  *keys.Format      // format of the keys' secrets
	Currency string
	Version  string // the version of the program, shown in the API's description

	Keys    Keys
	Ledger  Ledger
	Store   Store
	Admin   *admin.Service
	Alerts  *alert.Service
	Grants  *ops.Grants
	Changes Revocations
	Watch   Watch
	Limiter Limiter // limits how often keys ask for their balance
	Signer  Signer
	Sealer  Sealer
	Logger  *slog.Logger
	Now     func() time.Time           // nil means clock.Now
	NewID   func(prefix string) string // nil means a UUIDv7 after the prefix
	// Charged is called for each charge that a provider makes, but not for retries.
	// Gateways count their own charges. May be nil.
	Charged func(server string, paid ledger.Amount, test bool)
	// Used is called with the key of each successful request, and with each agent's key
	// that a provider has charged. May be nil.
	Used func(*keys.Key)
	// Memory bounds the request bodies in memory. Nil means no bound.
	Memory *share.Budget
}

// Platform serves the API. It is safe for concurrent use.
type Platform struct {
	o     Options
	mount *ops.Mount
	nodes nodes

	keepAlive time.Duration // interval between the comments on a stream
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
	p := &Platform{o: o, nodes: newNodes(), keepAlive: keepAlive}
	p.mount = ops.NewMount(ops.MountOptions{
		Base: wire.Base, Auth: &callers{identity.StoredKeys{Keys: o.Keys, Secrets: o.Secrets, Now: o.Now}}, Logger: o.Logger,
		Title: "Farebox platform", Version: o.Version,
		Description: "Charging, keys and accounts. Amounts are decimals of at most six places in strings, in " + o.Currency + ". Times are RFC 3339, UTC.",
		Unknown:     "the operations are listed at " + wire.Base + "/docs",
		Missing:     "A key is needed, as in: Authorization: Bearer sk_live_…",
		Memory:      o.Memory, Done: p.done,
	})
	ops.Register(p.mount, ops.Always(p), Operations())
	ops.Register(p.mount, ops.Always(o.Admin), ops.ForKeys(ops.Store()))
	ops.Register(p.mount, ops.Always(o.Alerts), ops.ForKeys(ops.OnAlerts()))
	ops.Register(p.mount, ops.Always(o.Grants), ops.ForKeys(ops.OnGrants()))
	return p, p.mount.ServeDescription()
}

// Operations returns the operations of providers, gateways and agents.
func Operations() []ops.Op[*Platform] {
	return slices.Concat(chargeOps(), balanceOps(), gatewayOps(), reservationOps())
}

// callers authenticates requests by stored keys. It reports a flood of unknown keys
// as a problem.
type callers struct{ stored identity.StoredKeys }

func (c *callers) Authenticate(r *http.Request, client netip.Addr) (identity.Principal, error) {
	by, err := c.stored.Authenticate(r, client)
	if errors.Is(err, ErrFlood) {
		return by, flooded()
	}
	return by, err
}

func flooded() *wire.Problem {
	return ops.Problem(wire.TooMany, "Too many unknown keys from this address", "")
}

// Covers reports whether the path belongs to the API.
func Covers(path string) bool {
	return path == wire.Base || strings.HasPrefix(path, wire.Base+"/")
}

// Limits of request bodies, in bytes.
const (
	usedBody    = 1 << 20 // the limit for reports of key uses: room for about ten thousand uses
	captureBody = 2 << 20 // room for a response of ledger.MaxStoredResponse bytes in base64, and for its order
)

// Serve serves a request of the given client. The client's address may be the zero Addr
// if it is unknown. Covers must report true for the path. If known is not nil, Serve
// calls known(key) with the caller's key before the operation begins.
func (p *Platform) Serve(w http.ResponseWriter, r *http.Request, client netip.Addr, known func(*keys.Key)) {
	p.mount.Serve(w, r, client, func(by *identity.Principal) {
		if known != nil {
			known(by.Key)
		}
	})
}

// done calls Options.Used for each key that a successful request has used.
func (p *Platform) done(v *ops.Visit) {
	p.o.Used(v.By.Key)
	if v.Payer != nil {
		p.o.Used(v.Payer)
	}
}

// body is the input of an operation that has only a body.
type body[T any] struct{ Body T }

// isRefusal reports whether an error means that a key must be refused as invalid.
// Expired keys and keys of the wrong kind have their own refusals.
func isRefusal(err error) bool {
	return errors.Is(err, keys.ErrUnknown) || errors.Is(err, keys.ErrDeleted) || errors.Is(err, keys.ErrDisabled) ||
		errors.Is(err, keys.ErrServer) || errors.Is(err, keys.ErrEnvironment) || errors.Is(err, keys.ErrScope)
}
