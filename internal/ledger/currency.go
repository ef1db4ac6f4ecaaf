package ledger

import "fmt"

// CurrencyError says that a store's currency differs from the configured one.
type CurrencyError struct {
	Stored, Configured string // ISO 4217 codes
}

func (e *CurrencyError) Error() string {
	return fmt.Sprintf("the store keeps its amounts in %s, and the config says currency %s, which would turn every balance into %[2]s: "+
		"write \"currency %[1]s\", or name a new store; docs/money.md tells how to convert", e.Stored, e.Configured)
}

// CheckCurrency returns a *CurrencyError if a store's currency is not the
// configured one.
func CheckCurrency(stored, configured string) error {
	if stored != configured {
		return &CurrencyError{Stored: stored, Configured: configured}
	}
	return nil
}
