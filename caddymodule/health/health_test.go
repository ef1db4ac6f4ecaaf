package health

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// ailing is a store with a health that the test sets.
type ailing struct {
	*sqlitestore.Store
	ill atomic.Pointer[error]
}

func (a *ailing) Healthy() error {
	if err := a.ill.Load(); err != nil {
		return *err
	}
	return a.Store.Healthy()
}

// open opens a runtime. The test must close it.
func open(t *testing.T) (*engine.Runtime, *ailing) {
	t.Helper()
	dir := t.TempDir()
	store := new(ailing)
	rt, err := engine.Open(t.Context(), engine.Options{
		Open: func(ctx context.Context) (_ engine.Store, err error) {
			store.Store, err = sqlitestore.Open(ctx, sqlitestore.Options{Path: filepath.Join(dir, "f.db")})
			return store, err
		},
		KeyFile: filepath.Join(dir, "receipt-key"), SealFile: filepath.Join(dir, "seal-key"), DebtDir: filepath.Join(dir, "refunds"),
		Metrics: telemetry.New(new(telemetry.Process)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return rt, store
}

func destruct(t *testing.T, rt *engine.Runtime) {
	t.Helper()
	if err := rt.Destruct(); err != nil {
		t.Error(err)
	}
}

func conditions(reasons []engine.Reason) (all []engine.Condition) {
	for _, r := range reasons {
		all = append(all, r.Condition)
	}
	return all
}

// TestStatusOverReloads checks that a process is not ready until its first config has
// started. After that, the process is ready at every moment of a reload: while the new
// config starts, after the new config has failed, and after the old one has ended. This
// holds for requests of either config.
func TestStatusOverReloads(t *testing.T) {
	check := func(s *Status, when string, want ...engine.Condition) {
		t.Helper()
		if got := conditions(s.Unready(false)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	first, failed, second := new(Status), new(Status), new(Status)
	check(first, "before the start", engine.Starting)
	first.Begin()
	check(first, "at the start", engine.Starting)
	rt, _ := open(t)
	first.Start(rt)
	check(first, "after the start")

	check(failed, "in a new config before its start")
	failed.Begin()
	check(failed, "in a new config at its start")
	failed.End()
	check(failed, "in a new config that has failed")
	check(first, "beside it")

	second.Begin()
	next, _ := open(t)
	second.Start(next)
	check(second, "in a config with another store")
	first.End()
	check(first, "in the old config, once it has ended")
	destruct(t, rt)
	check(first, "in the old config, with its store closed")
	check(second, "beside it")

	second.End()
	destruct(t, next)
	check(second, "with no config left", engine.Starting)
	if latest() != nil {
		t.Error("a config that has ended is remembered")
	}
}

// TestSlowStart checks that a config that cannot open its store is reported as
// starting, as soon as its calls no longer wait for the store.
func TestSlowStart(t *testing.T) {
	rt, _ := open(t)
	defer destruct(t, rt)
	old, slow := new(Status), new(Status)
	old.Start(rt)
	defer old.End()
	for after, want := range map[time.Duration][]engine.Condition{
		StartPatience - time.Second: nil, StartPatience + time.Second: {engine.Starting},
	} {
		began := clock.Now().Add(-after)
		slow.begun.Store(&began)
		if got := conditions(slow.Unready(false)); !slices.Equal(got, want) {
			t.Errorf("after %s: got %v, want %v", after, got, want)
		}
	}
}

// TestDraining checks that a process that is about to end reports DRAINING as the first
// reason, and only once, and still reports the state of its store.
func TestDraining(t *testing.T) {
	s := new(Status)
	if got := conditions(s.Unready(true)); !slices.Equal(got, []engine.Condition{engine.Draining}) {
		t.Errorf("without a store: got %v", got)
	}
	rt, store := open(t)
	s.Start(rt)
	defer s.End()
	full := errors.New("the disk is full")
	store.ill.Store(&full)
	if got := conditions(s.Unready(true)); !slices.Equal(got, []engine.Condition{engine.Draining, engine.StoreDown}) {
		t.Errorf("with a broken store: got %v", got)
	}
	destruct(t, rt)
	if got := conditions(s.Unready(true)); !slices.Equal(got, []engine.Condition{engine.Draining}) {
		t.Errorf("with the store closed: got %v", got)
	}
}

// probe sends a request to the handler as Caddy does. If the handler passes the
// request on, the status is 404.
func probe(t *testing.T, h *Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}))
	var refused caddyhttp.HandlerError
	if errors.As(err, &refused) {
		w.Code = refused.StatusCode
	} else if err != nil {
		t.Error(err)
	}
	return w
}

// TestProbes checks the answers to probes: statuses, bodies and headers by path and
// method. The cause of a broken store is in the answer for operators only.
func TestProbes(t *testing.T) {
	rt, store := open(t)
	defer destruct(t, rt)
	s := new(Status)
	s.Start(rt)
	defer s.End()
	h := &Handler{status: s}
	h.fill()
	check := func(method, target string, status int, body string) {
		t.Helper()
		w := probe(t, h, method, target)
		if w.Code != status || !strings.Contains(w.Body.String(), body) {
			t.Errorf("%s %s: %d %s; want %d %s", method, target, w.Code, w.Body, status, body)
		}
		if status == http.StatusNotFound {
			return
		}
		if w.Header().Get("Cache-Control") != "no-store" || (status == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") == "GET, HEAD") {
			t.Errorf("%s %s: headers %v", method, target, w.Header())
		}
	}
	check("GET", "/readyz", 200, `{"status":"ready"}`)
	check("HEAD", "/readyz", 200, "")
	check("GET", "/livez", 200, `{"status":"live"}`)
	check("POST", "/readyz", 405, "")
	check("OPTIONS", "/livez", 405, "")
	check("GET", "/", 404, "")
	check("GET", "/readyz/", 404, "")
	check("GET", "/readyz?exclude=STORE_DWN", 400, `unknown reason "STORE_DWN"; known: DRAINING, STARTING, STORE_DOWN, KEYS_STALE`)

	full := errors.New("/var/lib/farebox is full")
	store.ill.Store(&full)
	const down = `{"status":"not_ready","reasons":[{"code":"STORE_DOWN","message":"the store cannot write: paid calls fail"}]}` + "\n"
	check("GET", "/readyz", 503, down)
	check("GET", "/readyz?verbose", 503, down)
	check("GET", "/readyz?exclude=KEYS_STALE", 503, down)
	check("GET", "/readyz?exclude=STORE_DOWN&exclude=KEYS_STALE", 200, `{"status":"ready"}`)
	check("GET", "/livez", 200, `{"status":"live"}`)
	if w := probe(t, h, "GET", "/readyz"); w.Body.String() != down || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s, %v", w.Body, w.Header())
	}
	want := ops.HealthView{Status: ops.StatusNotReady, Reasons: []ops.ReasonView{{Code: "STORE_DOWN", Message: engine.StoreDown.Message(), Detail: full.Error()}}}
	if got := s.Health(); textOf(t, got) != textOf(t, want) || got.Code() != http.StatusServiceUnavailable {
		t.Errorf("for operators: %s", textOf(t, got))
	}
	store.ill.Store(nil)
	if got := s.Health(); got.Status != ops.StatusReady || got.Code() != http.StatusOK || got.Reasons != nil {
		t.Errorf("for operators: %s", textOf(t, got))
	}
}

func textOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestClosingListener checks that a server is not ready when its listener is about to
// close, although the process goes on.
func TestClosingListener(t *testing.T) {
	rt, _ := open(t)
	defer destruct(t, rt)
	h := &Handler{status: new(Status)}
	h.fill()
	h.status.Start(rt)
	defer h.status.End()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil)
	repl := caddy.NewReplacer()
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl))
	for _, closing := range []bool{false, true} {
		repl.Set("http.shutting_down", closing)
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		if draining := strings.Contains(w.Body.String(), `"code":"DRAINING"`); draining != closing || (w.Code == http.StatusServiceUnavailable) != closing {
			t.Errorf("closing %v: %d %s", closing, w.Code, w.Body)
		}
	}
}

// TestBadPaths checks that a config in JSON is refused, too, if it has a path that no
// request can have.
func TestBadPaths(t *testing.T) {
	for _, h := range []Handler{{Ready: "readyz"}, {Live: "/live*"}, {Ready: "/{x}"}, {Ready: "/livez"}, {Ready: "/a?b"}} {
		h.fill()
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), "/readyz") {
			t.Errorf("%+v: got %v", &h, err)
		}
	}
}

// TestConditionsAreDocumented checks that docs/health.md explains each reason.
func TestConditionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/health.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range engine.Conditions {
		if !strings.Contains(string(text), "| `"+string(c)+"` |") {
			t.Errorf("docs/health.md does not have %s", c)
		}
	}
}
