package exchange

import (
	"errors"
	"net/textproto"
	"slices"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/hop"
)

// KeyHeader is a site's header for keys beside Authorization. The zero KeyHeader
// stands for no such header.
type KeyHeader struct {
	name      string // the header's name as the operator writes it
	canonical string // the header's name as net/http spells it
	spelled   string // the header's name as spelled() returns it
}

// NewKeyHeader returns the header with the given name, or the zero KeyHeader if name is
// "".
func NewKeyHeader(name string) KeyHeader {
	if name == "" {
		return KeyHeader{}
	}
	return KeyHeader{name: name, canonical: textproto.CanonicalMIMEHeaderKey(name), spelled: spelled(name)}
}

// IsSet reports whether there is such a header.
func (k *KeyHeader) IsSet() bool { return k.name != "" }

// Matches reports whether a header has this name, in any spelling.
func (k *KeyHeader) Matches(name string) bool { return k.IsSet() && spelled(name) == k.spelled }

// authenticate returns the caller of the request's key. The key must be in one header
// only. With keys in two headers, another program that reads the request, such as a
// proxy, could use a different key than the gateway.
func (x *Exchange) authenticate() (gate.Caller, *gate.Refusal) {
	if _, found := x.site.Secrets.ConcealURI(x.r.RequestURI); found {
		return gate.Caller{}, &gate.Refusal{Code: gate.TokenInvalid, Cause: errKeyInURL, Reason: refusalForms[gate.TokenInvalid].text +
			": the URL has a key in it, and URLs are kept in logs and histories. Have that key replaced. " + x.howToSend()}
	}
	header := &x.site.KeyHeader
	authorization := x.r.Header.Values("Authorization")
	named := x.r.Header.Values(header.canonical)
	var caller gate.Caller
	var refusal *gate.Refusal
	switch {
	case !header.IsSet() || len(named) == 0:
		caller, refusal = x.site.Gate.Authenticate(x.r.Context(), x.client(), authorization)
	case slices.Contains(hop.Names(x.r.Header), header.canonical):
		return gate.Caller{}, unsupported("the header " + header.name + " cannot be for this hop alone")
	case len(named) > 1 || len(authorization) > 0:
		return gate.Caller{}, &gate.Refusal{Code: gate.TokenInvalid, Cause: errCredentials, Reason: refusalForms[gate.TokenInvalid].text +
			": there is more than one credential. " + x.howToSend()}
	default:
		caller, refusal = x.site.Gate.Redeem(x.r.Context(), x.client(), named[0])
	}
	if refusal != nil && refusal.Reason == "" {
		refusal.Reason = x.explainToken(refusal.Code, authorization, named)
	}
	return caller, refusal
}

var (
	errCredentials = errors.New("there is more than one credential")
	errKeyInURL    = errors.New("the key stands in the URL")
)

// otherKeyHeaders are the headers in which clients of other gateways send keys.
var otherKeyHeaders = []string{"X-Api-Key", "Api-Key", "Apikey", "X-Auth-Token", "X-Access-Token"}

// explainToken explains where a misplaced token belongs; it returns "" for other
// refusals. The text quotes nothing from the request.
func (x *Exchange) explainToken(code gate.Code, authorization, named []string) string {
	text := refusalForms[code].text + ": "
	header := x.site.KeyHeader.name
	switch {
	case code == gate.TokenInvalid && len(named) == 1 && strings.Contains(named[0], " "):
		return text + header + " has the key alone, without a scheme. " + x.howToSend()
	case code != gate.TokenMissing:
		return ""
	case len(named) > 0:
		return text + "the header " + header + " is empty. " + x.howToSend()
	case len(authorization) > 0:
		return text + "the Authorization header has no key after the scheme Bearer. " + x.howToSend()
	}
	for _, name := range otherKeyHeaders {
		if len(x.r.Header[name]) > 0 {
			return text + "the header " + name + " is not read here. " + x.howToSend()
		}
	}
	return ""
}

// howToSend explains how to send a key to this site.
func (x *Exchange) howToSend() string {
	const bearer = `"Authorization: Bearer <key>"`
	if !x.site.KeyHeader.IsSet() {
		return "Send the key as " + bearer
	}
	return "Send the key either as " + bearer + ` or as "` + x.site.KeyHeader.name + `: <key>"`
}
