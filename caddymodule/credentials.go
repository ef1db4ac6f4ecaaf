package caddymodule

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Credentials says where clients may put their key, beside the Authorization
// header.
type Credentials struct {
	// The name of a header that has the key alone, such as `X-API-Key`. A
	// request has one or the other, never both. Required.
	Header string `json:"header"`
}

var (
	credentialName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

	// takenHeaders have a meaning already: to HTTP, to proxies, to MCP or here.
	takenHeaders = regexp.MustCompile(`^(?i:(proxy-)?authorization|cookie|set-cookie|host|origin|connection|upgrade|expect|te|trailer|transfer-encoding|keep-alive|` +
		`via|forwarded|x-real-ip|user-agent|referer|range|date|age|cache-control|idempotency-key|x-idempotency-key|last-event-id|www-authenticate|` +
		`(content|accept|if|sec|access-control|mcp|x-farebox|x-forwarded|x-http-method|x-method)(-.*)?)$`)
)

// check returns why the header cannot be one for keys; nil if it can.
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

// credential is the header that a site takes keys in, beside Authorization. The
// zero credential is none.
type credential struct {
	name string // as the operator writes it
	key  string // as net/http has it
	base string // as isSpelled compares it
}

func newCredential(c *Credentials) (credential, error) {
	if c == nil {
		return credential{}, nil
	}
	return credential{name: c.Header, key: textproto.CanonicalMIMEHeaderKey(c.Header), base: spelled(c.Header)}, c.check()
}

// spelled returns the form in which all spellings of a header's name are one:
// some servers take '_' and '.' for '-'.
func spelled(name string) string { return identitySpelling.Replace(strings.ToLower(name)) }

// authenticate returns the key that the request brings, in one header: two could
// be read as either.
func (x *exchange) authenticate() (*keys.Key, *gate.Refusal) {
	if _, found := concealURI(x.h.secrets, x.r.RequestURI); found {
		return nil, &gate.Refusal{Code: gate.TokenInvalid, Cause: errKeyInURL, Reason: answers[gate.TokenInvalid].text +
			": the URL has a key in it, and URLs are kept in logs and histories. Have that key replaced. " + x.whatToSend()}
	}
	authorization := x.r.Header.Values("Authorization")
	named := x.r.Header.Values(x.h.credential.key)
	var key *keys.Key
	var refusal *gate.Refusal
	switch {
	case x.h.credential.key == "" || len(named) == 0:
		key, refusal = x.h.gate.Authenticate(x.r.Context(), x.client(), authorization)
	case slices.Contains(hopNames(x.r), x.h.credential.key):
		return nil, unsupported("the header " + x.h.credential.name + " cannot be for this hop alone")
	case len(named) > 1 || len(authorization) > 0:
		return nil, &gate.Refusal{Code: gate.TokenInvalid, Cause: errCredentials, Reason: answers[gate.TokenInvalid].text +
			": there is more than one credential. " + x.whatToSend()}
	default:
		key, refusal = x.h.gate.Redeem(x.r.Context(), x.client(), named[0])
	}
	if refusal != nil && refusal.Reason == "" {
		refusal.Reason = x.explain(refusal.Code, authorization, named)
	}
	return key, refusal
}

var errCredentials = errors.New("there is more than one credential")

// otherKeyHeaders are those in which clients of other gateways send their keys.
var otherKeyHeaders = []string{"X-Api-Key", "Api-Key", "Apikey", "X-Auth-Token", "X-Access-Token"}

// explain says of a token that is not where it belongs where it does; "" where
// there is nothing to add. It quotes nothing that was sent.
func (x *exchange) explain(code gate.Code, authorization, named []string) string {
	text := answers[code].text + ": "
	switch {
	case code == gate.TokenInvalid && len(named) == 1 && strings.Contains(named[0], " "):
		return text + x.h.credential.name + " has the key alone, without a scheme. " + x.whatToSend()
	case code != gate.TokenMissing:
		return ""
	case len(named) > 0:
		return text + "the header " + x.h.credential.name + " is empty. " + x.whatToSend()
	case len(authorization) > 0:
		return text + "the Authorization header has no key after the scheme Bearer. " + x.whatToSend()
	}
	for _, name := range otherKeyHeaders {
		if len(x.r.Header[name]) > 0 {
			return text + "the header " + name + " is not read here. " + x.whatToSend()
		}
	}
	return ""
}

// whatToSend tells how a key is sent here.
func (x *exchange) whatToSend() string {
	const bearer = `"Authorization: Bearer <key>"`
	if x.h.credential.name == "" {
		return "Send the key as " + bearer
	}
	return "Send the key either as " + bearer + ` or as "` + x.h.credential.name + `: <key>"`
}

// maxAskedHeaders bounds how many headers a page is told that it may send.
const maxAskedHeaders = 64

// paramHeader is how headers begin that carry arguments of a tool (MCP
// 2026-07-28, Streamable HTTP, x-mcp-header).
const paramHeader = "mcp-param-"

// mayAsk returns which headers a page may send: those of MCP, that of the key,
// and of those it asks for the ones that carry arguments.
func (x *exchange) mayAsk() string {
	allowed := allowedHeaders
	if x.h.credential.name != "" {
		allowed += ", " + x.h.credential.name
	}
	count := 0
	for _, list := range x.r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(textproto.TrimString(name))
			rest, ok := strings.CutPrefix(name, paramHeader)
			if ok && rest != "" && isToken(rest) && count < maxAskedHeaders {
				allowed += ", " + name
				count++
			}
		}
	}
	return allowed
}

// isToken reports whether a text is of the characters of a header's name
// (RFC 9110, 5.6.2).
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}
