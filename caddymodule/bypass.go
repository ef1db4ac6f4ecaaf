package caddymodule

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/exchange"
)

// survey follows the routes of a config as requests do, and notes where farebox
// does not stand in their way although it is meant to.
type survey struct {
	guarded   map[string]*Handler // by upstream: the farebox before it
	unguarded []string            // upstreams of proxies without one
	idle      error               // a farebox that no call reaches, or with nothing behind it
}

// checkSites checks once, for all sites of a config, that farebox guards its
// servers: an error names a handler that does nothing, and a warning names a proxy
// that bypasses one. It runs when the first handler is provisioned, since Caddy has
// no later hook that "caddy validate" reaches, too.
func (a *App) checkSites(ctx caddy.Context) error {
	a.mu.Lock()
	checked := a.sitesChecked
	a.sitesChecked = true
	a.mu.Unlock()
	modules := ctx.Modules()
	i := slices.IndexFunc(modules, func(m caddy.Module) bool { _, ok := m.(*caddyhttp.App); return ok })
	if checked || i < 0 {
		return nil
	}
	s := survey{guarded: make(map[string]*Handler)}
	servers := modules[i].(*caddyhttp.App).Servers
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		server := servers[name]
		stages := (&siteReader{server: server}).stages(server.Routes)
		if server.Logs != nil && server.Logs.ShouldLogCredentials {
			if who := keeper(stages); who != "" {
				return fmt.Errorf("%s: %w", who, exchange.ErrCredentialsLogged)
			}
		}
		s.walk(stages, false, nil)
	}
	for _, upstream := range s.unguarded {
		if h := s.guarded[upstream]; h != nil {
			a.logger.Warn("a reverse_proxy reaches a server past farebox: who calls there needs no key and pays nothing",
				"server", h.Server, "farebox", h.Source, "reverse_proxy", proxyLine(h.Source, upstream), "upstream", upstream,
				"advice", "put a farebox before that reverse_proxy, or take it out; if it serves nothing of MCP, give it a path of its own at the upstream")
		}
	}
	return s.idle
}

// keeper returns the name of a handler in these routes that takes keys, "" if there
// is no such handler.
func keeper(stages []stage) string {
	for _, to := range stages {
		for _, s := range to.steps {
			who := keeper(s.inner)
			switch {
			case s.farebox != nil:
				who = s.farebox.title()
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

// walk follows a list of routes. More says that something after the list may
// answer, and guards are the handlers that stand before it.
func (s *survey) walk(list []stage, more bool, guards []*Handler) {
	ended := make(map[string]string) // by matchers: the handler that answers such requests
	groups := make(map[string]bool)  // those that had a route for all requests
	before := slices.Clone(guards)
	entered := make(map[string][]*Handler) // by group: those before its first route
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
		before = union(before, passed)
		if to.group != "" && to.matchers == "" {
			groups[to.group] = true
		}
		if end != "" && (to.matchers != "" || to.group == "") {
			ended[to.matchers] = end
		}
	}
}

// follow follows the handlers of a route. It returns the guards that a request has
// passed then, and the handler that answered it, "" for no answer.
func (s *survey) follow(steps []step, more bool, guards []*Handler, ended string) ([]*Handler, string) {
	for i, at := range steps {
		rest := more || mayAnswer(steps[i+1:])
		switch {
		case at.farebox != nil:
			switch {
			case ended != "":
				s.fail(at.farebox, "no call ever comes to it: "+ended+" has answered before")
			case !rest:
				s.fail(at.farebox, "nothing after it answers: want a reverse_proxy to the MCP server behind it")
			}
			guards = append(guards, at.farebox)
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

func (s *survey) proxied(upstream string, guards []*Handler) {
	if len(guards) == 0 {
		s.unguarded = append(s.unguarded, upstream)
	} else if s.guarded[upstream] == nil {
		s.guarded[upstream] = guards[len(guards)-1]
	}
}

func (s *survey) fail(h *Handler, why string) {
	if s.idle == nil {
		s.idle = fmt.Errorf("%s: %s", h.title(), why)
	}
}

// guardsIn returns the handlers of a subroute, for any requests: those that match
// no handler are meant to bypass them.
func guardsIn(stages []stage) (all []*Handler) {
	for _, to := range stages {
		for _, s := range to.steps {
			if s.farebox != nil {
				all = append(all, s.farebox)
			}
			all = append(all, guardsIn(s.inner)...)
		}
	}
	return all
}

func union(a, b []*Handler) []*Handler {
	for _, h := range b {
		if !slices.Contains(a, h) {
			a = append(a, h)
		}
	}
	return a
}

// title names a handler for messages: where it stands, if the config is a
// Caddyfile, and its server.
func (h *Handler) title() string {
	if h.Source == "" {
		return fmt.Sprintf("server %q", h.Server)
	}
	return fmt.Sprintf("%s: server %q", h.Source, h.Server)
}

// proxyLine returns the place in the Caddyfile of the reverse_proxy to the upstream
// without a farebox beside it; "" if the text is ambiguous.
func proxyLine(source, upstream string) string {
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
