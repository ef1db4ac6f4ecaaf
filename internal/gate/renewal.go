package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/trace"
)

// startRenewal begins to renew the reservation at intervals, because a tool may
// work for longer than ledger.ReservationLife.
func (c *Call) startRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(ledger.ReservationLife/2, c.renew)
}

// renew renews the reservation once and sets the timer for the next renewal. Resume
// calls renew, and so does the timer, on a goroutine of its own.
func (c *Call) renew() {
	if !c.gate.deps.Now().Before(c.deadline) {
		return
	}
	if err := c.prolong(c.parent.Context()); err != nil && !c.resumed {
		c.log(slog.LevelWarn, "a reservation could not be renewed", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Reset(ledger.ReservationLife / 2)
	}
}

// prolong renews the reservation in the ledger.
func (c *Call) prolong(ctx context.Context) error {
	ctx, span := c.span(ctx, trace.Renew)
	err := c.gate.deps.Ledger.Renew(ctx, c.id)
	EndSpan(span, storeRefusal(err))
	return err
}

func (c *Call) stopRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
