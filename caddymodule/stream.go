package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/engine"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/share"
)

// relay is the writer of what costs nothing.
type relay interface {
	http.ResponseWriter
	Finish()
	SentHead() bool
	Withheld() bool
}

// forwardStream sends a request on whose response stays open. It ends when the
// key no longer allows it.
func (x *exchange) forwardStream(w relay) error {
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	unwatch, refusal := x.watch(ctx, cancel, new(gate.Ticket)) // it needs no scope
	if refusal != nil {
		x.refuse(refusal)
		return nil
	}
	defer unwatch()
	return x.forward(w, x.r.WithContext(ctx))
}

// watch cancels what ctx is of once the key is refused, or lacks a scope for
// what the ticket is of, until the returned function is called.
func (x *exchange) watch(ctx context.Context, cancel context.CancelFunc, t *gate.Ticket) (unwatch func(), refusal *gate.Refusal) {
	opened := new(share.Allocation)
	shares.streams.Open(opened, x.holder())
	if err := opened.Take(1); err != nil {
		opened.Close()
		return nil, x.noShare(err)
	}
	opened.Cuttable(cancel)
	stream := x.h.rt.Watch(x.key.Digest)
	client := x.client()
	// Only what is changed from now on is told.
	if _, refusal := x.h.gate.CheckStream(ctx, client, x.key.Digest, t); refusal != nil {
		stream.End()
		opened.Close()
		return nil, refusal
	}
	var watching sync.WaitGroup
	watching.Go(func() { x.endWithKey(ctx, cancel, client, stream, t) })
	return func() {
		cancel()
		watching.Wait() // it looks keys up, for which the lease is needed
		stream.End()
		opened.Close()
	}, nil
}

// endWithKey cancels a stream once its key is refused, after a change of the
// key or at its expiry, or when its server has other rules, or the gateway stops.
func (x *exchange) endWithKey(ctx context.Context, cancel context.CancelFunc, client netip.Addr, stream *engine.Stream, t *gate.Ticket) {
	defer cancel()
	for key := x.key; ; {
		if x.h.rt.RulesOf(x.h.Server) != x.h.rules {
			return // the config was replaced by one with other rules: its client is to ask again
		}
		var expiry <-chan time.Time
		if !key.ExpiresAt.IsZero() {
			expiry = time.After(clock.Until(key.ExpiresAt))
		}
		select {
		case <-ctx.Done():
			return
		case <-stream.Closing:
			return
		case <-stream.Changed:
		case <-expiry:
		}
		var refusal *gate.Refusal
		if key, refusal = x.h.gate.CheckStream(ctx, client, x.key.Digest, t); refusal != nil {
			return
		}
	}
}

// forward sends a request on that costs nothing.
func (x *exchange) forward(w relay, r *http.Request) error {
	failure := x.run(w, r)
	if failure == nil {
		w.Finish()
	}
	if failure == nil && (w.Withheld() || !w.SentHead()) {
		failure = &gate.Refusal{Code: gate.UpstreamFailed, Cause: errors.New("it answered in a protocol that cannot be let through")}
	}
	switch {
	case failure == nil:
	case w.SentHead():
		x.logEnded(r.Context(), failure)
		panic(http.ErrAbortHandler) // cut the connection: what is out cannot be ended well
	default:
		x.refuse(failure)
	}
	return nil
}
