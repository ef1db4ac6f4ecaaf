package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	paidTool = "get_forecast"
	paidArgs = `{"city":"Oslo"}`
)

// What Farebox puts into the _meta of a result that was paid for.
const (
	metaReceipt = "dev.farebox/receipt"
	metaCharge  = "dev.farebox/charge"
)

// charge is what the result says was paid for it.
type charge struct {
	ID       string `json:"id"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// paidCall is a call as the agent saw it.
type paidCall struct {
	result  string
	charge  charge
	receipt string // a compact JWS
}

// callPaidTool connects as an agent does, with an ordinary MCP client that
// sends a bearer token, and calls the cheapest tool that costs.
func callPaidTool(ctx context.Context, endpoint, secret string) (*paidCall, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-quickstart", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             endpoint,
		HTTPClient:           &http.Client{Transport: bearer(secret)},
		DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("connect through the gateway: %w", err)
	}
	defer session.Close()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: paidTool, Arguments: json.RawMessage(paidArgs)})
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", paidTool, err)
	}
	text := textOf(result)
	if result.IsError {
		return nil, fmt.Errorf("call %s: %s", paidTool, text)
	}
	return readMeta(text, result.Meta)
}

func textOf(result *mcp.CallToolResult) string {
	var texts []string
	for _, content := range result.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, t.Text)
		}
	}
	return strings.Join(texts, "\n")
}

// readMeta finds the charge and the receipt in the result's _meta.
func readMeta(text string, meta mcp.Meta) (*paidCall, error) {
	call := &paidCall{result: text}
	raw, err := json.Marshal(meta[metaCharge])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &call.charge); err != nil {
		return nil, fmt.Errorf("%s in the result: %w", metaCharge, err)
	}
	call.receipt, _ = meta[metaReceipt].(string)
	if call.charge.ID == "" || call.receipt == "" {
		return nil, errors.New("the result has no charge or no receipt: was it paid for?")
	}
	return call, nil
}

// bearer is a transport that sends the secret with each request.
type bearer string

// RoundTrip sends a copy of the request, with the secret added to its header.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
