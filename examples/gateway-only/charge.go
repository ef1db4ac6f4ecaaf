package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/fareboxhq/farebox/examples/internal/demo"
)

// billingTool is a tool for which the server itself makes the charge, through the
// platform's API, and billingPrice is its price.
const (
	billingTool  = "create_invoice"
	billingPrice = "0.10"
)

// postCharge charges the account that the agent's token belongs to. It authenticates
// with a provider key, like a server that accepts agents' tokens and charges the agents
// by itself. A real server would also send an idempotency key derived from the charged
// item, such as an order number, so that it can retry after a broken connection. The
// single call here does not need such a key.
func postCharge(ctx context.Context, platform, providerKey, token string) (*demo.Charge, error) {
	body, err := json.Marshal(map[string]string{"token": token, "server": billing, "tool": billingTool, "amount": billingPrice})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, platform+"/api/v1/charge", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+providerKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("charge: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("charge: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("charge: %s: %s", resp.Status, answer)
	}
	charge := &demo.Charge{}
	if err := json.Unmarshal(answer, charge); err != nil {
		return nil, fmt.Errorf("charge: the answer is not what was expected: %w", err)
	}
	return charge, nil
}
