package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/offers"
	"github.com/fareboxhq/farebox/caddymodule/routes"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/inprocess"
	"github.com/fareboxhq/farebox/internal/offer"
	"github.com/fareboxhq/farebox/internal/ops"
)

// checkTime bounds how long a server may take to list its offer.
const checkTime = 30 * time.Second

// runningHTTP returns the HTTP app of the running config, or nil if the config has
// no HTTP app.
func runningHTTP() *caddyhttp.App {
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return nil
	}
	return app.(*caddyhttp.App)
}

// served returns the handlers of the config, one for each server.
func (a *App) served() []*Handler {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*Handler
	seen := make(map[string]bool)
	for _, h := range a.handlers {
		if !seen[h.Server] {
			all = append(all, h)
		}
		seen[h.Server] = true
	}
	return all
}

// logServers logs where clients call each server.
func (a *App) logServers() {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return // there is no HTTP app, as in a test without sites or a config that only serves commands
	}
	for _, h := range a.served() {
		if place := routes.Find(app.(*caddyhttp.App), h); place != nil {
			a.logger.Info("guarding a server", "server", h.Server, "url", place.URL(), "upstreams", place.Upstreams)
		}
	}
}

// ListServers lists the servers of the config, in the order of the config.
func (a *App) ListServers() []ops.ServerView {
	list := []ops.ServerView{}
	app := runningHTTP()
	for _, h := range a.served() {
		view := ops.ServerView{
			Name: h.Server, Provider: h.Provider, Environments: h.Environments, Upstreams: []string{},
			Priced: len(h.Prices), Unpriced: h.Unpriced, Source: h.Source,
		}
		for _, p := range h.Prices {
			if p.Free() {
				view.Free++
			}
		}
		if app != nil {
			if place := routes.Find(app, h); place != nil {
				view.Upstreams = append(view.Upstreams, place.Upstreams...)
				view.URL = place.URL()
			}
		}
		list = append(list, view)
	}
	return list
}

// CheckServer asks a server for its offer, and compares the offer with the price
// book and with the previous offer.
func (a *App) CheckServer(ctx context.Context, name, path string) (*ops.CheckView, error) {
	if path != "" && !strings.HasPrefix(path, "/") {
		return nil, &admin.Error{Code: admin.Invalid, Message: fmt.Sprintf("the path %q does not begin with /", path)}
	}
	h, err := a.server(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	found, err := h.ask(ctx, path)
	if err != nil {
		return nil, err
	}
	found.Sort()
	before, err := offer.Remember(h.offerFile(), found, clock.Now())
	if err != nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: "what the server offers could not be remembered: " + err.Error()}
	}
	return h.compared().Compare(found, before), nil
}

// server returns the handler of the named server. It returns an error if the handler
// cannot serve yet.
func (a *App) server(name string) (*Handler, error) {
	var known []string
	for _, h := range a.served() {
		if h.Server != name {
			known = append(known, h.Server)
			continue
		}
		if h.running.Ready() {
			return h, nil
		}
		return nil, &admin.Error{Code: admin.Unavailable, Message: "the store is not open: try again in a moment"}
	}
	return nil, &admin.Error{Code: admin.NotFound, Message: fmt.Sprintf("there is no server %q in the running config; there are: %s", name, strings.Join(known, ", "))}
}

// ask asks the server for its offer. The request goes through the handlers behind h in
// the route, so it uses the same proxy and the same headers as calls. The request is
// not charged.
func (h *Handler) ask(ctx context.Context, path string) (*offer.Offer, error) {
	app := runningHTTP()
	if app == nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: "the running config has no HTTP app"}
	}
	at := routes.Find(app, h)
	if at == nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: fmt.Sprintf("server %q cannot be asked: what follows it in its route is not known", h.Server)}
	}
	paths := []string{path}
	if path == "" {
		paths = at.Paths()
	}
	header := make(http.Header)
	if h.site.UpstreamAuthorization != "" {
		header.Set("Authorization", h.site.UpstreamAuthorization)
	}
	found, err := offer.Ask(ctx, inprocess.Transport{Handler: at}, at.Host(), paths, header)
	if err != nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: fmt.Sprintf("server %q does not tell what it offers: %v; if it answers at another path, give --path", h.Server, err)}
	}
	return found, nil
}

// offerFile is the file with the server's offer of the last check.
func (h *Handler) offerFile() string {
	return filepath.Join(dataDir(), "servers", h.Server+".json")
}

// ShowServer returns a server with its price book. It does not ask the server.
func (a *App) ShowServer(name string) (*ops.ServerDetail, error) {
	h, err := a.server(name)
	if err != nil {
		return nil, err
	}
	seen, err := offer.Load(h.offerFile())
	if err != nil {
		return nil, &admin.Error{Code: admin.Unavailable, Message: "the last offer of the server could not be read: " + err.Error()}
	}
	d := &ops.ServerDetail{
		Currency: h.site.Gate.Currency(), Prices: []ops.PriceView{}, ChargeOn: h.ChargeOn, ChargeIf: h.ChargeIf, FreeQuota: h.FreeQuota,
		Scopes: []ops.ScopeView{}, NoPrice: []ops.KnownItem{},
	}
	for _, view := range a.ListServers() {
		if view.Name == name {
			d.ServerView = view
		}
	}
	if h.Fee != nil {
		d.Fee = h.Fee.Share + " " + h.Fee.Account
	}
	for _, rule := range h.Scopes {
		d.Scopes = append(d.Scopes, ops.ScopeView{Items: rule.Items, Scopes: rule.Scopes})
	}
	if seen != nil {
		d.CheckedAt = &seen.At
	}
	h.compared().AddPrices(d, seen)
	return d, nil
}

// compared returns the site's prices, to compare them with the server's offer.
func (h *Handler) compared() *offers.Site {
	return &offers.Site{Name: h.Server, Terms: &h.Terms, Book: h.book, Gate: h.site.Gate}
}
