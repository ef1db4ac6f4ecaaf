package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// startRenewal begins to renew the reservation at intervals, because a tool may
// work for longer than ledger.ReservationLife.
func (c *Call) startRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(ledger.ReservationLife/2, c.renew)
}

// renew renews the reservation a single time and sets the timer for the next
// renewal. Resume calls renew, and so does the timer, on a goroutine of its own.
func (c *Call) renew() {
	if !c.gate.deps.Now().Before(c.deadline) {
		return
	}
	if err := c.gate.deps.Ledger.Renew(context.Background(), c.id); err != nil && !c.resumed {
		c.log(slog.LevelWarn, "a reservation could not be renewed", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Reset(ledger.ReservationLife / 2)
	}
}

func (c *Call) stopRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
