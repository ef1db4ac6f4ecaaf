package routes

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Place is the position of a farebox handler in a running config. Its ServeHTTP
// passes requests to the handlers behind farebox.
type Place struct {
	// Upstreams has the addresses to which the reverse proxies behind farebox lead.
	Upstreams []string

	server *caddyhttp.Server
	depth  int               // the nesting depth of the routes that the method find is searching
	hosts  []string          // hosts that the routes around farebox match
	paths  []string          // path patterns that the routes around farebox match
	next   caddyhttp.Handler // the handlers behind farebox
}

// Find returns the place of a handler in the HTTP app, or nil if no route leads to
// the handler.
func Find(app *caddyhttp.App, h Guarding) *Place {
	for _, server := range app.Servers {
		p := &Place{server: server}
		if p.find(server.Routes, h, func() caddyhttp.Handler { return caddyhttp.HandlerFunc(nothing) }) {
			return p
		}
	}
	return nil
}

// nothing, the last handler of every route, answers the requests that no other handler
// has answered.
func nothing(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNotFound)
	return nil
}

// find looks for h in the routes and reports whether h is there. The handler for
// requests that pass all of the routes is made by after(), which find calls only if it
// finds h. So a search builds no handlers for the other routes.
func (p *Place) find(routes caddyhttp.RouteList, h Guarding, after func() caddyhttp.Handler) bool {
	if p.depth == maxDepth {
		return false
	}
	p.depth++
	defer func() { p.depth-- }()
	for i, route := range routes {
		for j, handler := range route.Handlers {
			following := route.Handlers[j+1:]
			behind := func() caddyhttp.Handler {
				next := caddyhttp.Handler(caddyhttp.HandlerFunc(nothing))
				if !route.Terminal {
					next = later(route, routes[i+1:]).Compile(after())
				}
				return chain(following, next)
			}
			switch found := handler.(type) {
			case Guarding:
				if found != h {
					continue
				}
				if leading, ok := found.(Leading); ok {
					p.next, p.Upstreams = leading.Target()
				}
				if p.next == nil {
					p.next = behind()
					p.note(following)
					for _, r := range later(route, routes[i+1:]) {
						p.note(r.Handlers)
					}
				}
			case *caddyhttp.Subroute:
				if !p.find(found.Routes, h, behind) {
					continue
				}
				p.note(following)
			case *caddyhttp.Invoke:
				named := p.server.NamedRoutes[found.Name]
				if named == nil || !p.find(caddyhttp.RouteList{*named}, h, behind) {
					continue
				}
				p.note(following)
			default:
				continue
			}
			p.match(route.MatcherSets)
			return true
		}
	}
	return false
}

// later returns the routes behind a given route that a request can still take after it
// has taken that route.
func later(route caddyhttp.Route, behind caddyhttp.RouteList) caddyhttp.RouteList {
	return slices.DeleteFunc(slices.Clone(behind), func(r caddyhttp.Route) bool {
		return route.Terminal || route.Group != "" && r.Group == route.Group
	})
}

// chain returns one handler that runs the handlers in order, and next after them.
func chain(handlers []caddyhttp.MiddlewareHandler, next caddyhttp.Handler) caddyhttp.Handler {
	for _, handler := range slices.Backward(handlers) {
		after := next
		next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return handler.ServeHTTP(w, r, after) })
	}
	return next
}

// note adds to p.Upstreams the upstreams of the reverse proxies among the handlers.
func (p *Place) note(handlers []caddyhttp.MiddlewareHandler) {
	for _, handler := range handlers {
		switch h := handler.(type) {
		case *reverseproxy.Handler:
			for _, upstream := range h.Upstreams {
				p.Upstreams = append(p.Upstreams, upstream.Dial)
			}
		case *caddyhttp.Subroute:
			for _, route := range h.Routes {
				p.note(route.Handlers)
			}
		}
	}
}

// match adds to p the hosts and paths that a route around farebox matches.
func (p *Place) match(sets caddyhttp.MatcherSets) {
	for _, set := range sets {
		for _, matcher := range set {
			switch m := matcher.(type) {
			case *caddyhttp.MatchHost:
				p.hosts = append(p.hosts, *m...)
			case caddyhttp.MatchHost:
				p.hosts = append(p.hosts, m...)
			case *caddyhttp.MatchPath:
				p.paths = append(p.paths, *m...)
			case caddyhttp.MatchPath:
				p.paths = append(p.paths, m...)
			}
		}
	}
}

// Host returns a host by which clients call, or localhost if the config names none.
func (p *Place) Host() string {
	for _, host := range p.hosts {
		if !strings.ContainsAny(host, "*{") {
			return host
		}
	}
	return "localhost"
}

// Paths returns the paths at which the server may answer, the likeliest first: the
// usual paths of MCP servers, then those that clients call.
func (p *Place) Paths() []string {
	guesses := []string{"/mcp", "/mcp/", "/"}
	for _, path := range p.paths {
		if path = strings.TrimRight(path, "*/"); strings.HasPrefix(path, "/") && !strings.ContainsAny(path, "*{") {
			if !slices.Contains(guesses, path) {
				guesses = append(guesses, path)
			}
		}
	}
	return guesses
}

// ServeHTTP passes a request that Farebox itself makes to the handlers behind
// farebox.
func (p *Place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { // net/http does not recover from a panic here, because net/http did not start this goroutine
		if problem := recover(); problem != nil {
			w.WriteHeader(http.StatusBadGateway)
		}
	}()
	r.RequestURI, r.RemoteAddr, r.Proto, r.ProtoMajor, r.ProtoMinor = r.URL.RequestURI(), "127.0.0.1:0", "HTTP/1.1", 1, 1
	r.Host = r.URL.Host
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, p.server)
	err := p.next.ServeHTTP(w, r)
	if err == nil {
		return
	}
	status := http.StatusBadGateway
	var handled caddyhttp.HandlerError
	if errors.As(err, &handled) && handled.StatusCode != 0 {
		status = handled.StatusCode
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, err.Error())
}
