package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// payee is a fake ledger with some captured charges. While p.down is true, the ledger
// is unavailable.
type payee struct {
	gate.Ledger
	mu      sync.Mutex
	down    bool
	charges map[string]bool  // whether each captured charge was refunded
	held    map[string]bool  // charges that are only reserved
	refuses map[string]error // the error with which a refund is refused, by charge
	posts   []string
	asked   int
}

func (p *payee) Release(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	_, captured := p.charges[id]
	switch {
	case p.down:
		return fmt.Errorf("the test: %w", ledger.ErrUnavailable)
	case captured:
		return ledger.ErrSettled
	case p.held[id]:
		return nil
	}
	return ledger.ErrNotFound
}

func (p *payee) PostTransaction(_ context.Context, t ledger.Transaction, _ ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refunded, captured := p.charges[t.Charge]
	switch {
	case p.down:
		return t, ledger.Balance{}, fmt.Errorf("the test: %w", ledger.ErrUnavailable)
	case p.refuses[t.Charge] != nil:
		return t, ledger.Balance{}, p.refuses[t.Charge]
	case !captured:
		return t, ledger.Balance{}, ledger.ErrNotFound
	case refunded:
		return t, ledger.Balance{}, ledger.ErrSettled
	}
	p.charges[t.Charge] = true
	p.posts = append(p.posts, t.ID)
	return t, ledger.Balance{}, nil
}

// posted returns the sorted ids of the refunds that were made.
func (p *payee) posted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.posts))
}

// questions returns the number of calls of Release.
func (p *payee) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *payee) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func debtOf(n int) gate.Debt {
	return gate.Debt{Charge: fmt.Sprintf("chg_%d", n), Refund: fmt.Sprintf("txn_%d", n), At: clock.Now()}
}

// debtsIn returns the names of the files of debts in a directory.
func debtsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestDebtsOutliveTheProcess checks promise 2 of docs/promises.md for a refund that
// falls due while the store is down. The refund is made exactly once, when the store is
// back. This holds even if the process that owed the refund has died.
func TestDebtsOutliveTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, log := filepath.Join(t.TempDir(), "refunds"), slog.New(slog.DiscardHandler)
		store := &payee{down: true, charges: map[string]bool{"chg_1": false, "chg_2": false, "chg_3": true}, held: map[string]bool{"chg_4": true}}
		first := newDebts(dir, "", store, func(string, ledger.Amount, bool) {}, log)
		for n := range 4 {
			first.Owe(debtOf(n + 1))
		}
		synctest.Wait()
		if first.Owed() != 4 || len(store.posted()) > 0 {
			t.Fatalf("%d are owed, posted %v", first.Owed(), store.posted())
		}
		first.close() // like a killed process, since close writes nothing
		info, err := os.Stat(filepath.Join(dir, "chg_1.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the debt's file: %v, %v", info, err)
		}
		second := newDebts(dir, "", store, func(string, ledger.Amount, bool) {}, log)
		defer second.close()
		time.Sleep(10 * time.Minute)
		store.set(false)
		time.Sleep(2 * maxPause)
		if second.Owed() != 0 || !slices.Equal(store.posted(), []string{"txn_1", "txn_2"}) {
			t.Errorf("%d are owed, posted %v", second.Owed(), store.posted())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

// TestDebtsSpareADownStore checks that an unavailable store is asked rarely, and for
// only one of many debts. Debts therefore do not make an outage worse. The store is
// still asked often enough that its return is noticed within downPause.
func TestDebtsSpareADownStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &payee{down: true, charges: map[string]bool{}}
		d := newDebts(filepath.Join(t.TempDir(), "refunds"), "", store, func(string, ledger.Amount, bool) {}, slog.New(slog.DiscardHandler))
		defer d.close()
		for n := range 100 {
			d.Owe(debtOf(n))
		}
		time.Sleep(time.Hour)
		if n, most := store.questions(), int(time.Hour/downPause)+10; n > most {
			t.Errorf("it was asked %d times in an hour, at most %d are allowed", n, most)
		}
		store.mu.Lock()
		for n := range 100 {
			store.charges[fmt.Sprintf("chg_%d", n)] = false
		}
		store.mu.Unlock()
		store.set(false)
		time.Sleep(downPause)
		if d.Owed() != 0 {
			t.Errorf("%d are owed %v after the store's return", d.Owed(), downPause)
		}
	})
}

// TestDebtOfNoChargeEnds checks a debt with a charge that the store does not know.
// The debt is kept while the charge may still be captured, and then dropped. It does
// not count as owed, since nobody has paid for the call.
func TestDebtOfNoChargeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &payee{charges: map[string]bool{}}
		d := newDebts(filepath.Join(t.TempDir(), "refunds"), "", store, func(string, ledger.Amount, bool) {}, slog.New(slog.DiscardHandler))
		defer d.close()
		d.Owe(debtOf(1))
		d.Owe(debtOf(2))
		time.Sleep(notCharged / 2)
		if d.Owed() != 0 {
			t.Errorf("%d are owed while the store knows no charge", d.Owed())
		}
		store.mu.Lock()
		store.charges["chg_1"] = false // the first charge is captured after all
		store.mu.Unlock()
		time.Sleep(2 * maxPause)
		if left := debtsIn(t, d.dir); d.Owed() != 0 || len(store.posted()) != 1 || len(left) != 1 {
			t.Errorf("%d are owed, posted %v, noted %v", d.Owed(), store.posted(), left)
		}
		time.Sleep(notCharged)
		if left := debtsIn(t, d.dir); len(left) != 0 {
			t.Errorf("noted: %v", left)
		}
	})
}

// TestDebtWithoutADisk checks that a debt that cannot be written to disk is kept in
// memory, and is paid all the same.
func TestDebtWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "refunds")
		if err := os.WriteFile(file, nil, 0o600); err != nil { // so that the directory cannot be created
			t.Fatal(err)
		}
		store := &payee{down: true, charges: map[string]bool{"chg_1": false}}
		d := newDebts(file, "", store, func(string, ledger.Amount, bool) {}, slog.New(slog.DiscardHandler))
		defer d.close()
		d.Owe(debtOf(1))
		store.set(false)
		time.Sleep(2 * maxPause)
		if d.Owed() != 0 || len(store.posted()) != 1 {
			t.Errorf("%d are owed, posted %v", d.Owed(), store.posted())
		}
	})
}

// TestDebtsThatAreRefusedStay checks that a debt is never dropped because of its age
// if the store refuses the refund. The store refuses it for an archived charge, and
// for a captured charge that only the platform's operator may still refund. Such
// debts do not block others, and end when the operator has refunded the charge.
func TestDebtsThatAreRefusedStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &payee{
			charges: map[string]bool{"chg_2": false, "chg_3": false},
			refuses: map[string]error{
				"chg_1": &ledger.ArchivedError{ID: "chg_1", Cause: ledger.ErrNotFound},
				"chg_2": ledger.ErrNotFound,
			},
		}
		d := newDebts(filepath.Join(t.TempDir(), "refunds"), "", store, func(string, ledger.Amount, bool) {}, slog.New(slog.DiscardHandler))
		defer d.close()
		for n := range 3 {
			d.Owe(debtOf(n + 1))
		}
		time.Sleep(2 * notCharged)
		if d.Owed() != 2 || !slices.Equal(store.posted(), []string{"txn_3"}) {
			t.Errorf("%d are owed, posted %v", d.Owed(), store.posted())
		}
		store.mu.Lock()
		store.charges["chg_4"] = false
		store.mu.Unlock()
		d.Owe(debtOf(4))
		synctest.Wait()
		if d.Owed() != 2 || !slices.Equal(store.posted(), []string{"txn_3", "txn_4"}) {
			t.Errorf("a new debt waits for the refused ones: %d are owed, posted %v", d.Owed(), store.posted())
		}
		store.mu.Lock()
		store.refuses["chg_2"] = ledger.ErrSettled
		store.mu.Unlock()
		time.Sleep(2 * maxPause)
		if d.Owed() != 1 {
			t.Errorf("%d are owed after one was refunded by hand", d.Owed())
		}
	})
}

// TestDebtsOfAnotherKeyStay checks debts that only another gateway can pay. Gateways
// with different keys of one platform may share the directory, and a platform shows
// each key only its own charges. So a debt must not be dropped because another
// gateway's key cannot see its charge.
func TestDebtsOfAnotherKeyStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, log := filepath.Join(t.TempDir(), "refunds"), slog.New(slog.DiscardHandler)
		platform := &payee{down: true, charges: map[string]bool{"chg_1": false}}
		first := newDebts(dir, "key a", platform, func(string, ledger.Amount, bool) {}, log)
		first.Owe(debtOf(1))
		first.close()
		other := newDebts(dir, "key b", &payee{}, func(string, ledger.Amount, bool) {}, log)
		time.Sleep(3 * notCharged)
		if other.Owed() != 1 {
			t.Errorf("%d are owed", other.Owed())
		}
		other.close()
		platform.set(false)
		first = newDebts(dir, "key a", platform, func(string, ledger.Amount, bool) {}, log)
		defer first.close()
		time.Sleep(2 * maxPause)
		if first.Owed() != 0 || !slices.Equal(platform.posted(), []string{"txn_1"}) {
			t.Errorf("%d are owed, posted %v", first.Owed(), platform.posted())
		}
	})
}
