package caddymodule

import (
	"fmt"
	"regexp"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Credentials names a header in which clients may send their key, in addition to the
// Authorization header.
type Credentials struct {
	// The name of the header, such as `X-API-Key`. Its value is the key alone. A
	// request has this header or Authorization, never both. Required.
	Header string `json:"header"`
}

var (
	credentialName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

	// takenHeaders matches headers that already have a meaning: to HTTP, to proxies,
	// to MCP or to Farebox.
	takenHeaders = regexp.MustCompile(`^(?i:(proxy-)?authorization|cookie|set-cookie|host|origin|connection|upgrade|expect|te|trailer|transfer-encoding|keep-alive|` +
		`via|forwarded|x-real-ip|user-agent|referer|range|date|age|cache-control|idempotency-key|x-idempotency-key|last-event-id|www-authenticate|` +
		`(content|accept|if|sec|access-control|mcp|x-farebox|x-forwarded|x-http-method|x-method)(-.*)?)$`)
)

// check returns an error if the header cannot be used for keys.
func (c *Credentials) check() error {
	switch {
	case !credentialName.MatchString(c.Header):
		return fmt.Errorf("credentials: a header's name is 1 to 64 letters, digits and '-', beginning with a letter, not %q", c.Header)
	case takenHeaders.MatchString(c.Header):
		return fmt.Errorf("credentials: %s has another meaning; want a header for keys alone, as in: credentials header X-API-Key", c.Header)
	}
	return nil
}

func (h *Handler) parseCredentials(d *caddyfile.Dispenser) error {
	var word string
	h.Credentials = new(Credentials)
	if !d.Args(&word, &h.Credentials.Header) || word != "header" || d.NextArg() {
		return d.Err("credentials: want a header, as in: credentials header X-API-Key")
	}
	if err := h.Credentials.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
