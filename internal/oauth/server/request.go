package server

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// Request is an authorization request that waits for the decision of a person. The browser
// carries it, sealed, from page to page, so that requests without a decision cost no
// memory and no write.
type Request struct {
	Server     string   `json:"s"`           // name of the MCP server
	Client     string   `json:"c"`           // client_id
	ClientName string   `json:"n,omitempty"` // as the client claims
	ClientHost string   `json:"h,omitempty"` // host of a client_id that is a URL
	Redirect   string   `json:"r,omitempty"` // redirect URI; "" for a device
	Implied    bool     `json:"i,omitempty"` // the client did not send the redirect URI, because it has only one
	State      string   `json:"t,omitempty"`
	Challenge  string   `json:"p,omitempty"`
	Scopes     []string `json:"o,omitempty"` // requested scopes that the issuer has
	UserCode   string   `json:"u,omitempty"` // the code that a device shows
	Key        string   `json:"k,omitempty"` // id of the agent key that was shown
	Ends       int64    `json:"e"`           // seconds since 1970
}

// requestLife is how long a person has time to decide.
const requestLife = 15 * time.Minute

// The purposes of seals. A request sealed for one never passes for another.
const (
	forBrowser = "oauth request/1"
	forConsole = "oauth console/1"
)

// seal returns the request with a seal that holds for the browser with the secret.
func (x *exchange) seal(r *Request, purpose, browser string) string {
	text, _ := json.Marshal(r) // strings and numbers can always be encoded
	tag := x.Sealer().Tag(text, purpose, x.issuer.URL.String(), browser)
	return base64.RawURLEncoding.EncodeToString(text) + "." + base64.RawURLEncoding.EncodeToString(tag)
}

// unseal returns a sealed request. Errors are *oauth.Error.
func (x *exchange) unseal(sealed, purpose, browser string) (*Request, error) {
	return unseal(x.Sealer(), x.issuer, x.o.Now(), sealed, purpose, browser)
}

func unseal(sealer Sealer, i *Issuer, now time.Time, sealed, purpose, browser string) (*Request, error) {
	content, tag, ok := strings.Cut(sealed, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(content)
	mark, markErr := base64.RawURLEncoding.Strict().DecodeString(tag)
	var r Request
	if !ok || err != nil || markErr != nil || !sealer.Opens(mark, text, purpose, i.URL.String(), browser) || json.Unmarshal(text, &r) != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "this page belongs to another browser or to an old request: go back to the app and connect again")
	}
	if now.Unix() >= r.Ends {
		return nil, oauth.Refuse(oauth.InvalidRequest, "this page is too old: go back to the app and connect again")
	}
	return &r, nil
}

// Target is where the browser goes after the decision, for people.
func (r *Request) Target() string {
	if r.Redirect == "" {
		return ""
	}
	return client.Target(r.Redirect)
}

// forCode returns the part of the request that an authorization code is bound to.
func (r *Request) forCode() oauth.AuthorizationRequest {
	a := oauth.AuthorizationRequest{Client: r.Client, Server: r.Server, RedirectURI: r.Redirect, Challenge: r.Challenge}
	if r.Implied {
		a.RedirectURI = "" // the client need not send the redirect URI with the code either (RFC 6749, section 4.1.3)
	}
	return a
}

// cookie is the name of the cookie that binds requests to a browser.
const cookie = "farebox-connect"

// cookieName returns the name under which browsers get the cookie. With the prefix
// __Host-, browsers accept the cookie only over TLS and from this host (RFC 6265bis,
// section 4.1.3.2). An issuer with plain HTTP, which is possible on loopback only, cannot
// use that prefix in all browsers.
func (i *Issuer) cookieName() string {
	if i.URL.Scheme == "https" {
		return "__Host-" + cookie
	}
	return cookie
}

// browser returns the secret of the browser's cookie, or "". It also returns "" if there
// are two cookies with the name, because one of them may come from an attacker.
func (x *exchange) browser() string {
	found := x.r.CookiesNamed(x.issuer.cookieName())
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// ensureBrowser returns the secret of the browser's cookie, and sets the cookie if it is
// missing.
func (x *exchange) ensureBrowser() string {
	if secret := x.browser(); secret != "" {
		return secret
	}
	var b [24]byte
	rand.Read(b[:]) // crypto/rand never returns an error; it ends the program instead
	secret := base64.RawURLEncoding.EncodeToString(b[:])
	http.SetCookie(x.w, &http.Cookie{
		Name: x.issuer.cookieName(), Value: secret, Path: "/", Secure: x.issuer.URL.Scheme == "https", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return secret
}
