package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// receiptData is the data of receipt.html.
type receiptData struct {
	Text    string          // as the person has pasted it
	Receipt *ledger.Receipt // nil before a check
	Key     string          // id of the key that has signed it
}

func (v *visit) receiptPage() error {
	return v.show("receipt", "charges", "Check a receipt", receiptData{})
}

// checkReceipt verifies a receipt with the public keys of this installation, and shows
// its content. Everyone with these keys can do the same, so the page reveals nothing
// that is not in the receipt.
func (v *visit) checkReceipt() error {
	text := strings.TrimSpace(v.r.PostForm.Get("receipt"))
	set, err := perform[json.RawMessage](v, identity.View, http.MethodGet, "receipt-keys", nil, nil)
	if err != nil {
		return err
	}
	keys, _, err := ledger.ParseReceiptKeys(*set)
	if err != nil {
		return err
	}
	receipt, id, err := keys.Verify(text)
	switch {
	case errors.Is(err, ledger.ErrReceipt):
		return &inField{&failure{http.StatusBadRequest, "This is not a receipt of this gateway", sentence(err.Error())}, "receipt"}
	case err != nil:
		return err
	}
	return v.show("receipt", "charges", "Check a receipt", receiptData{text, &receipt, id})
}
