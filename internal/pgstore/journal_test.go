//go:build unix

package pgstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// listed reads the whole journal in pages and returns the ids.
func listed(t *testing.T, s *Store, size int) (ids []string) {
	t.Helper()
	for p := (ledger.Page{Limit: size}); ; {
		list, next, err := s.Journal(context.Background(), p)
		if err != nil {
			t.Error(err)
			return ids
		}
		for _, x := range list {
			ids = append(ids, x.ID)
		}
		if p.After = next; next == "" {
			return ids
		}
	}
}

// TestJournalMissesNothing lists the journal while three nodes charge. It checks that
// each listing has every transaction up to its last transaction, although transactions
// do not commit in the order of their numbers.
func TestJournalMissesNothing(t *testing.T) {
	long(t)
	stores, _ := nodes(t, 3)
	payee := account(t, stores[0], "payee", 0)
	var orders []ledger.Order
	for i := range 12 {
		orders = append(orders, order(account(t, stores[0], fmt.Sprint("payer", i), 1000), payee, 1))
	}
	var done atomic.Bool
	var lists [][]string
	var reader sync.WaitGroup
	reader.Go(func() {
		for !done.Load() {
			lists = append(lists, listed(t, stores[0], 5))
		}
	})
	together(24, func(i int) {
		for range 10 {
			if err := reserveAndCapture(stores[i%3], orders[i%12]); err != nil {
				t.Error(err)
			}
		}
	})
	done.Store(true)
	reader.Wait()
	all := listed(t, stores[1], 0)
	if len(all) != 12+240 {
		t.Fatalf("%d transactions", len(all))
	}
	for i, ids := range lists {
		if !slices.Equal(ids, all[:len(ids)]) {
			t.Fatalf("listing %d of %d, of %d transactions, is not the beginning of the journal", i, len(lists), len(ids))
		}
	}
}
