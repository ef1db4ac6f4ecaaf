package storetest

import (
	"errors"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// runCurrency checks that a store keeps its first currency. A config with another
// currency is refused, also after a restart, so that no balance silently changes its
// meaning.
func runCurrency(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open, named{"kept", func(t *test) {
		use := func(code string) error { return t.Store.UseCurrency(t.ctx, code) }
		if err := errors.Join(use("USD"), use("USD")); err != nil {
			t.Fatalf("the first currency, twice: %v", err)
		}
		for _, when := range []string{"at once", "after a crash"} {
			var other *ledger.CurrencyError
			if err := use("JPY"); !errors.As(err, &other) || other.Stored != "USD" || other.Configured != "JPY" {
				t.Errorf("another currency, %s: %v", when, err)
			}
			t.Store = t.Crash()
		}
		if err := use("USD"); err != nil {
			t.Errorf("the same currency after a crash: %v", err)
		}
	}})
}
