package sqlitestore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const maxVoidsPerSweep = 500

// Void is a durable Release. For the duration ledger.SettleTime from now on, no
// capture of an order with a settler succeeds under the id, even after a restart. If
// the id is unknown, Void voids it all the same, and returns ledger.ErrNotFound.
// Other errors: ledger.ErrSettled if the id is captured or being captured,
// ErrUnavailable.
func (s *Store) Void(ctx context.Context, id string) error {
	u, err := parseCharge(ctx, id)
	if err != nil {
		return err
	}
	known, err := s.release(u)
	if err != nil {
		return err
	}
	if err := s.voids.void(ctx, s, u); err != nil {
		return err
	}
	if !known {
		return ledger.ErrNotFound
	}
	return nil
}

// voidBatcher collects ids to void while a transaction with earlier ids runs, so
// that the collected ids share the next transaction.
type voidBatcher struct {
	mu   sync.Mutex
	open *voidBatch // the batch that still accepts ids; may be nil
}

// voidBatch has the ids of one transaction.
type voidBatch struct {
	ids     []uuid
	settled []bool // for each id, whether it is captured
	err     error
	done    chan struct{}
}

// void voids the id, or returns ledger.ErrSettled if the id is captured.
func (g *voidBatcher) void(ctx context.Context, s *Store, u uuid) error {
	g.mu.Lock()
	b, first := g.open, false
	if b == nil || len(b.ids) >= maxBatch {
		b, first = &voidBatch{done: make(chan struct{})}, true
		g.open = b
	}
	at := len(b.ids)
	b.ids = append(b.ids, u)
	g.mu.Unlock()
	if first { // this transaction also serves later callers, so this caller's context must not cancel it
		b.err = s.do(context.WithoutCancel(ctx), func(t *tx) error {
			g.close(b)
			return t.writeVoids(b, s.now())
		})
		g.close(b) // close the batch here too, because the writer may not have run the change
		close(b.done)
	}
	<-b.done
	switch {
	case b.err != nil:
		return b.err
	case b.settled[at]:
		return ledger.ErrSettled
	}
	return nil
}

// close stops the batch from accepting ids.
func (g *voidBatcher) close(b *voidBatch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == b {
		g.open = nil
	}
}

// writeVoids voids the ids that are not captured. For each captured id it sets the
// entry in b.settled.
func (t *tx) writeVoids(b *voidBatch, now time.Time) error {
	b.settled = make([]bool, len(b.ids))
	until := micros(now.Add(ledger.SettleTime))
	for i, u := range b.ids {
		switch r, err := t.byID(u); {
		case err == nil:
			b.settled[i] = r.kind == rowCharge
			continue
		case !errors.Is(err, ledger.ErrNotFound):
			return err
		}
		if _, err := t.exec(`INSERT INTO void (id, until) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET until = excluded.until`, u[:], until); err != nil {
			return err
		}
	}
	return nil
}

// voided reports whether a void of the id is in the table void and has not expired.
func (t *tx) voided(u uuid) (bool, error) {
	var until int64
	err := scanRow{t.w.stmts.void.QueryRowContext(background(), u[:])}.Scan(&until)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	return err == nil && t.w.now().Before(fromMicros(until)), err
}

// voidsDue reports whether there are expired voids to delete.
func (w *writer) voidsDue() bool {
	var one int
	return (&tx{w: w}).queryRow(`SELECT 1 FROM void WHERE until <= ? LIMIT 1`, micros(w.now())).Scan(&one) == nil
}

// sweepVoids deletes expired voids.
func (t *tx) sweepVoids() error {
	_, err := t.exec(`DELETE FROM void WHERE id IN (SELECT id FROM void WHERE until <= ? LIMIT ?)`, micros(t.w.now()), maxVoidsPerSweep)
	return err
}
