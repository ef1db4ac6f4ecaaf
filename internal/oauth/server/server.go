// Package server is the HTTP side of Farebox's authorization server: metadata, the
// authorization endpoint with its consent page, the token endpoint, registration,
// revocation, introspection and the device flow. Each MCP server of a config has its own
// issuer. The web server around it is in another package.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/oauth/rate"
)

// Issuer is the authorization server of one MCP server.
type Issuer struct {
	URL      *url.URL // the issuer identifier, without a slash at the end
	Server   string   // name of the MCP server
	Title    string   // name of the MCP server for people
	Resource string   // identifier of the MCP server (RFC 8707)
	// Scopes are those that a client can ask for, and Default those that a client gets
	// that asks for none.
	Scopes  []Scope
	Default []string
	// Environments are the environments of keys that the MCP server admits; empty for all.
	Environments []keys.Environment
}

// Scope is a scope with its meaning for people.
type Scope struct{ Name, Description string }

// Sealer authenticates data that a browser carries from one page to the next. *gate.Sealer
// implements it.
type Sealer interface {
	Tag(content []byte, parts ...string) []byte
	Opens(tag, content []byte, parts ...string) bool
}

// Backend is the part of the running engine that a Server uses.
type Backend interface {
	// OAuth returns the service for grants.
	OAuth() *oauth.Service
	// Payer returns the stored key with the secret. Errors: keys.ErrUnknown, and
	// gate.ErrFlood if the address asked for too many unknown keys.
	Payer(ctx context.Context, source netip.Addr, secret string) (*keys.Key, error)
	// Account returns the id and the name of the account with the name or id.
	Account(ctx context.Context, ref string) (id, name string, err error)
	Sealer() Sealer
}

// Options configure a Server. All fields must be set unless noted.
type Options struct {
	Issuers []*Issuer
	// Open returns the running engine and a function that releases it.
	Open    func(ctx context.Context) (Backend, func(), error)
	Clients func() (*client.Registry, error) // the clients in the running engine's store
	Scopes  *keys.Catalogue                  // may be nil
	Lives   oauth.Lives
	// NoRegistration and NoDocuments say that clients cannot register and that their ids
	// cannot be URLs of documents, so that the metadata do not offer it.
	NoRegistration, NoDocuments bool
	// Console is the address of the console's consent page, "" without a console.
	Console  string
	Currency string // code of the currency of caps, such as "USD"
	Now      func() time.Time
	Logger   *slog.Logger
}

// Server serves the issuers. It is safe for concurrent use.
type Server struct {
	o     Options
	pages *pages
	codes *rate.Limiter // bounds user codes and devices by network
}

// New returns a server.
func New(o Options) (*Server, error) {
	p, err := parsePages()
	if err != nil {
		return nil, err
	}
	return &Server{o: o, pages: p, codes: rate.New(codeEvery, codeBurst)}, nil
}

// exchange is one request at an issuer.
type exchange struct {
	*Server
	w      http.ResponseWriter
	r      *http.Request
	source netip.Addr // address of the client
	issuer *Issuer
	Backend
}

// endpoint is a resource of an issuer.
type endpoint struct {
	methods string // allowed methods, for the header Allow
	open    bool   // pages of other origins may read the response (CORS)
	store   bool   // needs the store
	serve   func(*exchange) error
}

// ConsentPath is the path, below the issuer's, that receives the decision of a person. Its
// response can contain an authorization code, so it should not be logged.
const ConsentPath = "/consent"

// endpoints are the resources of an issuer, by their path below the issuer's.
var endpoints = map[string]endpoint{
	"/authorize":                        {"GET, HEAD", false, true, (*exchange).authorize},
	ConsentPath:                         {"POST", false, true, (*exchange).consent},
	"/device":                           {"GET, HEAD, POST", false, true, (*exchange).device},
	"/token":                            {"POST, OPTIONS", true, true, (*exchange).token},
	"/register":                         {"POST, OPTIONS", true, true, (*exchange).register},
	"/revoke":                           {"POST, OPTIONS", true, true, (*exchange).revoke},
	"/introspect":                       {"POST, OPTIONS", true, true, (*exchange).introspect},
	"/device_authorization":             {"POST, OPTIONS", true, true, (*exchange).deviceAuthorization},
	"/.well-known/openid-configuration": {"GET, HEAD, OPTIONS", true, false, (*exchange).metadata},
	"/.well-known/oauth-authorization-server": {"GET, HEAD, OPTIONS", true, false, (*exchange).metadata},
}

// wellKnown are the places of metadata at the root of a host. RFC 8414, section 3.1,
// inserts them before the path of the issuer; some clients do so with OpenID's place, too.
var wellKnown = []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"}

// find returns the issuer and the endpoint of a request. The bool is false if the request
// is for neither.
func (s *Server) find(r *http.Request) (*Issuer, endpoint, bool) {
	for _, place := range wellKnown {
		below, ok := strings.CutPrefix(r.URL.Path, place)
		if !ok || below != "" && below[0] != '/' {
			continue
		}
		i := s.issuerAt(r.Host, strings.TrimSuffix(below, "/"))
		if i == nil && strings.Trim(below, "/") == "" {
			i = s.only(r.Host)
		}
		return i, endpoints[place], i != nil
	}
	for path, e := range endpoints {
		if prefix, ok := strings.CutSuffix(r.URL.Path, path); ok {
			if i := s.issuerAt(r.Host, prefix); i != nil {
				return i, e, true
			}
		}
	}
	return nil, endpoint{}, false
}

// issuerAt returns the issuer with the path at the host. If no issuer has the host, the
// path alone decides, because a proxy may have changed the host.
func (s *Server) issuerAt(host, path string) (found *Issuer) {
	others := 0
	for _, i := range s.o.Issuers {
		switch {
		case i.URL.Path != path:
		case sameHost(host, i.URL):
			return i
		default:
			found = i
			others++
		}
	}
	if others > 1 || slices.ContainsFunc(s.o.Issuers, func(i *Issuer) bool { return sameHost(host, i.URL) }) {
		return nil
	}
	return found
}

// only returns the issuer at the host if there is exactly one. Clients of the protocol
// version 2025-03-26 look for the metadata at the root of the MCP server's host.
func (s *Server) only(host string) (found *Issuer) {
	for _, i := range s.o.Issuers {
		if sameHost(host, i.URL) {
			if found != nil {
				return nil
			}
			found = i
		}
	}
	return found
}

func sameHost(host string, u *url.URL) bool {
	usual := ":443"
	if u.Scheme == "http" {
		usual = ":80"
	}
	return strings.EqualFold(strings.TrimSuffix(host, usual), strings.TrimSuffix(u.Host, usual))
}

// Serve serves a request of the client with the address source. If no issuer serves
// the request, it returns false and writes nothing.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, source netip.Addr) bool {
	issuer, e, ok := s.find(r)
	if !ok {
		return false
	}
	x := &exchange{Server: s, w: w, r: r, source: source, issuer: issuer}
	if e.open {
		// Clients in a browser send no cookies here, so that pages of all origins may use
		// these endpoints.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
	}
	switch allowed := strings.Split(e.methods, ", "); {
	case !slices.Contains(allowed, r.Method):
		w.Header().Set("Allow", e.methods)
		x.fail(http.StatusMethodNotAllowed, oauth.InvalidRequest, "want one of the methods "+e.methods)
		return true
	case r.Method == http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", e.methods)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, MCP-Protocol-Version")
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	if e.store {
		backend, release, err := s.o.Open(r.Context())
		if err != nil {
			x.report(err)
			return true
		}
		defer release()
		x.Backend = backend
	}
	if err := e.serve(x); err != nil {
		x.report(err)
	}
	return true
}

// at returns the URL of an endpoint of the issuer.
func (i *Issuer) at(path string) string { return i.URL.String() + path }

// actor returns the author of the request for the audit log.
func (x *exchange) actor(name string) admin.Actor {
	a := admin.Actor{Name: name}
	if x.source.IsValid() {
		a.From = x.source.String()
	}
	return a
}

// isResource reports whether a requested resource is that of the issuer. One slash at the
// end is forgiven, because clients add one to URLs without a path, and leave it out.
func (i *Issuer) isResource(requested string) bool {
	return strings.TrimSuffix(requested, "/") == strings.TrimSuffix(i.Resource, "/")
}

// checkResource returns an error unless every requested resource is the issuer's (RFC
// 8707, section 2). A request without a resource is for the issuer's only one.
func (x *exchange) checkResource(form url.Values) error {
	for _, requested := range form["resource"] {
		if !x.issuer.isResource(requested) {
			return oauth.Refuse(oauth.InvalidTarget, "this issuer has tokens for %s only", x.issuer.Resource)
		}
	}
	return nil
}

// scopesOf returns the requested scopes that the issuer has. Unknown scopes are ignored
// (RFC 6749, section 3.3), because clients ask for openid and offline_access without a
// need.
func (i *Issuer) scopesOf(form url.Values) (scopes []string) {
	for _, name := range strings.Fields(form.Get("scope")) {
		if i.has(name) && !slices.Contains(scopes, name) {
			scopes = append(scopes, name)
		}
	}
	return scopes
}

func (i *Issuer) has(scope string) bool {
	return slices.ContainsFunc(i.Scopes, func(s Scope) bool { return s.Name == scope })
}

// environment returns the environment of tokens that no key decides.
func (i *Issuer) environment() keys.Environment {
	if len(i.Environments) > 0 {
		return i.Environments[0]
	}
	return keys.Live
}
