package gate

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"

	"github.com/fareboxhq/farebox/internal/clock"
)

// clockwork is a Ledger that records renewals. It replaces a store because a
// store's goroutines do not run on a synctest clock.
type clockwork struct {
	Ledger
	renewed []time.Time
}

func (c *clockwork) Reserve(context.Context, string, ledger.Order, ledger.Terms) (ledger.Reservation, error) {
	return ledger.Reservation{}, nil
}

func (c *clockwork) Renew(context.Context, string) error {
	c.renewed = append(c.renewed, clock.Now())
	return nil
}

func (c *clockwork) Release(context.Context, string) error { return nil }

// TestRenewal checks that a reservation is renewed in time while its call lives,
// but not beyond max_call and not after the call has ended.
func TestRenewal(t *testing.T) {
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "slow", Amount: 1}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mcp.Decode([]byte(toolCall("slow")))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lives   time.Duration
		renewed int
	}{
		"shorter than a life":  {50 * time.Second, 0},
		"three minutes":        {3*time.Minute + time.Second, 3},
		"longer than max_call": {time.Hour, 9},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				books := new(clockwork)
				g := New(Policy{Server: "s", Prices: book, MaxCall: 10 * time.Minute}, Deps{
					Ledger: books, Abandonments: new(leavers), Metrics: new(counts), Logger: slog.New(slog.DiscardHandler),
					Now: clock.Now, NewID: func(p string) string { return p },
				})
				began := clock.Now()
				call, refusal := g.Admit(context.Background(), callerFor(&keys.Key{Kind: keys.Agent}), mcp.EraSession, &m)
				if refusal != nil {
					t.Fatal(refusal)
				}
				time.Sleep(c.lives) // advances the bubble's clock
				synctest.Wait()
				call.Close(context.Background())
				time.Sleep(time.Hour)
				synctest.Wait()
				if len(books.renewed) != c.renewed {
					t.Errorf("renewed %d times, want %d", len(books.renewed), c.renewed)
				}
				last := began
				for _, at := range books.renewed {
					if gap := at.Sub(last); gap >= ledger.ReservationLife {
						t.Errorf("%v between renewals: the reservation was dead", gap)
					}
					last = at
				}
			})
		})
	}
}
