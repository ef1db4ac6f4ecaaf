// Package stdio implements the directive farebox_stdio, which runs an MCP server that
// speaks on stdin and stdout, and serves it to the handlers before it.
package stdio

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/stdio/process"
	"github.com/fareboxhq/farebox/internal/stdio/server"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler runs a stdio MCP server and answers as a streamable HTTP server. Each session
// has a process of its own, unless `per` says otherwise. Put `farebox` before it: the
// handler itself asks for no key. It does not work on Windows.
type Handler struct {
	// The program and its arguments. Required. Secrets belong into `env`, because other
	// users of the machine can see arguments.
	Command []string `json:"command,omitempty"`

	// Environment variables of the program. Beside them it gets PATH, HOME, USER,
	// LOGNAME, SHELL, LANG, LC_ALL, LC_CTYPE, TZ, TMPDIR and TERM of the gateway, and no
	// others. Values may be placeholders such as `{env.API_KEY}` or `{file./run/key}`,
	// which are read when the config is loaded.
	Env map[string]string `json:"env,omitempty"`

	// The working directory. Default: that of the gateway.
	Dir string `json:"dir,omitempty"`

	// The name or number of the user that the program runs as. Only root can change the
	// user. Default: the user of the gateway.
	User string `json:"user,omitempty"`

	// Which sessions share a process: `session` (none), `account` (those of an
	// account) or `shared` (all; only for a server that keeps nothing of its callers).
	// Default: `session`.
	Per string `json:"per,omitempty"`

	// The most processes, if they are `shared`. Default: 1.
	Instances int64 `json:"instances,omitempty"`

	// The most processes of this definition. Default: 100.
	MaxProcesses int64 `json:"max_processes,omitempty"`

	// The most processes of one account. Default: 10.
	MaxPerAccount int64 `json:"max_per_account,omitempty"`

	// How long a session, or a shared process, may be without a request before it ends.
	// Default: 10m.
	Idle caddy.Duration `json:"idle,omitempty"`

	// How long a process may take to answer its first request. Default: 30s.
	StartTimeout caddy.Duration `json:"start_timeout,omitempty"`

	// How long a process may take to answer any other request. Default: no limit but
	// that of `farebox`.
	RequestTimeout caddy.Duration `json:"request_timeout,omitempty"`

	// How long a process may take to end, before it is killed. Default: 5s.
	Grace caddy.Duration `json:"grace,omitempty"`

	// The most resident memory of a process and its children, in bytes. A process that
	// exceeds it is killed. It works on Linux only. Default: no limit.
	Memory int64 `json:"memory,omitempty"`

	// The longest message of the program, in bytes. Default: 64 MiB.
	MaxLine int64 `json:"max_line,omitempty"`

	// The bytes of messages that are kept for a client that comes back for a stream, for
	// each session. Default: 8 MiB.
	Buffer int64 `json:"buffer,omitempty"`

	// The position of the directive in the Caddyfile. It is only used in messages.
	Source string `json:"source,omitempty"`

	key     string // the server's key in the pool
	running *server.Server
}

// The defaults of a Handler.
const (
	defaultMaxProcesses  = 100
	defaultMaxPerAccount = 10
	defaultIdle          = 10 * time.Minute
	defaultStart         = 30 * time.Second
	defaultGrace         = 5 * time.Second
	defaultMaxLine       = 64 << 20
	defaultBuffer        = 8 << 20

	// streamAfter is the time after which a call without an answer gets an event stream.
	// A client that loses its connection can then come back for the answer.
	streamAfter = 2 * time.Second
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_stdio", New: func() caddy.Module { return new(Handler) }}
}

// servers has the servers of all configs that run. A reload that leaves a definition as
// it is keeps its processes and sessions.
var servers = caddy.NewUsagePool()

// pooled is a server in the pool.
type pooled struct{ *server.Server }

// Destruct ends the server. While the gateway itself ends, it waits for the end of the
// processes.
func (p pooled) Destruct() error {
	if caddy.Exiting() {
		p.Close()
	} else {
		go p.Close()
	}
	return nil
}

// Provision checks the config. It starts no process, because `caddy validate` also calls
// Provision.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.check(); err != nil {
		return h.wrap(err)
	}
	o, err := h.options()
	if err == nil {
		err = o.Process.Check()
	}
	if err != nil {
		return h.wrap(err)
	}
	if h.key, err = h.identity(o.Process.Env); err != nil {
		return err
	}
	if h.User == "" && os.Geteuid() == 0 {
		ctx.Slogger().Warn("a stdio server will run as root: name another user with the option user", slog.String("at", h.Source))
	}
	value, _, err := servers.LoadOrNew(h.key, func() (caddy.Destructor, error) {
		return pooled{server.New(o, ctx.Slogger())}, nil
	})
	if err != nil {
		return err
	}
	h.running = value.(pooled).Server
	h.running.SetLogger(ctx.Slogger())
	return nil
}

func (h *Handler) wrap(err error) error {
	if h.Source == "" {
		return fmt.Errorf("farebox_stdio: %w", err)
	}
	return fmt.Errorf("farebox_stdio, at %s: %w", h.Source, err)
}

// identity returns a name of the definition: with the values of its environment, and
// without its position.
func (h *Handler) identity(env []string) (string, error) {
	definition := *h
	definition.Source, definition.key, definition.running = "", "", nil
	text, err := json.Marshal(struct {
		Handler
		Values []string
	}{definition, env})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// placeholder matches a placeholder that reads a secret.
var placeholder = regexp.MustCompile(`\{(env|file)\.`)

// check checks the config without looking at the system.
func (h *Handler) check() error {
	if len(h.Command) == 0 {
		return errors.New("want the command that starts the server, as in: farebox_stdio npx -y @modelcontextprotocol/server-memory")
	}
	for _, arg := range h.Command {
		if placeholder.MatchString(arg) {
			return fmt.Errorf("the argument %q is a placeholder: other users of the machine can see arguments; use env NAME %s", arg, arg)
		}
	}
	switch server.Sharing(h.Per) {
	case "", server.PerSession, server.PerAccount, server.Shared:
	default:
		return fmt.Errorf("per: want session, account or shared, not %q", h.Per)
	}
	if h.Instances > 1 && h.Per != string(server.Shared) {
		return errors.New("instances is for shared processes: add per shared if the server keeps nothing of its callers, or leave instances out")
	}
	for name := range h.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %q is no name of a variable", name)
		}
	}
	for _, n := range []int64{h.Instances, h.MaxProcesses, h.MaxPerAccount, h.Memory, h.MaxLine, h.Buffer, int64(h.Idle), int64(h.StartTimeout), int64(h.RequestTimeout), int64(h.Grace)} {
		if n < 0 {
			return errors.New("numbers, sizes and times cannot be below zero")
		}
	}
	return nil
}

// options returns the options of the server.
func (h *Handler) options() (o server.Options, err error) {
	variables, err := h.variables()
	if err != nil {
		return o, err
	}
	user, home, err := lookUp(h.User)
	if err != nil {
		return o, fmt.Errorf("user: %w", err)
	}
	dir, err := caddy.NewReplacer().ReplaceOrErr(h.Dir, true, true)
	if err != nil {
		return o, fmt.Errorf("dir: %w", err)
	}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil {
			return o, fmt.Errorf("dir: %w", err)
		} else if !info.IsDir() {
			return o, fmt.Errorf("dir: %s is no directory", dir)
		}
	}
	return server.Options{
		Process: process.Options{
			Command: h.Command, Dir: dir, Env: process.Environment(append(home, variables...)...), User: user,
			MaxLine: int(cmp.Or(h.MaxLine, defaultMaxLine)), Grace: time.Duration(cmp.Or(h.Grace, caddy.Duration(defaultGrace))),
			Memory: h.Memory, Redact: process.Redactor(variables),
		},
		Per: server.Sharing(cmp.Or(h.Per, string(server.PerSession))), Instances: int(cmp.Or(h.Instances, 1)),
		MaxProcesses: int(cmp.Or(h.MaxProcesses, defaultMaxProcesses)), MaxPerAccount: int(cmp.Or(h.MaxPerAccount, defaultMaxPerAccount)),
		Idle: time.Duration(cmp.Or(h.Idle, caddy.Duration(defaultIdle))), StartTimeout: time.Duration(cmp.Or(h.StartTimeout, caddy.Duration(defaultStart))),
		RequestTimeout: time.Duration(h.RequestTimeout), Buffer: int(cmp.Or(h.Buffer, defaultBuffer)), StreamAfter: streamAfter,
	}, nil
}

// variables returns the configured environment with its placeholders replaced.
func (h *Handler) variables() (all []string, err error) {
	repl := caddy.NewReplacer()
	for _, name := range sortedKeys(h.Env) {
		value, err := repl.ReplaceOrErr(h.Env[name], true, true)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		all = append(all, name+"="+value)
	}
	return all, nil
}

// Cleanup gives the server back.
func (h *Handler) Cleanup() error {
	if h.running == nil {
		return nil
	}
	_, err := servers.Delete(h.key)
	return err
}

// ServeHTTP answers a request. The account is the one that farebox has found, which no
// client can set.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	account := ""
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		account, _ = repl.GetString("http.farebox.account")
	}
	_, fromOutside := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if account == "" && fromOutside && h.Per == string(server.PerAccount) {
		return caddyhttp.Error(http.StatusInternalServerError, h.wrap(errors.New("per account: the request has no account; put farebox before farebox_stdio")))
	}
	h.running.Serve(w, r, account)
	return nil
}

// Interface guards: the compiler checks that Handler implements these interfaces.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
