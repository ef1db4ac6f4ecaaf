package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/accesslog"
	"github.com/fareboxhq/farebox/caddymodule/calllog"
	"github.com/fareboxhq/farebox/caddymodule/help"
	"github.com/fareboxhq/farebox/caddymodule/issuers"
	"github.com/fareboxhq/farebox/caddymodule/opening"
	"github.com/fareboxhq/farebox/caddymodule/pricebook"
	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/caddymodule/routes"
	_ "github.com/fareboxhq/farebox/caddymodule/stdio" // registers farebox_stdio
	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/platform"
	"github.com/fareboxhq/farebox/internal/pricing"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler lets agents call one MCP server by token, and charges their accounts
// for each tool call. Either `upstream` names the server, or the handlers behind this
// one in the route, usually `reverse_proxy`, reach it.
//
// Placeholders it sets, as soon as the token is known to be good:
//
// Placeholder | Description
// ------------|------------
// `{http.auth.user.id}` | The id of the calling account
// `{http.farebox.account}` | The same
// `{http.farebox.key}` | The id of the key
// `{http.farebox.server}` | The name of the server
// `{http.farebox.tool}` | The item of a paid call: a tool, `prompt:NAME`, `resource:URI` or `method:NAME`
// `{http.farebox.charge}` | The id of a paid call's charge
type Handler struct {
	// The name of the MCP server, as used in receipts, in metrics, and in the
	// allowed servers of keys. Required.
	Server string `json:"server,omitempty"`

	// The name of the account that earns. It is created if it does not exist.
	// Required, except with a remote store: the platform knows its providers, and
	// this name is not used.
	Provider string `json:"provider,omitempty"`

	// The environments of the keys that are admitted: `live`, `test`, or both.
	// Default: `live`.
	Environments []string `json:"environments,omitempty"`

	// The MCP server, in the form of a `reverse_proxy`. The handlers behind this one
	// in the route are then not called. Default: the handlers behind this one lead to
	// the server.
	Upstream target.Config `json:"upstream,omitempty"`

	// The prices, and the ends of a call (such as a result or an error) that are
	// charged.
	pricebook.Terms

	// The scopes that a key needs for tools, prompts and resources. An exact name
	// wins over patterns, and the first matching pattern wins over later ones.
	Scopes []ScopeRule `json:"scopes,omitempty"`

	// All the scopes that a key needs for items without a rule in `scopes`. Default:
	// `agent:connect`. Every agent key carries that scope. A personal key carries it
	// only if the key was created with that scope.
	Require []string `json:"require,omitempty"`

	// The request rate that all keys of one lineage share, such as `60/1m burst
	// 100`. Upkeep (the handshake, lists, notifications) is counted separately.
	// Default: no limit.
	RateLimit string `json:"rate_limit,omitempty"`

	// The form of refusals for a missing token, a missing scope or lack of money,
	// and for too many requests. With `mcp`, most refusals of tool calls are tool
	// results with `isError`: MCP clients go on, and their models can read the
	// reason. With `http`, such a refusal is a status (401, 402, 403, 429) and a
	// JSON-RPC error. Default: `mcp`.
	ErrorStyle string `json:"error_style,omitempty"`

	help.Help

	// The server's OAuth metadata for discovery. It needs the handler
	// `farebox_metadata`. Default: no metadata.
	OAuth *resource.OAuth `json:"oauth,omitempty"`

	// The other authorization servers of which the site accepts access tokens, beside
	// keys. They need a store of the gateway's own. Default: none.
	Issuers []issuers.Issuer `json:"issuers,omitempty"`

	// The most that one account may spend at this server: in one call, in a UTC day,
	// and in a UTC month.
	Caps *Caps `json:"caps,omitempty"`

	// How many priced calls of one account are free each day (UTC), such as
	// `100/day`. Default: none.
	FreeQuota string `json:"free_quota,omitempty"`

	// The share of each charge that the operator keeps. Default: none.
	Fee *Fee `json:"fee,omitempty"`

	// The longest request body, in bytes. Default: 4 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// How long a call may take. Default: 1h.
	MaxCall caddy.Duration `json:"max_call,omitempty"`

	// How long an open event stream may be silent before a comment is sent on it, so
	// that proxies in between do not close it. With `0`, no comments are sent. JSON
	// responses have no comments. Default: 25s.
	Keepalive *caddy.Duration `json:"keepalive,omitempty"`

	// Origins of web pages that may call the server, in addition to the request's own
	// host. Each is a scheme, a host and, if it is not the default, a port.
	Origins []string `json:"origins,omitempty"`

	// A header for keys, in addition to the Authorization header. Default: none.
	Credentials *Credentials `json:"credentials,omitempty"`

	// Whether receipts are left out of answers.
	NoReceipts bool `json:"no_receipts,omitempty"`

	// Whether `tools/list` repeats the price of each priced tool at the end of its
	// description, for clients that do not show `_meta` to their models.
	PriceInDescription bool `json:"price_in_description,omitempty"`

	// Whether the server receives the caller's identity in the headers
	// `X-Farebox-Account`, `X-Farebox-Key` and `X-Farebox-Scopes`. Headers of these
	// names that clients send are always removed.
	IdentityHeaders bool `json:"identity_headers,omitempty"`

	// Whether one record of each request is logged, by the logger
	// `http.handlers.farebox.calls`. See docs/logs.md.
	CallLog bool `json:"call_log,omitempty"`

	// The Authorization header that the server receives. The caller's own header
	// never reaches the server. Use a placeholder, such as `{env.UPSTREAM_TOKEN}`,
	// to keep a secret out of the config.
	UpstreamAuthorization string `json:"upstream_authorization,omitempty"`

	// The position of the directive in the Caddyfile, such as `Caddyfile:12`. It is
	// only used in messages.
	Source string `json:"source,omitempty"`

	logger        *slog.Logger
	redactor      accesslog.Redactor
	elsewhere     bool // the store is remote: the platform knows the provider and the fee
	book          *pricing.Book
	environments  []keys.Environment
	caps          ledger.Caps
	freeCalls     int64
	rate          keys.Rate
	rights        *gate.Rights
	notifications *gate.Notifications
	resource      *resource.Resource // nil without the option oauth
	issuers       *issuers.Loaded    // nil without the option issuer
	target        *target.Target     // nil without the option upstream

	site    exchange.Site
	host    host
	running *opening.Runtime
	earns   platform.Server // provider and fee; not set if a platform keeps the accounts
}

// Caps limit spending. Amounts are decimals. An empty amount is no limit.
type Caps struct {
	Call  string `json:"call,omitempty"`
	Day   string `json:"day,omitempty"`
	Month string `json:"month,omitempty"`
}

// Fee is the operator's share of each charge.
type Fee struct {
	// The share, such as `2.5%`, with at most four decimal places. The resulting
	// amount is rounded down.
	Share string `json:"share"`

	// The name of the account that receives the share. It is created if it does not
	// exist.
	Account string `json:"account"`
}

// The defaults of a handler.
const (
	defaultMaxBody = 4 << 20
	defaultMaxCall = time.Hour
	// defaultKeepalive is below 30 s, after which the most impatient proxies close
	// a silent connection.
	defaultKeepalive = 25 * time.Second
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox", New: func() caddy.Module { return new(Handler) }}
}

// Provision compiles the config. It does not open the store, because `caddy validate`
// also calls Provision.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Slogger()
	if len(h.Environments) == 0 {
		h.Environments = []string{string(keys.Live)}
	}
	h.Terms.FillDefaults()
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if h.MaxCall == 0 {
		h.MaxCall = caddy.Duration(defaultMaxCall)
	}
	repl := caddy.NewReplacer()
	auth, err := repl.ReplaceOrErr(h.UpstreamAuthorization, true, true)
	if err != nil {
		return fmt.Errorf("%s: upstream_authorization: %w", h.Guard(), err)
	}
	h.site.UpstreamAuthorization = auth
	loaded, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	app := loaded.(*App)
	h.elsewhere = app.Store.Driver == stores.Remote
	if err = h.compile(); err == nil {
		h.Inherit(&app.Help)
		err = h.Help.Check()
	}
	if err == nil {
		err = h.compileRights(app.settings.Scopes)
	}
	if err == nil {
		err = h.compileOAuth(app.settings.Scopes)
	}
	if err == nil {
		err = h.loadIssuers(app)
	}
	if err == nil && h.Upstream != nil {
		h.target, err = target.Load(ctx, h.Upstream)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.Guard(), err)
	}
	h.compileSite(app.settings.Secrets)
	if h.CallLog {
		h.site.Calls = calllog.New(ctx, app.Currency)
	}
	h.redactor = accesslog.Redactor{Server: h.Server, Secrets: h.site.Secrets, Header: h.site.KeyHeader, Access: accesslog.Logger(ctx), Log: h.logger}
	if err := app.register(h); err != nil {
		return err
	}
	if err := app.checkSites(ctx); err != nil {
		return err
	}
	h.warnOfCaps()
	h.Terms.Warn(h.logger, h.Server, h.Source, h.book)
	return app.needMetadata(metadataPending(ctx))
}

// compileOAuth checks and compiles the OAuth config. It must be called after
// compileRights.
func (h *Handler) compileOAuth(declared *keys.Catalogue) (err error) {
	if h.OAuth != nil {
		h.resource, err = h.OAuth.Compile(h.Server, declared, h.rights.Named(), h.rights.Required())
	}
	return err
}

// loadIssuers makes the issuers ready. It must be called after compileOAuth.
func (h *Handler) loadIssuers(app *App) (err error) {
	if len(h.Issuers) == 0 {
		return nil
	}
	if h.elsewhere {
		return errors.New("issuer: a gateway with a remote store has no accounts: configure the issuer where the store is")
	}
	s := issuers.Site{Environments: h.environments, Scopes: app.settings.Scopes, Metrics: metrics, Logger: h.logger}
	if h.OAuth != nil {
		s.Resource = h.OAuth.Resource
	}
	s.Unchecked = app.Secrets != nil && app.Secrets.Unchecked
	h.issuers, err = issuers.Load(h.Issuers, s)
	return err
}

var errServerName = errors.New("a server needs a name: 1 to 64 letters, digits, '_', '.', '-', beginning with a letter or digit")

func checkServerName(name string) error {
	if !keys.ValidServer(name) {
		return fmt.Errorf("server %q: %w", name, errServerName)
	}
	return nil
}

func checkProvider(name string) error {
	if err := ledger.ValidName(name); err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	return nil
}

// compile checks the config of the handler and sets the fields that are derived from
// it.
func (h *Handler) compile() error {
	if !keys.ValidServer(h.Server) {
		return errServerName
	}
	if err := checkProvider(h.Provider); err != nil && (h.Provider != "" || !h.elsewhere) {
		return err
	}
	if h.MaxBody < 0 || h.MaxCall < 0 {
		return errors.New("max_body and max_call cannot be below zero")
	}
	if h.keepalive() < 0 {
		return errors.New("keepalive cannot be below zero")
	}
	var err error
	if h.environments, err = parseEnvironments(h.Environments); err != nil {
		return fmt.Errorf("environments: %w", err)
	}
	if h.book, h.notifications, err = h.Terms.Compile(); err != nil {
		return err
	}
	if h.Credentials != nil {
		if err := h.Credentials.check(); err != nil {
			return err
		}
		h.site.KeyHeader = exchange.NewKeyHeader(h.Credentials.Header)
	}
	if err := h.compileSpending(); err != nil {
		return err
	}
	if h.RateLimit != "" {
		if h.rate, err = keys.ParseRate(h.RateLimit); err != nil {
			return fmt.Errorf("rate_limit: %w", err)
		}
	}
	if h.ErrorStyle != "" && h.ErrorStyle != styleMCP && h.ErrorStyle != styleHTTP {
		return errStyle(h.ErrorStyle)
	}
	h.site.Origins = make(map[string]bool, len(h.Origins))
	for _, origin := range h.Origins {
		if err := checkOrigin(origin); err != nil {
			return err
		}
		h.site.Origins[origin] = true
	}
	return nil
}

func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("origin %q: want a scheme and a host, as https://app.example.com", origin)
	}
	return nil
}

// keepalive returns how long an event stream may be silent, or 0 for no limit.
func (h *Handler) keepalive() time.Duration {
	if h.Keepalive == nil {
		return defaultKeepalive
	}
	return duration(*h.Keepalive)
}

// agrees reports whether two handlers of one server charge the same, and give the
// same rights to the same keys.
func (h *Handler) agrees(other *Handler) bool {
	return h.Provider == other.Provider && h.Terms.SameAs(&other.Terms) &&
		reflect.DeepEqual(h.Scopes, other.Scopes) && slices.Equal(h.Require, other.Require) && h.rate == other.rate &&
		h.caps == other.caps && h.freeCalls == other.freeCalls && reflect.DeepEqual(h.Fee, other.Fee) && reflect.DeepEqual(h.Issuers, other.Issuers)
}

// bind gives the engine's runtime to the handler, so that it can serve.
func (h *Handler) bind(ctx context.Context, rt *engine.Runtime, app *App) error {
	policy := gate.Policy{
		Server: h.Server, Environments: h.environments, Secrets: app.settings.Secrets,
		Prices: h.book, Currency: app.Currency, Receipts: !h.NoReceipts, PriceNotes: h.PriceInDescription, MaxCall: duration(h.MaxCall),
		Rights: h.rights, Notifications: h.notifications, Rate: h.rate, Caps: h.caps, FreeCalls: h.freeCalls,
	}
	if service := rt.Service(); service != nil {
		var err error
		if h.earns, err = earning(ctx, service, h.Provider, h.Fee); err != nil {
			return fmt.Errorf("server %q: %w", h.Server, err)
		}
		policy.Provider, policy.Fee, policy.FeeTo = h.earns.Provider, h.earns.Fee, h.earns.FeeTo
	}
	further, err := h.issuers.Authenticators(rt.Service(), app.settings.Secrets)
	if err != nil {
		return fmt.Errorf("server %q: %w", h.Server, err)
	}
	h.site.Gate = rt.Gate(policy, further...)
	if calls := rt.Calls(); calls != nil {
		h.site.Records = calls
	}
	h.running.Set(rt)
	return nil
}

// knowsMethod reports whether a rule of the config names the method of the request
// m. Metrics may then show the method's name, even if the protocol has no such
// method.
func (h *Handler) knowsMethod(m *mcp.Message) bool {
	_, named := h.book.Offer(items.Item{Kind: items.Method, Name: m.Method})
	return named && m.Kind == mcp.KindRequest
}

// topUp returns the page for buying credits that a request's caller may see.
func (h *Handler) topUp(r *http.Request, caller *gate.Caller) string {
	if grants := h.running.Engine().OAuth(); grants != nil {
		return h.TopUp(r, caller, grants)
	}
	return h.TopUp(r, caller, nil)
}

// compileSite completes h.site, the settings with which package exchange serves
// requests.
func (h *Handler) compileSite(secrets *keys.Format) {
	s := &h.site
	s.Server, s.MaxBody, s.MaxCall, s.Keepalive = h.Server, h.MaxBody, duration(h.MaxCall), h.keepalive()
	s.ErrorStyle, s.IdentityHeaders, s.Contact, s.TopUpURL = h.ErrorStyle, h.IdentityHeaders, h.Contact, h.topUp
	s.Secrets, s.KnowsMethod = secrets, h.knowsMethod
	s.Shares, s.Metrics, s.Logger = &shares.Shares, metrics.Site(h.Server), h.logger
	if h.resource != nil {
		s.Resource = &exchange.Resource{Scopes: h.resource.Needs(), MetadataURL: func(r *http.Request) string {
			return h.resource.MetadataURL(h.resource.Asked(r))
		}}
	}
	if h.target != nil {
		if direct := h.target.Direct(); direct != nil {
			s.Upstream = direct
		}
	}
	h.running = opening.New()
	s.Engine = h.running
	h.host.h = h
}

// Guard identifies the handler, for messages and package routes.
func (h *Handler) Guard() routes.Guard { return routes.Guard{Server: h.Server, Source: h.Source} }

// Target returns the handler that sends requests to the server, and the addresses that
// the config names; see routes.Leading.
func (h *Handler) Target() (to caddyhttp.Handler, addresses []string) {
	if h.target == nil {
		return nil, nil
	}
	return h.target, h.target.Addresses()
}

// Cleanup gives the issuers back, and closes idle connections with the server. Calls may
// still be in flight.
func (h *Handler) Cleanup() error {
	h.issuers.Close()
	if h.target != nil {
		h.target.Close()
	}
	return nil
}

// ServeHTTP serves one request; see package exchange.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.target != nil {
		next = h.target
	}
	if h.site.KeyHeader.IsSet() || h.redactor.Leaks(r) {
		h.serveRedacted(w, r, next)
		return nil
	}
	return statusOf(exchange.New(&h.site, &h.host, next, w, r).Serve())
}

// serveRedacted serves a request and writes its record in the access log in place of
// Caddy, with keys redacted.
func (h *Handler) serveRedacted(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) {
	record, w := h.redactor.Begin(w, r)
	x := exchange.New(&h.site, &host{h: h, record: record}, next, w, r)
	defer func() { record.Write(x.BodyLen(), x.Account()) }()
	if err := statusOf(x.Serve()); err != nil {
		record.Fail(err)
	}
}

// statusOf adds the HTTP status to an error of Exchange.Serve.
func statusOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exchange.ErrNoMetadata):
		return caddyhttp.Error(http.StatusNotFound, err)
	}
	return caddyhttp.Error(http.StatusInternalServerError, err)
}

// Interface guards: the compiler checks that Handler implements these interfaces.
var (
	_ caddy.Provisioner  = (*Handler)(nil)
	_ caddy.CleanerUpper = (*Handler)(nil)
	_ routes.Leading     = (*Handler)(nil)
)
