package admin

import "github.com/fareboxhq/farebox/internal/ledger"

// WithReceiptKeys sets the public keys that verify receipts, and returns the service.
// Call it before the service is used.
func (s *Service) WithReceiptKeys(keys ledger.ReceiptKeys) *Service {
	s.receiptKeys = keys
	return s
}

// ReceiptKeys returns the public keys that verify receipts, oldest first.
func (s *Service) ReceiptKeys() (ledger.ReceiptKeys, error) {
	if len(s.receiptKeys) == 0 {
		return nil, refuse(Unavailable, "no receipt keys are known here: ask the running server")
	}
	return s.receiptKeys, nil
}
