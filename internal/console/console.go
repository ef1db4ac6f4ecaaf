// Package console is the web console: pages for the operator of the installation and
// for the members of its accounts. The pages are made on the server, work without
// JavaScript except for charts and passkeys, and load nothing from other hosts.
//
// All data and changes go through the operations of package ops, which are called in
// this process; see operations.go. A person reaches an operation only through a route
// in routes.go. Each route names the persons that may use it, and only the method admit
// in access.go decides about access.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/inprocess"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/top"
)

// Options configure a console. All fields except Connect, Logger and Now are required.
type Options struct {
	// Address is the URL of the console, such as https://gateway.example.com/console. It
	// has no query, and its path does not end with a slash.
	Address *url.URL
	// Open returns the people of the running store, and a function that releases the
	// store. The console calls that function after each request.
	Open func() (*people.Service, func(), error)
	// Operations serves the operations of package ops below ops.AdminBase, for requests
	// with a principal in their context; see identity.InContext.
	Operations http.Handler
	// Health returns the health of the process.
	Health func() ops.HealthView
	// Figures returns the measurements of the process since its start, or an error if
	// they cannot be read.
	Figures func() (*top.View, error)
	// Connect returns the authorization server, for which people decide about apps at the
	// console. Nil, or a function that returns nil, means that the config has no such server.
	Connect  func() Connector
	Node     string // name of the process
	Currency string
	Version  string
	Logger   *slog.Logger
	Now      func() time.Time // nil means clock.Now
}

// Console serves the pages. It is safe for concurrent use.
type Console struct {
	o      Options
	base   string // beginning of all paths, without a slash at its end; "" for the root
	mux    *http.ServeMux
	cross  *http.CrossOriginProtection
	pages  pages
	client *http.Client // client of Options.Operations
	// exports has an element for each running export, at most maxExports.
	exports chan struct{}
}

// New returns a console.
func New(o Options) (*Console, error) {
	if o.Now == nil {
		o.Now = clock.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{
		o: o, base: strings.TrimSuffix(o.Address.Path, "/"), mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(),
		client: &http.Client{Transport: inprocess.Transport{Handler: o.Operations}}, exports: make(chan struct{}, maxExports),
	}
	if err := c.cross.AddTrustedOrigin(origin(o.Address)); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	var err error
	if c.pages, err = c.parsePages(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	c.serveAssets()
	for i := range routes {
		r := &routes[i]
		c.mux.HandleFunc(r.method+" "+c.base+r.path, func(w http.ResponseWriter, req *http.Request) { c.serve(w, req, r) })
	}
	return c, nil
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// Covers reports whether the path belongs to the console.
func (c *Console) Covers(path string) bool {
	return c.base == "" || path == c.base || strings.HasPrefix(path, c.base+"/")
}

// Secret reports whether a secret is in the path of the request or in the header
// Location of the response. Such a path or header must not be logged. The response to a
// registration redirects to an invitation, and the one to a consent to an app with an
// authorization code, so their Location has a secret.
func (c *Console) Secret(name string) bool {
	name = path.Clean(name) // clean the path as the mux does before it redirects
	return strings.HasPrefix(name, c.base+"/invite/") || name == c.base+"/register" || name == c.base+"/connect"
}

// policy is the Content-Security-Policy of all responses. It allows scripts and styles
// only from files of the console.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Serve serves a request of the client at the given address. Covers must report true
// for the request's path.
func (c *Console) Serve(w http.ResponseWriter, r *http.Request, client netip.Addr) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if host := c.o.Address.Hostname(); c.o.Address.Scheme == "https" && host != "localhost" && !strings.HasSuffix(host, ".localhost") {
		// Do not send this header for localhost. The header would also apply to
		// programs at other ports, which serve plain HTTP.
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if c.Secret(r.URL.Path) {
		h.Set("Referrer-Policy", "no-referrer")
	}
	if r.URL.Path == c.base && c.base != "" {
		http.Redirect(w, r, c.base+"/", http.StatusSeeOther)
		return
	}
	ctx := context.WithValue(r.Context(), clientKey{}, people.Client{Address: client, Agent: r.UserAgent()})
	r = r.WithContext(ctx)
	if _, pattern := c.mux.Handler(r); pattern == "" {
		c.refuse(w, r, nil, errNotFound)
		return
	}
	c.mux.ServeHTTP(w, r)
}

type clientKey struct{}

func clientOf(r *http.Request) people.Client {
	client, _ := r.Context().Value(clientKey{}).(people.Client)
	return client
}

// maxForm bounds a form in bytes.
const maxForm = 64 << 10

// serve answers a request for the route.
func (c *Console) serve(w http.ResponseWriter, r *http.Request, to *route) {
	v, err := c.open(w, r, to)
	if v != nil {
		defer v.release()
	}
	if err == nil {
		if err = to.serve(v); err != nil {
			err = v.showAgain(err)
		}
	}
	if err != nil {
		c.refuse(w, r, v, err)
	}
}

// open begins a visit. It checks the origin and the form, opens the store, and calls
// admit. If it fails before the visit exists, it returns a nil visit.
func (c *Console) open(w http.ResponseWriter, r *http.Request, to *route) (*visit, error) {
	if err := c.cross.Check(r); err != nil {
		return nil, &failure{http.StatusForbidden, "This request came from another site", "Open the console by its own address, " + c.o.Address.String() + ", and try again from there."}
	}
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return nil, &failure{http.StatusBadRequest, "The form could not be read", "Go back, and send it again."}
		}
	}
	store, release, err := c.o.Open()
	if err != nil {
		c.o.Logger.Warn("the console cannot answer now", "error", err)
		return nil, errUnavailable
	}
	v := &visit{c: c, w: w, r: r, ctx: r.Context(), route: to, people: store, release: release, now: c.o.Now()}
	return v, v.admit()
}

// failure is an error that is shown to a person on a page.
type failure struct {
	Status int
	Title  string
	Detail string // one or two sentences with the cause and the remedy
}

func (f *failure) Error() string { return f.Title + ": " + f.Detail }

var (
	errNotFound    = &failure{http.StatusNotFound, "There is no such page", "It may have been moved, or it belongs to an account that you cannot see. Go to the overview and follow the links from there."}
	errForbidden   = &failure{http.StatusForbidden, "You may not do this", "Ask the operator, or an owner of the account, to give you the right to."}
	errUnavailable = &failure{http.StatusServiceUnavailable, "The console cannot answer now", "The store is not open. Try again in a moment; if this goes on, the server's log says why."}
	errExports     = &failure{http.StatusServiceUnavailable, "Other exports are running", "Try again in a moment."}
	errStale       = &failure{http.StatusForbidden, "This form is too old", "You have signed in again since the page was made. Reload the page, and send the form again."}
)

// errSignIn means that the route needs a session and the request has none.
var errSignIn = errors.New("sign in")
