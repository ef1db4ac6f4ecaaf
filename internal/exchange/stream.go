package exchange

import (
	"context"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/share"
)

// watch cancels ctx as soon as the caller is refused, or lacks a scope that the
// ticket needs. It watches until the returned function is called.
func (x *Exchange) watch(ctx context.Context, cancel context.CancelFunc, t *gate.Ticket) (unwatch func(), refusal *gate.Refusal) {
	opened := new(share.Allocation)
	x.site.Shares.Streams.Open(opened, x.holder())
	if err := opened.Take(1); err != nil {
		opened.Close()
		return nil, shareRefusal(err)
	}
	opened.Cuttable(cancel)
	stream := x.caller.Changed()
	// The watch reports later changes only, so check the caller again now.
	if _, refusal := x.caller.AgainFor(ctx, t); refusal != nil {
		stream.End()
		opened.Close()
		return nil, refusal
	}
	var watching sync.WaitGroup
	watching.Go(func() { x.endWithCaller(ctx, cancel, stream, t) })
	return func() {
		cancel()
		watching.Wait() // wait, because endWithCaller looks keys up and needs a running engine
		stream.End()
		opened.Close()
	}, nil
}

// endWithCaller cancels a stream when its caller is refused, when its server has
// other rules, or when the gateway stops. It checks the caller after each change, at the
// caller's expiry, and when the caller has to be checked again.
func (x *Exchange) endWithCaller(ctx context.Context, cancel context.CancelFunc, stream gate.Watch, t *gate.Ticket) {
	defer cancel()
	for caller := x.caller; ; {
		if x.site.Engine.RulesOf(x.site.Server) != x.site.Rules {
			return // a new config has other rules: the client must ask again
		}
		var expiry, stale <-chan time.Time
		if !caller.ExpiresAt.IsZero() {
			expiry = time.After(clock.Until(caller.ExpiresAt))
		}
		if !caller.FreshUntil.IsZero() {
			stale = time.After(clock.Until(caller.FreshUntil))
		}
		select {
		case <-ctx.Done():
			return
		case <-stream.Closing:
			return
		case <-stream.Changed:
		case <-expiry:
		case <-stale:
		}
		var refusal *gate.Refusal
		if caller, refusal = caller.AgainFor(ctx, t); refusal != nil {
			return
		}
	}
}

// notifies reports whether the caller may receive a notification that is meant for
// some callers only. It checks the caller again, because a stream lives long.
func (x *Exchange) notifies(message []byte) bool {
	ctx := x.r.Context()
	caller, refusal := x.caller.Again(ctx)
	return refusal == nil && x.site.Gate.Notifies(ctx, &caller, message)
}
