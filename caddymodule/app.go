// Package caddymodule makes Farebox available as modules of Caddy: the app (the
// global option farebox), the HTTP handler (the directive farebox), routes on the
// admin endpoint, and the commands. A blank import of the package, or its name in
// the arguments of xcaddy, adds all of them. Only this package and those below it
// know Caddy.
package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"golang.org/x/text/currency"

	"github.com/fareboxhq/farebox/caddymodule/alerts"
	"github.com/fareboxhq/farebox/caddymodule/auditlog"
	"github.com/fareboxhq/farebox/caddymodule/authserver"
	"github.com/fareboxhq/farebox/caddymodule/callrecords"
	"github.com/fareboxhq/farebox/caddymodule/catalogue"
	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/caddymodule/help"
	"github.com/fareboxhq/farebox/caddymodule/stores"
	_ "github.com/fareboxhq/farebox/caddymodule/syslog" // registers the log writer
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func init() {
	caddy.RegisterModule(new(App))
}

// These variables are shared by all configs that the process loads, one after
// another, and outlive each of them; see package engine.
var (
	runtimes        = caddy.NewUsagePool()
	metrics, shares = newShares()
	audits          auditlog.Log
)

// App is the part of Farebox that all sites of a config share: the store of
// accounts, keys and charges, and the cache in front of it.
type App struct {
	// Where accounts, keys and charges are kept. Default: SQLite in the file
	// `farebox/farebox.db` in Caddy's data directory.
	Store *stores.Store `json:"store,omitempty"`

	// The currency of all amounts, as three capital letters (ISO 4217).
	// Default: `USD`.
	Currency string `json:"currency,omitempty"`

	// How keys are cached.
	Cache *Cache `json:"cache,omitempty"`

	// The form of the secrets of keys.
	Secrets *Secrets `json:"secrets,omitempty"`

	// The scopes that keys may have and that servers may require.
	Scopes *catalogue.Scopes `json:"scopes,omitempty"`

	// The lifetime of a personal key if none is given when the key is created. Default:
	// 183d.
	PersonalExpiry caddy.Duration `json:"personal_expiry,omitempty"`

	// The pause between two verifications of the books; see `farebox ledger verify`.
	// The first verification begins within five minutes of the start of the process.
	// `0` means never. Default: 24h.
	VerifyEvery *caddy.Duration `json:"verify_every,omitempty"`

	// The records of calls that were refused or failed. Default: kept for 30d.
	CallRecords *callrecords.Config `json:"call_records,omitempty"`

	// The file of the key that signs receipts. It is created if it does not exist.
	// The public keys are kept in a second file beside it. Processes that share a
	// store share both files. Default: beside a store that is a file, else
	// `farebox/receipt-key` in Caddy's data directory.
	ReceiptKeyFile string `json:"receipt_key_file,omitempty"`

	// The file of the keys that seal the ids of sessions and streams. It is created
	// if it does not exist. Processes that share a store share the file. Default:
	// beside a store that is a file, else `farebox/seal-key` in Caddy's data
	// directory.
	SealKeyFile string `json:"seal_key_file,omitempty"`

	help.Help

	// How alerts are sent. See docs/alerts.md. Default: not at all; they are shown only.
	Alerts *alerts.Alerts `json:"alerts,omitempty"`

	// The limits on resources of the process. See docs/limits.md.
	Limits *Limits `json:"limits,omitempty"`

	// The position of the option in the Caddyfile, such as `Caddyfile:3`. It is only
	// used in messages.
	Source string `json:"source,omitempty"`

	ctx      caddy.Context
	logger   *slog.Logger
	source   *stores.Source
	settings *admin.Settings // never changed after it is complete

	health health.Status

	mu        sync.Mutex
	handlers  []*Handler
	running   *engine.Runtime // nil unless this config holds a reference to the runtime
	platforms []*Platform

	endAudits func() // ends the use of this config's logger for audit records

	hasMetadata  bool // the config has a handler farebox_metadata
	hasOAuth     bool // the config has a handler farebox_oauth
	oauth        authserver.Link
	sitesChecked bool // checkSites has been called
}

// Cache has the settings of the cache of keys.
type Cache struct {
	// The number of keys in the cache. Default: 100000.
	Size int `json:"size,omitempty"`

	// How long a cached key is used before the store is asked again. A deleted key
	// is refused at once in any case. Default: 60s.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// How long a token that the store does not know is remembered as unknown.
	// Default: 5s.
	NegativeTTL caddy.Duration `json:"negative_ttl,omitempty"`
}

// Secrets is the form of the secrets of keys.
type Secrets struct {
	// The prefixes of secrets, before `_live_` or `_test_`. New secrets get the first
	// prefix; secrets with the other prefixes stay valid. Default: `sk`.
	Prefixes []string `json:"prefixes,omitempty"`

	// The prefixes of the secrets of personal keys. Default: `pat`.
	PersonalPrefixes []string `json:"personal_prefixes,omitempty"`

	// Whether tokens of any form are looked up in the store, so that keys that
	// another system has minted are found, too. But each invented token then costs a
	// lookup.
	Unchecked bool `json:"unchecked,omitempty"`
}

func (c *Cache) options() keycache.Options {
	if c == nil {
		return keycache.Options{}
	}
	return keycache.Options{Size: c.Size, TTL: duration(c.TTL), NegativeTTL: duration(c.NegativeTTL)}
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "farebox", New: func() caddy.Module { return new(App) }}
}

// Provision fills in the defaults. It does not open the store, because `caddy validate`
// also calls Provision.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Slogger()
	// Make the handlers of the operations only when they are first needed.
	a.health.Operations = sync.OnceValue(func() http.Handler {
		return a.newOperations(admin.Local{Dir: dataDir, Name: "admin endpoint"})
	})
	a.health.Internal = sync.OnceValue(func() http.Handler { return a.newOperations(identity.InContext{}) })
	a.endAudits = func() {}
	if err := a.fill(); err != nil {
		return a.located(err)
	}
	a.health.Currency = a.Currency
	if err := a.source.Connect(); err != nil {
		return a.located(fmt.Errorf("store: %w", err))
	}
	a.warnOfAdmin(ctx)
	a.warnOfCurrency()
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	if err := events.(*caddyevents.App).On("stopping", shutdownHook{a}); err != nil {
		return err
	}
	if registry := ctx.GetMetricsRegistry(); registry != nil {
		return metrics.Register(registry)
	}
	return nil
}

// located adds the option's position in the Caddyfile to an error.
func (a *App) located(err error) error {
	if err == nil || a.Source == "" {
		return err
	}
	return fmt.Errorf("%s: %w", a.Source, err)
}

// fill completes the config: the currency, the settings of keys, the store under its
// canonical name, and the files of keys.
func (a *App) fill() error {
	if a.Currency == "" {
		a.Currency = "USD"
	}
	var err error
	if a.settings, err = a.compileSettings(); err != nil {
		return err
	}
	if a.Store == nil {
		a.Store = &stores.Store{}
	}
	if a.source, err = a.Store.Source(dataDir()); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return a.fillKeyFiles()
}

// compileSettings checks and compiles the options about keys.
func (a *App) compileSettings() (*admin.Settings, error) {
	settings := &admin.Settings{Secrets: &keys.DefaultFormat, PersonalLife: duration(a.PersonalExpiry)}
	var err error
	if a.Secrets != nil {
		if settings.Secrets, err = keys.NewFormat(keys.FormatOptions(*a.Secrets)); err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
	}
	if a.PersonalExpiry < 0 {
		return nil, errors.New("personal_expiry cannot be below zero")
	}
	if settings.Scopes, err = a.Scopes.Compile(); err != nil {
		return nil, fmt.Errorf("scopes: %w", err)
	}
	return settings, nil
}

// dataDir is the default directory of Farebox's own files.
func dataDir() string { return filepath.Join(caddy.AppDataDir(), "farebox") }

// Validate checks the parts of the config that do not depend on other modules.
func (a *App) Validate() error { return a.located(a.check()) }

func (a *App) check() error {
	if err := checkCurrency(a.Currency); err != nil {
		return err
	}
	if a.Cache != nil && (a.Cache.Size < 0 || a.Cache.TTL < 0 || a.Cache.NegativeTTL < 0) {
		return errors.New("cache: size, ttl and negative_ttl cannot be below zero")
	}
	if a.VerifyEvery != nil && *a.VerifyEvery < 0 {
		return errors.New("verify_every cannot be below zero")
	}
	if err := errors.Join(a.Help.Check(), a.CallRecords.Check()); err != nil {
		return err
	}
	return errors.Join(a.checkAlerts(), a.Limits.check())
}

// checkCurrency checks the form of a currency.
func checkCurrency(code string) error {
	if len(code) != 3 || !allIn(code, 'A', 'Z') {
		return fmt.Errorf("currency %q: want three capital letters, as USD", code)
	}
	return nil
}

// warnOfCurrency logs a warning if no known currency has the code, because the store
// would keep a mistyped code for ever. An unknown code is not an error, because the
// table of known currencies may lack new currencies.
func (a *App) warnOfCurrency() {
	if _, err := currency.ParseISO(a.Currency); err != nil && checkCurrency(a.Currency) == nil {
		a.logger.Warn("no currency of ISO 4217 has this code: check it before the store has it, since it cannot be changed afterwards", "currency", a.Currency)
	}
}

func allIn(s string, low, high rune) bool {
	for _, c := range s {
		if c < low || c > high {
			return false
		}
	}
	return true
}

// register adds a handler, which Start will bind to the runtime. It returns an error if
// the handler does not agree with another handler of the same server.
func (a *App) register(h *Handler) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.handlers {
		if other.Server == h.Server && !other.agrees(h) {
			return fmt.Errorf("%s is configured twice, and the two differ in provider, prices, scopes, rate, caps, free quota, fee or issuers: %s", h.Guard(), other.Guard())
		}
		if err := h.resource.Agrees(other.resource); err != nil {
			return err
		}
	}
	if err := a.Limits.holds(h.MaxBody); err != nil {
		return fmt.Errorf("%s: %w", h.Guard(), err)
	}
	a.handlers = append(a.handlers, h)
	return a.checkEarners()
}

// Start opens the store, or shares it with a config that has it open already, and
// lets the handlers serve.
func (a *App) Start() error {
	err := a.start()
	metrics.ConfigLoaded(a.Currency, err)
	return err
}

func (a *App) start() error {
	a.health.Begin()
	if err := errors.Join(a.needMetadata(false), a.needOAuth()); err != nil {
		return err
	}
	a.endAudits = audits.Use(a.ctx.Logger()) // do this before the store is opened, because opening it may write audit records
	value, _, err := runtimes.LoadOrNew(a.source.Identity, a.open)
	if err != nil {
		return err
	}
	rt := value.(*engine.Runtime)
	a.mu.Lock()
	a.running = rt
	a.mu.Unlock()
	if err := rt.Acquire(); err != nil {
		return err
	}
	defer rt.Release()
	a.describe(rt)
	if err := rt.UseCurrency(context.Background(), a.Currency); err != nil {
		return fmt.Errorf("%s: %w", a.source.Name, err)
	}
	channels, err := a.alertConfig(rt)
	if err != nil {
		return err
	}
	before := rt.SetRules(a.rules()) // set the rules before the handlers are bound, because open streams are checked against them
	if err := a.bind(context.Background(), rt); err != nil {
		rt.SetRules(before)
		return err
	}
	shares.configure(a.Limits)
	a.settings.Servers = a.serverNames()
	rt.Configure(a.Cache.options(), a.settings, a.verifyEvery()) // configure last, so that a config that fails to start changes nothing
	if s := rt.Alerts(); s != nil {
		s.Configure(channels)
	}
	rt.ConfigureCalls(a.CallRecords.Settings())
	rt.CheckStreams()
	a.health.Start(rt)
	a.logOpened()
	a.logServers()
	return nil
}

// verifyEvery returns the pause between two verifications of the books, 0 for none.
func (a *App) verifyEvery() time.Duration {
	if a.VerifyEvery == nil {
		return engine.DefaultVerifyEvery
	}
	return duration(*a.VerifyEvery)
}

// bind gives the engine's runtime to the handlers and platforms, so that they can
// serve.
func (a *App) bind(ctx context.Context, rt *engine.Runtime) error {
	for _, h := range a.handlers {
		if err := h.bind(ctx, rt, a); err != nil {
			return err
		}
	}
	if err := a.bindPlatforms(ctx, rt); err != nil {
		return err
	}
	return a.health.Bind(rt)
}

// rules computes the access rules of all handlers as texts. It sets the text in each
// handler's site and returns the texts by server. Open streams compare the texts, to
// find out whether a new config has changed the rules. The texts do not contain prices,
// because each call looks up its price.
func (a *App) rules() map[string]string {
	rules := make(map[string]string, len(a.handlers))
	for _, h := range a.handlers {
		h.site.Rules = fmt.Sprintf("%+q %q %q %s %s", h.Scopes, h.Require, h.environments, textOf(a.Scopes), textOf(h.Issuers))
		rules[h.Server] = h.site.Rules
	}
	return rules
}

// textOf encodes a value as text, so that two values can be compared.
func textOf(v any) string {
	text, _ := json.Marshal(v) // cannot fail, because plain structs always encode
	return string(text)
}

// serverNames returns the names of all servers of the config, sorted.
func (a *App) serverNames() []string {
	var names []string
	for _, h := range a.handlers {
		names = append(names, h.Server)
	}
	for _, p := range a.platforms {
		for _, s := range p.Servers {
			names = append(names, s.Server)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (a *App) open() (caddy.Destructor, error) {
	for _, file := range []string{a.source.File, a.ReceiptKeyFile, a.SealKeyFile} {
		if file == "" {
			continue
		}
		if err := makeDir(filepath.Dir(file)); err != nil {
			return nil, err
		}
	}
	return engine.Open(context.Background(), engine.Options{
		Open: func(ctx context.Context) (engine.Store, error) {
			return a.source.Open(ctx, a.logger, stores.Events{NearCap: nearCap(a.logger), Committed: metrics.Committed, Audited: audits.Write})
		},
		Kind:     a.Store.Driver,
		KeyFile:  a.ReceiptKeyFile,
		SealFile: a.SealKeyFile,
		DebtDir:  a.debtDir(),
		DebtBy:   a.source.By,
		Cache:    a.Cache.options(),
		IDs:      shares.ids,
		Metrics:  metrics,
		Logger:   a.logger,
	})
}

// nearCap returns the function that a store calls when 80 % of a spending cap are
// spent. The function logs a warning, and counts the event in the metrics.
func nearCap(logger *slog.Logger) func(ledger.Cap) {
	return func(c ledger.Cap) {
		metrics.NearCap(c)
		logger.Warn("80 % of a spending cap are spent", "holder", c.Holder, "period", c.Period, "account", c.Account,
			"lineage", c.Lineage, "server", c.Server, "test", c.Test, "cap", c.Amount, "spent", c.Spent, "resets", c.Resets)
	}
}

// Catalogue returns the declared scopes. It may be nil.
func (a *App) Catalogue() *keys.Catalogue { return a.settings.Scopes }

// OAuthLink connects farebox_oauth with farebox_console.
func (a *App) OAuthLink() *authserver.Link { return &a.oauth }

// ServeOAuth notes that a handler serves the gateway's own issuers. Call it while the
// config is provisioned.
func (a *App) ServeOAuth() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hasOAuth = true
}

// OwnResources returns the protected resources that the gateway itself issues tokens for,
// with the environments that their servers admit. Call it after all handlers have
// registered.
func (a *App) OwnResources() (all []authserver.Resource) {
	for _, r := range a.resources() {
		if r.Own() {
			all = append(all, authserver.Resource{Resource: r, Environments: a.environmentsOf(r.Server())})
		}
	}
	return all
}

func (a *App) environmentsOf(server string) []keys.Environment {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.handlers {
		if h.Server == server {
			return h.environments
		}
	}
	return nil
}

// Status returns the health of this config.
func (a *App) Status() *health.Status { return &a.health }

// Stop does nothing: calls of this config may still be in flight.
func (a *App) Stop() error { return nil }

// shutdownHook subscribes to Caddy's stopping event in place of the app, because
// Caddy logs its subscribers as JSON and the app's config may contain a secret.
type shutdownHook struct{ a *App }

// Handle ends open streams when the process stops. App.Stop would be too late for
// this: Caddy may stop the HTTP app first, and then waits for the open streams. The
// event comes before any app is stopped.
func (e shutdownHook) Handle(context.Context, caddy.Event) error {
	a := e.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running != nil && caddy.Exiting() {
		a.running.EndStreams()
	}
	return nil
}

// Cleanup releases this config's reference to the store, if it has one. The last
// release closes the store.
func (a *App) Cleanup() error {
	defer a.endAudits() // runs last, because closing the store may write audit records
	a.mu.Lock()
	held := a.running != nil
	a.running = nil
	a.mu.Unlock()
	a.health.End()
	if !held {
		return nil
	}
	_, err := runtimes.Delete(a.source.Identity)
	return err
}

// Interface guards: the compiler checks that App implements these interfaces.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)

	_ caddyevents.Handler = shutdownHook{}
)
