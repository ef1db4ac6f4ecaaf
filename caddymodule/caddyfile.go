package caddymodule

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/caddymodule/alerts"
	"github.com/fareboxhq/farebox/caddymodule/authserver"
	"github.com/fareboxhq/farebox/caddymodule/callrecords"
	"github.com/fareboxhq/farebox/caddymodule/catalogue"
	"github.com/fareboxhq/farebox/caddymodule/console"
	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/caddymodule/issuers"
	"github.com/fareboxhq/farebox/caddymodule/pricebook"
	"github.com/fareboxhq/farebox/caddymodule/resource"
	"github.com/fareboxhq/farebox/caddymodule/stores"
	"github.com/fareboxhq/farebox/caddymodule/target"
	"github.com/fareboxhq/farebox/internal/keys"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("farebox", parseApp)
	httpcaddyfile.RegisterHandlerDirective("farebox", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("farebox", httpcaddyfile.After, "encode")
	httpcaddyfile.RegisterHandlerDirective("farebox_metadata", parseMetadata)
	httpcaddyfile.RegisterDirectiveOrder("farebox_metadata", httpcaddyfile.After, "encode") // runs directly after encode, and so before farebox
	httpcaddyfile.RegisterHandlerDirective("farebox_oauth", authserver.Parse)
	httpcaddyfile.RegisterDirectiveOrder("farebox_oauth", httpcaddyfile.After, "encode")
	httpcaddyfile.RegisterHandlerDirective("farebox_console", console.Parse)
	httpcaddyfile.RegisterDirectiveOrder("farebox_console", httpcaddyfile.After, "encode")
	httpcaddyfile.RegisterDirective("farebox_health", health.Parse)
	httpcaddyfile.RegisterDirectiveOrder("farebox_health", httpcaddyfile.After, "encode")
}

func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option farebox is given twice")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "farebox", Value: caddyconfig.JSON(app, nil)}, nil
}

func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	option, err := globalOption(h)
	if err != nil {
		return nil, err
	}
	declared, err := option.Scopes.Compile()
	if err != nil {
		return nil, err
	}
	var handler Handler
	finalize := func(proxy *reverseproxy.Handler) error { return proxy.FinalizeUnmarshalCaddyfile(h) }
	if err := handler.parse(h.Dispenser, declared, finalize); err != nil {
		return nil, err
	}
	if handler.Provider == "" && (option.Store == nil || option.Store.Driver != stores.Remote) {
		return nil, h.Err("farebox needs a provider: the name of the account that earns, as in: provider acme")
	}
	return &handler, nil
}

// UnmarshalCaddyfile sets the app up from the global option:
//
//	farebox {
//	    store sqlite <file>|postgres <dsn>|remote <url> <gateway key>
//	    receipt_key_file <file>
//	    seal_key_file <file>
//	    currency <code>
//	    cache {
//	        size <keys>
//	        ttl <duration>
//	        negative_ttl <duration>
//	    }
//	    secrets {
//	        prefix <name>...
//	        personal_prefix <name>...
//	        unchecked
//	    }
//	    scopes {
//	        default <scope>...
//	        <scope> [<description>] [includes <scope>...]
//	    }
//	    personal_expiry <duration>
//	    verify_every <duration>|0
//	    call_records off|[<duration>] [{
//	        free on|off
//	        most <number>
//	    }]
//	    contact <text>
//	    topup_url <url> [{
//	        hide_from <client>...|none
//	    }]
//	    alerts {
//	        every <duration>
//	        webhook <url> {
//	            secret <secret>...
//	        }
//	        email {
//	            smtp <host>:<port>
//	            user <name>
//	            password <password>
//	            from <address>
//	            to <address>...
//	            owners on|off
//	        }
//	    }
//	    limits {
//	        memory <size>
//	        calls <number>
//	        streams <number>
//	        session_ids <number>
//	        connections <number>
//	        body_rate <size>
//	    }
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the option's name
	a.Source = grammar.Place(d)
	if d.NextArg() {
		return d.Errf("the global option farebox takes a block and no arguments, not %q", d.Val())
	}
	return grammar.Block(d, "the global option farebox", grammar.Subdirectives{
		"store": func(d *caddyfile.Dispenser) (err error) {
			a.Store, err = stores.Parse(d)
			return err
		},
		"currency": grammar.Checked(&a.Currency, checkCurrency),
		"cache":    a.parseCache,
		"secrets":  a.parseSecrets,
		"scopes":   catalogue.Parse(&a.Scopes),
		"limits":   a.parseLimits,
		"alerts":   alerts.Parse(&a.Alerts),

		"contact":   a.ParseContact,
		"topup_url": a.ParseTopUp,

		"receipt_key_file": grammar.Text(&a.ReceiptKeyFile),
		"seal_key_file":    grammar.Text(&a.SealKeyFile),

		"call_records":    callrecords.Parse(&a.CallRecords),
		"personal_expiry": grammar.Duration(&a.PersonalExpiry),
		"verify_every":    grammar.Pause(&a.VerifyEvery, 366*24*time.Hour, "a year, such as 24h"),
	})
}

func (a *App) parseCache(d *caddyfile.Dispenser) error {
	a.Cache = new(Cache)
	if d.NextArg() {
		return d.Errf("cache takes a block and no arguments, not %q", d.Val())
	}
	return grammar.Block(d, "cache", grammar.Subdirectives{
		"size": func(d *caddyfile.Dispenser) error {
			var text string
			if err := grammar.Arg(d, &text); err != nil {
				return err
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return d.Errf("size: want a number of keys, not %q", text)
			}
			a.Cache.Size = n
			return nil
		},
		"ttl":          grammar.Duration(&a.Cache.TTL),
		"negative_ttl": grammar.Duration(&a.Cache.NegativeTTL),
	})
}

func (a *App) parseSecrets(d *caddyfile.Dispenser) error {
	a.Secrets = new(Secrets)
	if d.NextArg() {
		return d.Errf("secrets takes a block and no arguments, not %q", d.Val())
	}
	return grammar.Block(d, "secrets", grammar.Subdirectives{
		"prefix":          grammar.Texts(&a.Secrets.Prefixes),
		"personal_prefix": grammar.Texts(&a.Secrets.PersonalPrefixes),
		"unchecked": func(d *caddyfile.Dispenser) error {
			a.Secrets.Unchecked = true
			if d.NextArg() {
				return d.Errf("unchecked takes no argument, not %q", d.Val())
			}
			return nil
		},
	})
}

// parse sets the handler up from the directive. All scopes in it must be declared:
//
//	farebox [<matcher>] {
//	    server <name>
//	    provider <account>
//	    upstream <address>... [{ <subdirectives of reverse_proxy> }]
//	    environments live|test...
//	    price <tool>|prompt:<name>|resource:<uri> <amount> [charge_on <end>...] [charge_if <expression>]
//	    price <tool> cel <expression> max <amount> [charge_on <end>...] [charge_if <expression>]
//	    free <tool>...
//	    method <method> free|<amount>
//	    method notifications/<name>|notifications/<beginning>* deny|free
//	    unpriced deny|free|<amount>
//	    charge_on success|tool_error|abandoned|started...
//	    charge_if <expression>
//	    cap call|day|month <amount>
//	    free_quota <calls>/day
//	    fee <share>% <account>
//	    scope <tool>|prompt:<name>|resource:<uri>|method:<method> <scope>...
//	    require <scope>...
//	    rate_limit <requests>/<duration> [burst <requests>]
//	    error_style mcp|http
//	    contact <text>
//	    topup_url <url> [{
//	        hide_from <client>...|none
//	    }]
//	    oauth {
//	        resource <url>
//	        authorization_servers <url>...
//	        scopes <scope>...
//	        name <name>
//	        documentation <url>
//	    }
//	    issuer <url> { ... } // see issuers.Parser
//	    max_body <size>
//	    max_call <duration>
//	    keepalive <duration>|0
//	    origins <origin>...
//	    credentials header <name>
//	    receipts on|off
//	    price_in_description on|off
//	    identity_headers on|off
//	    call_log on|off
//	    upstream_authorization <value>
//	}
func (h *Handler) parse(d *caddyfile.Dispenser, declared *keys.Catalogue, finalize target.Finalizer) error {
	d.Next() // skips the directive's name
	h.Source = grammar.Place(d)
	if d.NextArg() {
		return d.Errf("farebox takes a block and no arguments, not %q", d.Val())
	}
	allowed := grammar.Subdirectives{
		"server":       grammar.Checked(&h.Server, checkServerName),
		"provider":     grammar.Checked(&h.Provider, checkProvider),
		"environments": h.parseEnvironments,
		"cap":          h.parseCap,
		"free_quota":   h.parseFreeQuota,
		"fee":          h.parseFee,
		"scope":        h.parseScope(declared),
		"require":      h.parseRequire(declared),
		"rate_limit":   h.parseRateLimit,
		"error_style":  h.parseErrorStyle,
		"contact":      h.ParseContact,
		"topup_url":    h.ParseTopUp,
		"oauth":        resource.Parser(&h.OAuth, declared),
		"issuer":       issuers.Parser(&h.Issuers, declared),
		"max_body":     h.parseMaxBody,
		"max_call":     grammar.Duration(&h.MaxCall),
		"keepalive":    grammar.Pause(&h.Keepalive, 24*time.Hour, "24h, such as 25s"),
		"credentials":  h.parseCredentials,
		"origins":      h.parseOrigins,
		"upstream": func(d *caddyfile.Dispenser) (err error) {
			h.Upstream, err = target.Parse(d, finalize)
			return err
		},
		"receipts": func(d *caddyfile.Dispenser) error {
			on := true
			err := grammar.Switch(&on)(d)
			h.NoReceipts = !on
			return err
		},
		"price_in_description":   grammar.Switch(&h.PriceInDescription),
		"identity_headers":       grammar.Switch(&h.IdentityHeaders),
		"call_log":               grammar.Switch(&h.CallLog),
		"upstream_authorization": grammar.Text(&h.UpstreamAuthorization),
	}
	maps.Copy(allowed, h.Terms.Subdirectives())
	if err := grammar.Block(d, "farebox", allowed, append([]string{"origins", "cap", "scope", "issuer"}, pricebook.Repeatable...)...); err != nil {
		return err
	}
	if h.Server == "" {
		return d.Err("farebox needs a server: the name of the MCP server, as in: server weather")
	}
	if _, err := h.Fee.compile(h.Provider); err != nil {
		return fmt.Errorf("%w, at %s", err, h.Source)
	}
	return nil
}

func (h *Handler) parseEnvironments(d *caddyfile.Dispenser) error {
	if err := grammar.Args(d, &h.Environments); err != nil {
		return err
	}
	if _, err := parseEnvironments(h.Environments); err != nil {
		return d.Errf("environments: %w", err)
	}
	return nil
}

func (h *Handler) parseOrigins(d *caddyfile.Dispenser) error {
	if err := grammar.Args(d, &h.Origins); err != nil {
		return err
	}
	for _, origin := range h.Origins {
		if err := checkOrigin(origin); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

func (h *Handler) parseMaxBody(d *caddyfile.Dispenser) error {
	var text string
	if err := grammar.Arg(d, &text); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<30 {
		return d.Errf("max_body: want a size up to 1GiB, such as 4MiB, not %q", text)
	}
	h.MaxBody = int64(size)
	return nil
}

// Interface guard: the compiler checks that App implements the interface.
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
)
