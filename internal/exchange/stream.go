package exchange

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/share"
)

// watch cancels ctx once the key is refused, or lacks a scope that the ticket
// needs, until the returned function is called.
func (x *Exchange) watch(ctx context.Context, cancel context.CancelFunc, t *gate.Ticket) (unwatch func(), refusal *gate.Refusal) {
	opened := new(share.Allocation)
	x.site.Shares.Streams.Open(opened, x.holder())
	if err := opened.Take(1); err != nil {
		opened.Close()
		return nil, shareRefusal(err)
	}
	opened.Cuttable(cancel)
	stream := x.site.Engine.Watch(x.key.Digest)
	client := x.client()
	// The watch reports later changes only, so check the key once more.
	if _, refusal := x.site.Gate.CheckStream(ctx, client, x.key.Digest, t); refusal != nil {
		stream.End()
		opened.Close()
		return nil, refusal
	}
	var watching sync.WaitGroup
	watching.Go(func() { x.endWithKey(ctx, cancel, client, stream, t) })
	return func() {
		cancel()
		watching.Wait() // it looks keys up, which needs a running engine
		stream.End()
		opened.Close()
	}, nil
}

// endWithKey cancels a stream once its key is refused, after a change of the key
// or at its expiry, when its server has other rules, or when the gateway stops.
func (x *Exchange) endWithKey(ctx context.Context, cancel context.CancelFunc, client netip.Addr, stream Watch, t *gate.Ticket) {
	defer cancel()
	for key := x.key; ; {
		if x.site.Engine.RulesOf(x.site.Server) != x.site.Rules {
			return // a new config has other rules: the client must ask again
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
		if key, refusal = x.site.Gate.CheckStream(ctx, client, x.key.Digest, t); refusal != nil {
			return
		}
	}
}

// notifies reports whether the caller may receive a notification that only some
// callers may. Streams live long, so it looks the key up again.
func (x *Exchange) notifies(message []byte) bool {
	ctx := x.r.Context()
	key, refusal := x.site.Gate.Check(ctx, x.client(), x.key.Digest)
	return refusal == nil && x.site.Gate.Notifies(ctx, key, message)
}
