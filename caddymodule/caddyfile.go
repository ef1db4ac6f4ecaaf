package caddymodule

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/fareboxhq/farebox/internal/keys"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("farebox", parseApp)
	httpcaddyfile.RegisterHandlerDirective("farebox", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("farebox", httpcaddyfile.After, "encode")
	httpcaddyfile.RegisterHandlerDirective("farebox_metadata", parseMetadata)
	httpcaddyfile.RegisterDirectiveOrder("farebox_metadata", httpcaddyfile.After, "encode") // next to it: before farebox
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
	declared, err := option.Scopes.catalogue()
	if err != nil {
		return nil, err
	}
	var handler Handler
	if err := handler.parse(h.Dispenser, declared); err != nil {
		return nil, err
	}
	if handler.Provider == "" && (option.Store == nil || option.Store.Driver != driverRemote) {
		return nil, h.Err("farebox needs a provider: the name of the account that earns, as in: provider acme")
	}
	return &handler, nil
}

// subdirectives maps the name of a subdirective to its parser. The dispenser stands
// on the name.
type subdirectives map[string]func(d *caddyfile.Dispenser) error

// parseBlock reads a block of subdirectives. Each may stand once, except for the
// repeatable ones.
func parseBlock(d *caddyfile.Dispenser, of string, allowed subdirectives, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := allowed[name]
		if !ok {
			return d.Errf("%s has no subdirective %q; it has: %s", of, name, strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
		}
		if seen[name] && !slices.Contains(repeatable, name) {
			return d.Errf("%s: %s is given twice", of, name)
		}
		seen[name] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
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
//	    contact <text>
//	    topup_url <url>
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
	d.Next() // the option's name
	a.Source = placeOf(d)
	if d.NextArg() {
		return d.Errf("the global option farebox takes a block and no arguments, not %q", d.Val())
	}
	return parseBlock(d, "the global option farebox", subdirectives{
		"store":    a.parseStore,
		"currency": checkedArg(&a.Currency, checkCurrency),
		"cache":    a.parseCache,
		"secrets":  a.parseSecrets,
		"scopes":   a.parseScopes,
		"limits":   a.parseLimits,

		"contact":   checkedArg(&a.Contact, checkContact),
		"topup_url": checkedArg(&a.TopUpURL, checkTopUp),

		"receipt_key_file": func(d *caddyfile.Dispenser) error { return oneArg(d, &a.ReceiptKeyFile) },
		"seal_key_file":    func(d *caddyfile.Dispenser) error { return oneArg(d, &a.SealKeyFile) },

		"personal_expiry": func(d *caddyfile.Dispenser) error { return durationArg(d, &a.PersonalExpiry) },
	})
}

func (a *App) parseStore(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Err("store: want a kind and where it is, as in: store sqlite farebox.db")
	}
	a.Store = &Store{Driver: args[0]}
	switch args[0] {
	case driverSQLite:
		if len(args) != 2 {
			return d.Err("store: want a kind and where it is, as in: store sqlite farebox.db")
		}
		a.Store.Path = args[1]
	case driverPostgres:
		if len(args) != 2 {
			return d.Err("store: want a kind and where it is, as in: store postgres {env.FAREBOX_DSN}; a DSN with spaces stands in quotes")
		}
		a.Store.DSN = args[1]
	case driverRemote:
		if len(args) != 3 {
			return d.Err("store: want the platform's address and a gateway key of it, as in: store remote https://platform.example.com {env.FAREBOX_GATEWAY_KEY}")
		}
		a.Store.URL, a.Store.Key = args[1], args[2]
	default:
		return d.Errf("store: unknown kind %q; known: %s", args[0], drivers)
	}
	return nil
}

func (a *App) parseCache(d *caddyfile.Dispenser) error {
	a.Cache = new(Cache)
	if d.NextArg() {
		return d.Errf("cache takes a block and no arguments, not %q", d.Val())
	}
	return parseBlock(d, "cache", subdirectives{
		"size": func(d *caddyfile.Dispenser) error {
			var text string
			if err := oneArg(d, &text); err != nil {
				return err
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return d.Errf("size: want a number of keys, not %q", text)
			}
			a.Cache.Size = n
			return nil
		},
		"ttl":          func(d *caddyfile.Dispenser) error { return durationArg(d, &a.Cache.TTL) },
		"negative_ttl": func(d *caddyfile.Dispenser) error { return durationArg(d, &a.Cache.NegativeTTL) },
	})
}

func (a *App) parseSecrets(d *caddyfile.Dispenser) error {
	a.Secrets = new(Secrets)
	if d.NextArg() {
		return d.Errf("secrets takes a block and no arguments, not %q", d.Val())
	}
	return parseBlock(d, "secrets", subdirectives{
		"prefix":          func(d *caddyfile.Dispenser) error { return someArgs(d, &a.Secrets.Prefixes) },
		"personal_prefix": func(d *caddyfile.Dispenser) error { return someArgs(d, &a.Secrets.PersonalPrefixes) },
		"unchecked": func(d *caddyfile.Dispenser) error {
			a.Secrets.Unchecked = true
			if d.NextArg() {
				return d.Errf("unchecked takes no argument, not %q", d.Val())
			}
			return nil
		},
	})
}

// parse sets the handler up from the directive; its scopes must be among the
// declared ones:
//
//	farebox [<matcher>] {
//	    server <name>
//	    provider <account>
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
//	    topup_url <url>
//	    oauth {
//	        resource <url>
//	        authorization_servers <url>...
//	        scopes <scope>...
//	        name <name>
//	        documentation <url>
//	    }
//	    max_body <size>
//	    max_call <duration>
//	    keepalive <duration>|0
//	    origins <origin>...
//	    credentials header <name>
//	    receipts on|off
//	    price_in_description on|off
//	    identity_headers on|off
//	    upstream_authorization <value>
//	}
func (h *Handler) parse(d *caddyfile.Dispenser, declared *keys.Catalogue) error {
	d.Next() // the directive's name
	h.Source = placeOf(d)
	if d.NextArg() {
		return d.Errf("farebox takes a block and no arguments, not %q", d.Val())
	}
	err := parseBlock(d, "farebox", subdirectives{
		"server":       checkedArg(&h.Server, checkServerName),
		"provider":     checkedArg(&h.Provider, checkProvider),
		"environments": h.parseEnvironments,
		"price":        h.parsePrice,
		"free":         h.parseFree,
		"method":       h.parseMethod,
		"unpriced":     h.parseUnpriced,
		"charge_on":    h.parseChargeOn,
		"charge_if":    h.parseChargeIf,
		"cap":          h.parseCap,
		"free_quota":   h.parseFreeQuota,
		"fee":          h.parseFee,
		"scope":        h.parseScope(declared),
		"require":      h.parseRequire(declared),
		"rate_limit":   h.parseRateLimit,
		"error_style":  h.parseErrorStyle,
		"contact":      checkedArg(&h.Contact, checkContact),
		"topup_url":    checkedArg(&h.TopUpURL, checkTopUp),
		"oauth":        h.parseOAuth(declared),
		"max_body":     h.parseMaxBody,
		"max_call":     func(d *caddyfile.Dispenser) error { return durationArg(d, &h.MaxCall) },
		"keepalive":    h.parseKeepalive,
		"credentials":  h.parseCredentials,
		"origins":      h.parseOrigins,
		"receipts": func(d *caddyfile.Dispenser) error {
			on := true
			err := switchArg(d, &on)
			h.NoReceipts = !on
			return err
		},
		"price_in_description":   func(d *caddyfile.Dispenser) error { return switchArg(d, &h.PriceInDescription) },
		"identity_headers":       func(d *caddyfile.Dispenser) error { return switchArg(d, &h.IdentityHeaders) },
		"upstream_authorization": func(d *caddyfile.Dispenser) error { return oneArg(d, &h.UpstreamAuthorization) },
	}, "price", "free", "method", "origins", "cap", "scope")
	if err != nil {
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
	if err := someArgs(d, &h.Environments); err != nil {
		return err
	}
	if _, err := parseEnvironments(h.Environments); err != nil {
		return d.Errf("environments: %w", err)
	}
	return nil
}

func (h *Handler) parseOrigins(d *caddyfile.Dispenser) error {
	if err := someArgs(d, &h.Origins); err != nil {
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
	if err := oneArg(d, &text); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<30 {
		return d.Errf("max_body: want a size up to 1GiB, such as 4MiB, not %q", text)
	}
	h.MaxBody = int64(size)
	return nil
}

func (h *Handler) parseKeepalive(d *caddyfile.Dispenser) error {
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	every, err := caddy.ParseDuration(text)
	if err != nil || every < 0 || every > 24*time.Hour {
		return d.Errf("keepalive: want a time up to 24h, such as 25s, or 0 for never, not %q", text)
	}
	h.Keepalive = new(caddy.Duration(every))
	return nil
}

func oneArg(d *caddyfile.Dispenser, into *string) error {
	name := d.Val()
	if !d.Args(into) || d.NextArg() || *into == "" {
		return d.Errf("%s: want exactly one argument", name)
	}
	return nil
}

// checkedArg reads an argument that has to pass a check.
func checkedArg(into *string, check func(string) error) func(d *caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if err := oneArg(d, into); err != nil {
			return err
		}
		if err := check(*into); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func someArgs(d *caddyfile.Dispenser, into *[]string) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s: want one argument or more", name)
	}
	*into = append(*into, args...)
	return nil
}

func durationArg(d *caddyfile.Dispenser, into *caddy.Duration) error {
	name := d.Val()
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	parsed, err := caddy.ParseDuration(text)
	if err != nil || parsed <= 0 || parsed > 365*24*time.Hour {
		return d.Errf("%s: want a time, such as 60s, 5m or 1h, not %q", name, text)
	}
	*into = caddy.Duration(parsed)
	return nil
}

func switchArg(d *caddyfile.Dispenser, into *bool) error {
	name := d.Val()
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	if text != "on" && text != "off" {
		return d.Errf("%s: want on or off, not %q", name, text)
	}
	*into = text == "on"
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
)
