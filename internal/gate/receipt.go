package gate

import (
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
	c.gate.deps.Metrics.Signed()
	receipt := ledger.NewReceipt(c.charge, c.gate.policy.Currency)
	plain := chargeField{
		ID: c.charge.ID, Amount: c.charge.Paid(), Currency: receipt.Currency,
		Environment: receipt.Environment, Balance: balance.Available(), Free: c.charge.Waived,
	}
	jws := append(make([]byte, 0, 1024), '"')
	jws = append(c.gate.deps.Signer.AppendSigned(jws, &receipt), '"') // base64url and dots need no escapes in JSON
	return []mcp.Field{
		{Name: "dev.farebox/charge", Value: plain.append(make([]byte, 0, 192))},
		{Name: "dev.farebox/receipt", Value: jws},
	}
}

// append appends the field as json.Marshal encodes it. No text in the field needs an
// escape, because the gateway itself makes all of them.
func (f *chargeField) append(to []byte) []byte {
	for _, member := range [...]struct{ name, value string }{
		{`{"id":"`, f.ID}, {`","amount":"`, f.Amount.String()}, {`","currency":"`, f.Currency},
		{`","environment":"`, f.Environment}, {`","balance":"`, f.Balance.String()},
	} {
		to = append(append(to, member.name...), member.value...)
	}
	if f.Free {
		return append(to, `","free":true}`...)
	}
	return append(to, `"}`...)
}
