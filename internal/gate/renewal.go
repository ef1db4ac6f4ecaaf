package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// startRenewal keeps the reservation alive for as long as the call lives: a
// tool may work for longer than ledger.ReservationLife.
func (c *Call) startRenewal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(ledger.ReservationLife/2, c.renew)
}

// renew runs on the timer's goroutine.
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
