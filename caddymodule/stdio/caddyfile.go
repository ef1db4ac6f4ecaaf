package stdio

import (
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/fareboxhq/farebox/caddymodule/grammar"
	"github.com/fareboxhq/farebox/internal/stdio/server"
)

func init() {
	httpcaddyfile.RegisterDirective("farebox_stdio", parse)
	httpcaddyfile.RegisterDirectiveOrder("farebox_stdio", httpcaddyfile.Before, "reverse_proxy")
}

// parse reads the directive. It takes no matcher, because a command can begin with a
// slash, as matchers of paths do.
func parse(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, handler), nil
}

// UnmarshalCaddyfile sets the handler up from the directive:
//
//	farebox_stdio <command> [<argument>...] {
//	    env <name> <value>
//	    dir <directory>
//	    user <name>
//	    per session|account|shared
//	    instances <number>
//	    max_processes <number>
//	    max_per_account <number>
//	    idle <duration>
//	    start_timeout <duration>
//	    request_timeout <duration>
//	    grace <duration>
//	    memory <size>
//	    max_line <size>
//	    buffer <size>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // skips the directive's name
	h.Source = grammar.Place(d)
	h.Command = d.RemainingArgs()
	err := grammar.Block(d, "farebox_stdio", grammar.Subdirectives{
		"env":             h.parseEnv,
		"dir":             grammar.Text(&h.Dir),
		"user":            grammar.Text(&h.User),
		"per":             h.parsePer,
		"instances":       grammar.Number(&h.Instances),
		"max_processes":   grammar.Number(&h.MaxProcesses),
		"max_per_account": grammar.Number(&h.MaxPerAccount),
		"idle":            grammar.Duration(&h.Idle),
		"start_timeout":   grammar.Duration(&h.StartTimeout),
		"request_timeout": grammar.Duration(&h.RequestTimeout),
		"grace":           grammar.Duration(&h.Grace),
		"memory":          grammar.Size(&h.Memory),
		"max_line":        grammar.Size(&h.MaxLine),
		"buffer":          grammar.Size(&h.Buffer),
	}, "env")
	if err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return d.Errf("farebox_stdio: %w", err)
	}
	return nil
}

func (h *Handler) parseEnv(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Err("env: want a name and a value, as in: env API_KEY {env.API_KEY}")
	}
	if _, ok := h.Env[args[0]]; ok {
		return d.Errf("env: %s is given twice", args[0])
	}
	if h.Env == nil {
		h.Env = make(map[string]string)
	}
	h.Env[args[0]] = args[1]
	return nil
}

func (h *Handler) parsePer(d *caddyfile.Dispenser) error {
	return grammar.Checked(&h.Per, func(text string) error {
		allowed := []server.Sharing{server.PerSession, server.PerAccount, server.Shared}
		if !slices.Contains(allowed, server.Sharing(text)) {
			return fmt.Errorf("per: want session, account or shared, not %q", text)
		}
		return nil
	})(d)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
