// Package routes reads the routes of Caddy's HTTP servers in the order in which
// requests take them. Look finds mistakes by which calls never reach farebox or
// bypass it. Find finds the handlers behind a farebox handler.
package routes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/fareboxhq/farebox/caddymodule/target"
)

// Guard identifies a farebox handler of a config.
type Guard struct {
	// Server is the name of the MCP server that the handler guards.
	Server string `json:"server"`

	// Source is the position of the directive in the Caddyfile, as FILE:LINE. It is
	// empty for a config in JSON.
	Source string `json:"source"`
}

// String describes the handler in messages: by its position, if the config is a
// Caddyfile, and its server.
func (g Guard) String() string {
	if g.Source == "" {
		return fmt.Sprintf("server %q", g.Server)
	}
	return fmt.Sprintf("%s: server %q", g.Source, g.Server)
}

// Guarding is a provisioned farebox handler.
type Guarding interface {
	caddyhttp.MiddlewareHandler
	Guard() Guard
}

// Leading is a Guarding handler that may send requests to the server itself.
type Leading interface {
	Guarding
	// Target returns the handler that sends requests to the server, and the addresses
	// that the config names. It returns nil if the handlers behind this one lead to
	// the server.
	Target() (to caddyhttp.Handler, addresses []string)
}

// stage is a route of a config. Caddy may or may not have provisioned the route.
type stage struct {
	group    string // at most one route of a group runs
	matchers string // the matchers as text, equal for routes that match the same requests; "" matches all requests
	terminal bool
	steps    []step
}

// step is a handler of a route.
type step struct {
	kind      string // the module's name
	guard     *Guard // nil unless the handler is a farebox
	leads     bool   // the handler is a farebox that sends requests to the server itself
	upstreams []string
	inner     []stage // the routes of a subroute or of an invoked route
}

// reader reads the routes of one of Caddy's HTTP servers.
type reader struct {
	server *caddyhttp.Server
	depth  int
}

// maxDepth bounds the nesting of routes, because a named route may invoke itself.
const maxDepth = 32

func (s *reader) stages(list caddyhttp.RouteList) []stage {
	if s.depth == maxDepth {
		return nil
	}
	s.depth++
	defer func() { s.depth-- }()
	all := make([]stage, len(list))
	for i := range list {
		all[i] = s.stage(&list[i])
	}
	return all
}

// stage reads a route. A handler is either in r.Handlers or in r.HandlersRaw,
// because Caddy drops the JSON of handlers that it has provisioned.
func (s *reader) stage(r *caddyhttp.Route) stage {
	to := stage{group: r.Group, terminal: r.Terminal}
	switch {
	case len(r.MatcherSets) > 0:
		to.matchers = "made " + textOf(r.MatcherSets)
	case len(r.MatcherSetsRaw) > 0:
		to.matchers = "text " + textOf(r.MatcherSetsRaw)
	}
	for _, h := range r.Handlers {
		to.steps = append(to.steps, s.made(h))
	}
	for _, text := range r.HandlersRaw {
		to.steps = append(to.steps, s.unmade(text))
	}
	return to
}

// made returns the step for a handler that Caddy has provisioned.
func (s *reader) made(h caddyhttp.MiddlewareHandler) step {
	to := step{kind: "unknown"}
	if m, ok := h.(caddy.Module); ok {
		to.kind = m.CaddyModule().ID.Name()
	}
	switch h := h.(type) {
	case Guarding:
		to.guard = new(h.Guard())
		if leading, ok := h.(Leading); ok {
			var target caddyhttp.Handler
			target, to.upstreams = leading.Target()
			to.leads = target != nil
		}
	case *reverseproxy.Handler:
		for _, u := range h.Upstreams {
			to.upstreams = append(to.upstreams, u.Dial)
		}
	case *caddyhttp.Subroute:
		to.inner = s.stages(h.Routes)
	case *caddyhttp.Invoke:
		to.inner = s.named(h.Name)
	case *fileserver.FileServer:
		if h.PassThru {
			to.kind = "unknown"
		}
	}
	return to
}

// unmade returns the step for a handler that Caddy has not provisioned yet, from the
// handler's JSON.
func (s *reader) unmade(text json.RawMessage) step {
	var h struct {
		Handler  string              `json:"handler"`
		Routes   caddyhttp.RouteList `json:"routes"`
		Upstream json.RawMessage     `json:"upstream"`
		Name     string              `json:"name"`
		PassThru bool                `json:"pass_thru"`
	}
	if json.Unmarshal(text, &h) != nil {
		return step{kind: "unknown"} // Caddy will report the invalid JSON
	}
	to := step{kind: h.Handler}
	switch h.Handler {
	case "farebox":
		to.guard = new(Guard)
		if json.Unmarshal(text, to.guard) != nil {
			to.kind, to.guard = "unknown", nil
		}
		to.leads, to.upstreams = h.Upstream != nil, target.Addresses(h.Upstream)
	case "reverse_proxy":
		to.upstreams = target.Addresses(text)
	case "subroute":
		to.inner = s.stages(h.Routes)
	case "invoke":
		to.inner = s.named(h.Name)
	case "file_server":
		if h.PassThru {
			to.kind = "unknown"
		}
	}
	return to
}

func (s *reader) named(name string) []stage {
	route := s.server.NamedRoutes[name]
	if route == nil {
		return nil
	}
	return s.stages(caddyhttp.RouteList{*route})
}

// answering has the handlers that answer every request.
var answering = []string{"reverse_proxy", "static_response", "error", "file_server", "farebox_stdio"}

// passing has the handlers that leave the answer to the handlers behind them.
var passing = []string{
	"farebox", "encode", "headers", "rewrite", "vars", "map", "request_body", "tracing", "log_append", "intercept", "templates", "authentication", "copy_response_headers",
}

// mayAnswer reports whether one of the steps may answer a request.
func mayAnswer(steps []step) bool {
	for _, s := range steps {
		if s.inner != nil {
			if slices.ContainsFunc(s.inner, func(to stage) bool { return mayAnswer(to.steps) }) {
				return true
			}
		} else if s.leads || s.kind != "subroute" && !slices.Contains(passing, s.kind) {
			return true
		}
	}
	return false
}

// answers reports whether the step answers every request.
func (s *step) answers() bool {
	if s.inner == nil {
		return s.leads || slices.Contains(answering, s.kind)
	}
	for _, to := range s.inner {
		if to.matchers == "" && slices.ContainsFunc(to.steps, func(s step) bool { return s.answers() }) {
			return true
		}
	}
	return false
}

// upstreamName returns an upstream's address in a form for comparison: in lower
// case, with localhost for every name of this machine.
func upstreamName(dial string) string {
	dial = strings.ToLower(dial)
	for _, loopback := range []string{"127.0.0.1:", "[::1]:", "localhost:"} {
		if port, ok := strings.CutPrefix(dial, loopback); ok {
			return "localhost:" + port
		}
	}
	return dial
}

// textOf encodes a value as text, so that two values can be compared.
func textOf(v any) string {
	text, _ := json.Marshal(v) // cannot fail, because matchers always encode
	return string(text)
}
