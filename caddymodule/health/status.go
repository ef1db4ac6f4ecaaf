// Package health says whether a process can serve calls, and why not. Status is the
// health of one config. Handler, the directive farebox_health, shows it to load
// balancers; the admin endpoint shows it with details.
package health

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/ops"
)

// StartPatience bounds how long a request waits for the store of its config. Caddy
// starts apps in random order, so the HTTP app may serve before the store is open.
const StartPatience = 5 * time.Second

// Status is the health of the app of one config. It is safe for concurrent use.
type Status struct {
	// Operations returns the admin endpoint of the config.
	Operations func() http.Handler
	// Internal returns the same operations, for requests that this process makes with a
	// principal in their context; see identity.InContext.
	Internal func() http.Handler
	// Currency is the currency of all amounts.
	Currency string

	onBind []func(*engine.Runtime) error // set while modules are provisioned, one after the other

	begun   atomic.Pointer[time.Time]      // when the app began to start; nil before that
	runtime atomic.Pointer[engine.Runtime] // set while the app is started
}

// started has the configs with a started app, oldest first. During a reload there are
// two: Caddy starts the new config before it stops the old one.
var started struct {
	mu  sync.Mutex
	all []*Status
}

// OnBind registers a function that Bind will call. Call OnBind while the config is
// provisioned.
func (s *Status) OnBind(f func(*engine.Runtime) error) { s.onBind = append(s.onBind, f) }

// Bind passes the runtime to the functions that OnBind has registered, so that other
// modules of the config can serve. The app calls Bind while it starts, and holds a
// reference to the runtime.
func (s *Status) Bind(rt *engine.Runtime) error {
	for _, f := range s.onBind {
		if err := f(rt); err != nil {
			return err
		}
	}
	return nil
}

// Begin notes that the app begins to start.
func (s *Status) Begin() { s.begun.Store(new(clock.Now())) }

// Start notes that the app is started, and that its calls use the runtime.
func (s *Status) Start(rt *engine.Runtime) {
	s.runtime.Store(rt)
	started.mu.Lock()
	defer started.mu.Unlock()
	started.all = append(started.all, s)
}

// End notes that the app no longer holds a runtime. Call it before the runtime may be
// closed. Requests of the config may still be in flight.
func (s *Status) End() {
	s.runtime.Store(nil)
	s.begun.Store(nil)
	started.mu.Lock()
	defer started.mu.Unlock()
	started.all = slices.DeleteFunc(started.all, func(other *Status) bool { return other == s })
}

// latest returns the status of the config that was started last and has not ended. It
// returns nil if all configs have ended.
func latest() *Status {
	started.mu.Lock()
	defer started.mu.Unlock()
	if len(started.all) == 0 {
		return nil
	}
	return started.all[len(started.all)-1]
}

// Running returns the status of the running config. Without such a config, it returns
// nil and the reason.
func Running() (status *Status, why string) {
	if app, err := caddy.ActiveContext().AppIfConfigured("farebox"); err == nil {
		return app.(owner).Status(), ""
	}
	if caddy.Exiting() { // Caddy forgets the active config before it stops the apps of that config
		return latest(), "the server is shutting down"
	}
	return nil, "the running config does not use farebox"
}

// owner is the part of an app that this package uses.
type owner interface{ Status() *Status }

// Unready returns the reasons why calls should go to another process now, or nil.
// draining says whether Caddy is about to close the listener.
func (s *Status) Unready(draining bool) []engine.Reason {
	var reasons []engine.Reason
	for rt := s.serving(); ; {
		switch {
		case rt != nil:
			reasons = rt.Unready()
		case !draining: // a process that is about to end is not reported as starting
			reasons = []engine.Reason{{Condition: engine.Starting}}
		}
		// A reload may have closed the runtime rt in the meantime. If so, ask the
		// runtime that serves now.
		now := s.serving()
		if now == rt {
			break
		}
		rt = now
	}
	if draining {
		reasons = slices.DeleteFunc(reasons, func(r engine.Reason) bool { return r.Condition == engine.Draining })
		reasons = slices.Insert(reasons, 0, engine.Reason{Condition: engine.Draining})
	}
	return reasons
}

// serving returns the runtime that serves the calls of the config, or nil. While a
// config starts, its calls wait for the store, at most StartPatience. During that wait,
// serving returns the runtime of the latest config, so that a reload is not reported as
// a start. serving also returns that runtime after the config has ended.
func (s *Status) serving() *engine.Runtime {
	if rt := s.runtime.Load(); rt != nil {
		return rt
	}
	if begun := s.begun.Load(); begun != nil && clock.Since(*begun) > StartPatience {
		return nil
	}
	if other := latest(); other != nil {
		return other.runtime.Load()
	}
	return nil
}

// Health implements ops.Health. The reasons have details.
func (s *Status) Health() ops.HealthView {
	return viewOf(s.Unready(caddy.Exiting()))
}

// viewOf returns the reasons with their details.
func viewOf(reasons []engine.Reason) ops.HealthView {
	view := ops.HealthView{Status: ops.StatusReady}
	for _, r := range reasons {
		view.Status = ops.StatusNotReady
		reason := ops.ReasonView{Code: string(r.Condition), Message: r.Message()}
		if r.Detail != nil {
			reason.Detail = r.Detail.Error()
		}
		view.Reasons = append(view.Reasons, reason)
	}
	return view
}

// Interface guard: the compiler checks that Status implements the interface.
var _ ops.Health = (*Status)(nil)
