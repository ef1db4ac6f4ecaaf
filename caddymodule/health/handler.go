package health

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/engine"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler answers load balancers and orchestrators, which ask whether the process is
// alive and whether it can serve calls now. It needs no key, asks the store nothing,
// and shows a status and short reasons only. Requests for other paths go to the next
// handler.
type Handler struct {
	// The path that shows whether calls should come here: 200, or 503 with the
	// reasons. Default: `/readyz`.
	Ready string `json:"ready,omitempty"`

	// The path that is answered with 200 for as long as the process answers at all.
	// Default: `/livez`.
	Live string `json:"live,omitempty"`

	status *Status
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.farebox_health", New: func() caddy.Module { return new(Handler) }}
}

// Provision fills in the defaults.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.fill()
	app, err := ctx.App("farebox")
	if err != nil {
		return err
	}
	h.status = app.(owner).Status()
	return nil
}

// fill fills in the default paths, by the convention of Kubernetes.
func (h *Handler) fill() {
	h.Ready = cmp.Or(h.Ready, "/readyz")
	h.Live = cmp.Or(h.Live, "/livez")
}

// Validate checks the paths.
func (h *Handler) Validate() error {
	for _, path := range []string{h.Ready, h.Live} {
		if err := checkPath(path); err != nil {
			return err
		}
	}
	if h.Ready == h.Live {
		return fmt.Errorf("farebox_health: %s cannot be the path of both: the first path shows whether the process is ready, the second whether it is live; defaults: /readyz /livez", h.Ready)
	}
	return nil
}

func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "*?#{} ") {
		return fmt.Errorf("farebox_health: path %q: want an exact path, as /readyz", path)
	}
	return nil
}

const methods = "GET, HEAD"

// The bodies of a positive answer.
var (
	liveBody  = []byte(`{"status":"live"}` + "\n")
	readyBody = []byte(`{"status":"ready"}` + "\n")
)

// ServeHTTP answers requests for the two paths, and passes other requests on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path != h.Ready && r.URL.Path != h.Live {
		return next.ServeHTTP(w, r)
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", methods)
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("the method is %s, not one of %s", r.Method, methods))
	}
	status, body := http.StatusOK, liveBody
	if r.URL.Path == h.Ready {
		ignored, err := excluded(r.URL)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil
		}
		reasons := slices.DeleteFunc(h.status.Unready(draining(r)), func(r engine.Reason) bool { return slices.Contains(ignored, r.Condition) })
		if status, body, err = answer(reasons); err != nil {
			return caddyhttp.Error(http.StatusInternalServerError, err)
		}
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client has left
	return nil
}

// excluded returns the conditions that a probe asks to ignore, as in
// /readyz?exclude=STORE_DOWN&exclude=KEYS_STALE. The servers of Kubernetes have the
// same parameter.
func excluded(u *url.URL) (ignored []engine.Condition, err error) {
	if u.RawQuery == "" {
		return nil, nil
	}
	for _, code := range u.Query()["exclude"] {
		c := engine.Condition(code)
		if !slices.Contains(engine.Conditions, c) {
			return nil, fmt.Errorf("exclude: unknown reason %q; known: %s", code, known())
		}
		ignored = append(ignored, c)
	}
	return ignored, nil
}

// known lists the names of all conditions, for an error message.
func known() string {
	var names []string
	for _, c := range engine.Conditions {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// draining reports whether the process is ending, or the listener of the request is
// about to close. Caddy announces that a listener will close, and closes it after the
// time shutdown_delay. A reload that keeps the listener is not announced.
func draining(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	closing, _ := repl.Get("http.shutting_down")
	return closing == true
}

// answer returns the status and the body for the reasons. The details are left out,
// because anybody may ask.
func answer(reasons []engine.Reason) (status int, body []byte, err error) {
	if len(reasons) == 0 {
		return http.StatusOK, readyBody, nil
	}
	view := viewOf(reasons)
	for i := range view.Reasons {
		view.Reasons[i].Detail = ""
	}
	body, err = json.Marshal(&view)
	return view.Code(), append(body, '\n'), err
}

// Parse sets the handler up from the directive:
//
//	farebox_health [@<matcher>] [<ready path> [<live path>]]
//
// An argument that is a path is not a matcher here, because the handler answers exact
// paths only.
func Parse(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // skips the directive's name
	matchers, err := namedMatcher(&h)
	if err != nil {
		return nil, err
	}
	var handler Handler
	for _, path := range []*string{&handler.Ready, &handler.Live} {
		if !h.NextArg() {
			break
		}
		*path = h.Val()
	}
	if h.NextArg() {
		return nil, h.Errf("farebox_health takes two paths at most, as in: farebox_health /readyz /livez")
	}
	if h.NextBlock(0) {
		return nil, h.Err("farebox_health has no block: its paths stand on its line, as in: farebox_health /readyz /livez")
	}
	filled := handler
	filled.fill()
	if err := filled.Validate(); err != nil {
		return nil, h.WrapErr(err)
	}
	return h.NewRoute(matchers, &handler), nil
}

// namedMatcher reads the matcher in front of the paths, if there is one.
func namedMatcher(h *httpcaddyfile.Helper) (caddy.ModuleMap, error) {
	if !h.NextArg() {
		return nil, nil
	}
	named := strings.HasPrefix(h.Val(), "@")
	h.Prev() // goes back, because MatcherToken reads the argument again
	if !named {
		return nil, nil
	}
	matchers, _, err := h.MatcherToken()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	return matchers, nil
}

// Interface guards: the compiler checks that Handler implements these interfaces.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
