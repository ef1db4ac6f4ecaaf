package gate

import (
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// chargeField is _meta["dev.farebox/charge"]: the charge in plain JSON, beside
// the signed receipt.
type chargeField struct {
	ID          string        `json:"id"`
	Amount      ledger.Amount `json:"amount"`
	Currency    string        `json:"currency"`
	Environment string        `json:"environment"`
	Balance     ledger.Amount `json:"balance"`
	Free        bool          `json:"free,omitempty"` // the call was free under a quota
}

// fields returns the charge and its receipt for the response's _meta. It returns
// nil if the operator has turned receipts off.
func (c *Call) fields(balance ledger.Balance) []mcp.Field {
	if !c.gate.policy.Receipts {
		return nil
	}
	receipt := ledger.NewReceipt(c.charge, c.gate.policy.Currency)
	plain, err := json.Marshal(chargeField{
		ID: c.charge.ID, Amount: c.charge.Paid(), Currency: receipt.Currency,
		Environment: receipt.Environment, Balance: balance.Available(), Free: c.charge.Waived,
	})
	jws, signErr := c.gate.deps.Signer.Sign(receipt)
	if err = errors.Join(err, signErr); err != nil {
		c.log(slog.LevelError, "a receipt could not be made", err)
		return nil
	}
	return []mcp.Field{
		{Name: "dev.farebox/charge", Value: plain},
		{Name: "dev.farebox/receipt", Value: []byte(`"` + jws + `"`)}, // base64url and dots need no escapes in JSON
	}
}
