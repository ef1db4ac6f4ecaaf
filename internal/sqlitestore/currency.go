package sqlitestore

import (
	"context"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// UseCurrency records the given ISO 4217 code as the currency of the store's amounts if
// no currency is recorded yet. It returns a *ledger.CurrencyError if another currency
// is recorded. It may be called at any time.
func (s *Store) UseCurrency(ctx context.Context, code string) error {
	var stored string
	read := func(t *tx) error { return t.queryRow(`SELECT currency FROM meta`).Scan(&stored) }
	if err := s.inspect(ctx, read); err != nil {
		return err
	}
	if stored != "" {
		return ledger.CheckCurrency(stored, code)
	}
	err := s.do(ctx, func(t *tx) error {
		if _, err := t.exec(`UPDATE meta SET currency = ? WHERE currency = ''`, code); err != nil {
			return err
		}
		return read(t)
	})
	if err != nil {
		return err
	}
	return ledger.CheckCurrency(stored, code)
}
