package sqlitestore

import (
	"context"
	"errors"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// CountCalls adds refused and failed calls to the sums of usage. It leaves out calls of
// accounts that do not exist. If only a few counts are passed at a time, CountCalls
// occupies the writer as briefly as SumUsage does.
func (s *Store) CountCalls(ctx context.Context, calls []ledger.CallCount) error {
	list := s.uncharged(calls)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, began, err := s.usageBatch(ctx, func(ctx context.Context, r rollup.Reader, state *rollup.State) (*rollup.Batch, error) {
			return rollup.CallBatch(ctx, r, state, list)
		})
		if err != nil {
			return err
		}
		rows := b.Rows()
		if len(rows) == 0 {
			return nil
		}
		if err := s.do(ctx, func(t *tx) error { return t.sumUsage(b, rows, began) }); !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

// uncharged returns counts of calls with the numbers of their accounts.
func (s *Store) uncharged(calls []ledger.CallCount) []rollup.Transaction {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	list := make([]rollup.Transaction, 0, len(calls))
	for i := range calls {
		c := &calls[i]
		account, err := s.books.find(c.Account)
		provider, missing := s.books.find(c.Provider)
		if err != nil || missing != nil {
			continue
		}
		list = append(list, rollup.CallsOf(c, account.n, provider.n))
	}
	return list
}

// KeyUsage returns the sums of lineages of keys since the beginning of a day; see
// rollup.KeySums.
func (s *Store) KeyUsage(ctx context.Context, lineages []string, since time.Time) (map[string]ledger.UsageSums, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	read, err := s.readers.BeginTx(background(), nil)
	if err != nil {
		return nil, failure(err)
	}
	defer read.Rollback() //nolint:errcheck // the transaction only reads
	return rollup.KeySums(ctx, &usageReader{s, read}, lineages, since)
}
