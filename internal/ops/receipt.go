package ops

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

func receiptOps() []Op[*admin.Service] { return []Op[*admin.Service]{ListReceiptKeys} }

// ListReceiptKeys lists the public keys that verify receipts.
var ListReceiptKeys = Define(Operation{
	ID: "receipt.keys", Method: http.MethodGet, Path: "/receipt-keys", Needs: identity.View, Tag: "receipts",
	Summary: "List the public keys that verify receipts, oldest first", Description: "The response is a JWK set (RFC 7517).", Command: "receipt keys",
}, func(_ context.Context, s *admin.Service, _ *identity.Principal, _ *None) (json.RawMessage, error) {
	set, err := s.ReceiptKeys()
	if err != nil {
		return nil, err
	}
	return json.Marshal(set)
})
