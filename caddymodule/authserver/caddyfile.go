package authserver

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// Parse sets the handler up from the directive:
//
//	farebox_oauth {
//	    access <duration>
//	    refresh <duration>
//	    redirect_uris <uri>...
//	    registration on|off
//	    documents on|off
//	    document_hosts <host>...
//	    deny <client>...
//	    client <id> {
//	        name <text>
//	        secret <secret>
//	        redirect_uris <uri>...
//	        account <account>
//	        scopes <scope>...
//	    }
//	    private_documents
//	}
//
// The directive takes no matcher, because the issuers say which requests it serves.
func Parse(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var handler Handler
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return &handler, nil
}

// UnmarshalCaddyfile sets the handler up from the directive; see Parse.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the directive's name
	if d.NextArg() {
		return d.Errf("farebox_oauth takes a block and no arguments, not %q: the servers with oauth say for which it issues tokens", d.Val())
	}
	err := grammar.Block(d, "farebox_oauth", grammar.Subdirectives{
		"access":         grammar.Duration(&h.Access),
		"refresh":        grammar.Duration(&h.Refresh),
		"redirect_uris":  h.parseRedirects,
		"registration":   grammar.Text(&h.Registration),
		"documents":      grammar.Text(&h.Documents),
		"document_hosts": grammar.Texts(&h.DocumentHosts),
		"deny":           grammar.Texts(&h.Deny),
		"client":         h.parseClient,
		"private_documents": func(d *caddyfile.Dispenser) error {
			h.PrivateDocuments = true
			if d.NextArg() {
				return d.ArgErr()
			}
			return nil
		},
	}, "client", "redirect_uris", "deny")
	if err != nil {
		return err
	}
	if err := h.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *Handler) parseRedirects(d *caddyfile.Dispenser) error {
	var uris []string
	if err := grammar.Args(d, &uris); err != nil {
		return err
	}
	for _, uri := range uris {
		if err := client.CheckPattern(uri); err != nil {
			return d.Errf("redirect_uris: %v", err)
		}
	}
	h.RedirectURIs = append(h.RedirectURIs, uris...)
	return nil
}

func (h *Handler) parseClient(d *caddyfile.Dispenser) error {
	var c Client
	if !d.Args(&c.ID) || d.NextArg() {
		return d.Err("client: want the client id and a block")
	}
	err := grammar.Block(d, "client", grammar.Subdirectives{
		"name": grammar.Text(&c.Name),
		"secret": func(d *caddyfile.Dispenser) error {
			var secret string
			if err := grammar.Arg(d, &secret); err != nil {
				return err
			}
			c.Secrets = append(c.Secrets, secret)
			return nil
		},
		"redirect_uris": grammar.Texts(&c.RedirectURIs),
		"account":       grammar.Text(&c.Account),
		"scopes":        grammar.Texts(&c.Scopes),
	}, "secret")
	if err != nil {
		return err
	}
	h.Clients = append(h.Clients, c)
	return nil
}
