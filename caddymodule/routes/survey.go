package routes

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Survey is the result of following all routes of a config.
type Survey struct {
	// LogsCredentials names a handler that takes keys although its HTTP server has
	// log_credentials, so the access log would contain the keys. It is empty if the
	// config has no such handler.
	LogsCredentials string

	// Idle is nil if every farebox handler is in use. Otherwise Idle is an error that
	// names a handler that is not in use: either no call reaches the handler, or no
	// handler behind it can answer a call.
	Idle error

	// Bypasses has the reverse proxies that reach a server past farebox, although
	// farebox guards the same server elsewhere.
	Bypasses []Bypass
}

// Bypass is a reverse_proxy to a guarded server without a farebox before it.
type Bypass struct {
	Guard    Guard  // the farebox that guards the server elsewhere
	Upstream string // the server's address
	Lines    string // positions of the reverse_proxy, as FILE:LINE, FILE:LINE; empty if unknown
}

// Look follows the routes of all servers of the app, whether or not Caddy has
// provisioned them.
func Look(app *caddyhttp.App) Survey {
	s := survey{guarded: make(map[string]Guard)}
	var result Survey
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		stages := (&reader{server: server}).stages(server.Routes)
		if server.Logs != nil && server.Logs.ShouldLogCredentials && result.LogsCredentials == "" {
			result.LogsCredentials = keeper(stages)
		}
		s.walk(stages, false, nil)
	}
	for _, upstream := range s.unguarded {
		if g, ok := s.guarded[upstream]; ok {
			result.Bypasses = append(result.Bypasses, Bypass{Guard: g, Upstream: upstream, Lines: proxyLines(g.Source, upstream)})
		}
	}
	result.Idle = s.idle
	return result
}

// survey follows the routes of a config as requests do.
type survey struct {
	guarded   map[string]Guard // maps the address of a server to the farebox before the server
	unguarded []string         // addresses of the servers behind proxies without a farebox before them
	idle      error            // see Survey.Idle
}

// keeper returns the name of a handler in these routes that takes keys, or "" if
// there is no such handler.
func keeper(stages []stage) string {
	for _, to := range stages {
		for _, s := range to.steps {
			who := keeper(s.inner)
			switch {
			case s.guard != nil:
				who = s.guard.String()
			case s.kind == "farebox_platform":
				who = "farebox_platform"
			}
			if who != "" {
				return who
			}
		}
	}
	return ""
}

// walk follows a list of routes. The second argument reports whether a handler after
// the list may answer. The third has the farebox handlers that a request has passed
// before the list.
func (s *survey) walk(list []stage, more bool, guards []Guard) {
	ended := make(map[string]string) // maps the matchers of a route to the handler that answers the matched requests
	groups := make(map[string]bool)  // the groups with a route that matches all requests
	before := slices.Clone(guards)
	entered := make(map[string][]Guard) // maps a group to the guards before its first route
	for i, to := range list {
		if to.group != "" {
			if _, ok := entered[to.group]; !ok {
				entered[to.group] = slices.Clone(before)
			}
			guards = entered[to.group]
		} else {
			guards = before
		}
		rest := !to.terminal && (more || slices.ContainsFunc(list[i+1:], func(later stage) bool {
			return (later.group == "" || later.group != to.group) && mayAnswer(later.steps)
		}))
		end := ended[""]
		if end == "" {
			end = ended[to.matchers]
		}
		if groups[to.group] {
			end = "the route before it in its group"
		}
		passed, end := s.follow(to.steps, rest, slices.Clone(guards), end)
		if !to.terminal { // no request goes on after a terminal route
			before = union(before, passed)
		}
		if to.group != "" && to.matchers == "" {
			groups[to.group] = true
		}
		if end != "" && (to.matchers != "" || to.group == "") {
			ended[to.matchers] = end
		}
	}
}

// follow follows the handlers of a route. If an earlier handler has answered the
// request, the last argument is the name of that handler; otherwise it is "". The
// results are the guards that a request has passed at the end of the route, and the
// handler that has answered the request, or "".
func (s *survey) follow(steps []step, more bool, guards []Guard, ended string) ([]Guard, string) {
	for i, at := range steps {
		rest := more || mayAnswer(steps[i+1:])
		switch {
		case at.guard != nil:
			switch {
			case ended != "":
				s.fail(*at.guard, "no call ever comes to it: "+ended+" has answered before")
			case !rest && !at.leads:
				s.fail(*at.guard, "nothing after it answers: want upstream with the address of the MCP server in it, or a reverse_proxy behind it")
			}
			guards = append(guards, *at.guard)
		case at.inner != nil:
			s.walk(at.inner, rest, guards)
			guards = union(guards, guardsIn(at.inner))
		}
		for _, dial := range at.upstreams {
			s.proxied(upstreamName(dial), guards)
		}
		if ended == "" && at.answers() {
			ended = at.kind
		}
	}
	return guards, ended
}

func (s *survey) proxied(upstream string, guards []Guard) {
	if len(guards) == 0 {
		s.unguarded = append(s.unguarded, upstream)
	} else if _, ok := s.guarded[upstream]; !ok {
		s.guarded[upstream] = guards[len(guards)-1]
	}
}

func (s *survey) fail(g Guard, why string) {
	if s.idle == nil {
		s.idle = fmt.Errorf("%s: %s", g, why)
	}
}

// guardsIn returns all farebox handlers in a subroute, no matter which requests they
// are for. Some requests may pass the subroute without reaching any of these
// handlers; that is assumed to be on purpose.
func guardsIn(stages []stage) (all []Guard) {
	for _, to := range stages {
		for _, s := range to.steps {
			if s.guard != nil {
				all = append(all, *s.guard)
			}
			all = append(all, guardsIn(s.inner)...)
		}
	}
	return all
}

func union(a, b []Guard) []Guard {
	for _, h := range b {
		if !slices.Contains(a, h) {
			a = append(a, h)
		}
	}
	return a
}

// proxyLines returns the positions in the Caddyfile of each reverse_proxy to the
// upstream that has no farebox in its block or in a block around it. It returns "" if
// the file cannot be read or has no such reverse_proxy.
func proxyLines(source, upstream string) string {
	file, _, _ := strings.Cut(source, ":")
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	tokens, err := caddyfile.Tokenize(text, file)
	if err != nil {
		return ""
	}
	type block struct {
		guarded bool
		lines   []string
	}
	open := []block{{}}
	var found []string
	for i, t := range tokens {
		here := &open[len(open)-1]
		switch first := i == 0 || tokens[i-1].Line != t.Line; {
		case t.Text == "{":
			open = append(open, block{guarded: here.guarded})
		case t.Text == "}" && len(open) > 1:
			if !here.guarded {
				found = append(found, here.lines...)
			}
			open = open[:len(open)-1]
		case first && t.Text == "farebox" && len(open) > 1:
			here.guarded = true
		case first && t.Text == "reverse_proxy":
			for _, arg := range tokens[i+1:] {
				if arg.Line != t.Line {
					break
				}
				if upstreamName(strings.TrimPrefix(arg.Text, "http://")) == upstream {
					here.lines = append(here.lines, fmt.Sprintf("%s:%d", file, t.Line))
				}
			}
		}
	}
	return strings.Join(found, ", ")
}
