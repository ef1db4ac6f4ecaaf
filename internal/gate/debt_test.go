package gate

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// outage is a Ledger that fails with the given errors.
type outage struct {
	Ledger
	captured, released error // errors of Capture and Release; Capture fails after it has captured
	posts              error
}

func (o *outage) Capture(ctx context.Context, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
	c, p, err := o.Ledger.Capture(ctx, id, answer)
	if err == nil && o.captured != nil {
		return ledger.Charge{}, ledger.Balance{}, o.captured
	}
	return c, p, err
}

func (o *outage) Release(ctx context.Context, id string) error {
	if o.released != nil {
		return o.released
	}
	return o.Ledger.Release(ctx, id)
}

func (o *outage) PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	if o.posts != nil {
		return ledger.Transaction{}, ledger.Balance{}, o.posts
	}
	return o.Ledger.PostTransaction(ctx, t, a)
}

// TestUnmadeRefundsAreOwed checks promise 2 of docs/promises.md. If a response was not
// delivered and its charge was captured or may have been, the charge is refunded, or
// the refund is recorded as owed. No other charge is refunded or recorded.
func TestUnmadeRefundsAreOwed(t *testing.T) {
	down := fmt.Errorf("the disk: %w", ledger.ErrUnavailable)
	for name, c := range map[string]struct {
		ledger  outage
		deliver bool // the capture succeeds, and delivery fails afterwards
		owed    bool
	}{
		"refund fails":                    {outage{posts: down}, true, true},
		"refund is made":                  {outage{}, true, false},
		"capture and release in doubt":    {outage{captured: down, released: down}, false, true},
		"capture in doubt, store unknown": {outage{captured: errors.New("EOF"), released: ledger.ErrNotFound}, false, true},
		"all fail":                        {outage{captured: down, posts: down}, false, true},
		"captured all the same":           {outage{captured: down}, false, false},
		"refused for certain":             {outage{captured: ledger.ErrConflict, released: down}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			o := c.ledger
			o.Ledger, b.deps.Ledger = b.deps.Ledger, &o
			call, refusal := b.call(t, b.key(t, nil), toolCall("cheap"))
			if refusal != nil {
				t.Fatal(refusal)
			}
			_, refusal = call.Settle(t.Context(), mcp.OutcomeResult, []byte(`{}`))
			if (refusal == nil) != c.deliver {
				t.Fatalf("settled: %v", refusal)
			}
			call.Release(t.Context())
			call.Close(t.Context())
			if (len(b.owed) > 0) != c.owed || len(b.owed) > 1 || c.owed && b.owed[0].Charge != call.ID() {
				t.Fatalf("owed %v, want any: %v", b.owed, c.owed)
			}
			// Posting a debt several times must refund it only once.
			o.posts = nil
			for range 2 * len(b.owed) {
				posting, audit := b.owed[0].Posting()
				if _, _, err := o.PostTransaction(t.Context(), posting, audit); err != nil {
					t.Fatal(err)
				}
			}
			if a, err := b.store.Account(t.Context(), b.payer.ID); err == nil && c.owed && a.Live.Posted != 50_000 {
				t.Errorf("the payer has %+v", a.Live)
			}
		})
	}
}
