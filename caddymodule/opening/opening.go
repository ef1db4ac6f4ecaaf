// Package opening lets the requests of a config wait until its store is open. Caddy
// starts apps in random order, so the HTTP app may serve before the store is open.
package opening

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/fareboxhq/farebox/caddymodule/health"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/share"
)

// Runtime is the runtime of one config. It is safe for concurrent use.
type Runtime struct {
	ready   chan struct{} // closed when Set has set the runtime
	runtime *engine.Runtime
}

// New returns a Runtime without a store, for which requests wait.
func New() *Runtime { return &Runtime{ready: make(chan struct{})} }

// Set sets the engine's runtime, and lets the requests that wait go on. Call Set at
// most once.
func (s *Runtime) Set(rt *engine.Runtime) {
	s.runtime = rt
	close(s.ready)
}

// Ready reports whether Set was called.
func (s *Runtime) Ready() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// Engine returns the engine's runtime. Call Acquire first.
func (s *Runtime) Engine() *engine.Runtime { return s.runtime }

// Acquire waits until the store is open, at most health.StartPatience, and keeps the
// runtime open until Release is called.
func (s *Runtime) Acquire(ctx context.Context) error {
	select {
	case <-s.ready:
		return s.runtime.Acquire()
	default:
	}
	timer := time.NewTimer(health.StartPatience)
	defer timer.Stop()
	select {
	case <-s.ready:
		return s.runtime.Acquire()
	case <-timer.C:
		return errors.New("the store is not open yet")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release undoes one Acquire.
func (s *Runtime) Release() { s.runtime.Release() }

// Used notes that the key was used now.
func (s *Runtime) Used(k *keys.Key) { s.runtime.Used(k) }

// Charged notes the network of a call that was charged.
func (s *Runtime) Charged(k *keys.Key, client netip.Addr) { s.runtime.Charged(k, client) }

// LockRequestID locks a request id in the runtime. It translates the runtime's
// errors to those of package exchange.
func (s *Runtime) LockRequestID(ctx context.Context, holder share.Holder, session, id string) error {
	err := s.runtime.LockRequestID(ctx, holder, session, id)
	switch {
	case errors.Is(err, engine.ErrIDTaken):
		return &translated{err, exchange.ErrIDTaken}
	case errors.Is(err, engine.ErrSessionFull):
		return &translated{err, exchange.ErrSessionFull}
	}
	return err
}

// UnlockRequestID releases an id that LockRequestID has locked.
func (s *Runtime) UnlockRequestID(session, id string, resumable bool) {
	s.runtime.UnlockRequestID(session, id, resumable)
}

// translated wraps an error of package engine and keeps its text. errors.Is finds
// that error, and also the corresponding error of package exchange, which is in the
// second field.
type translated struct {
	error
	as error
}

func (t *translated) Unwrap() []error { return []error{t.error, t.as} }

// RulesOf returns the access rules of a server in the newest config.
func (s *Runtime) RulesOf(server string) string { return s.runtime.RulesOf(server) }

// AccountName returns the name of an account, or "" if the name is unknown.
func (s *Runtime) AccountName(ctx context.Context, id string) string {
	return s.runtime.AccountName(ctx, id)
}

// Interface guards
var _ exchange.Engine = (*Runtime)(nil)
