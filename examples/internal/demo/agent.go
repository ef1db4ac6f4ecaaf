package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// This is the call that the demonstrations make: the weather server's cheapest paid
// tool.
const (
	PaidTool = "get_forecast"
	PaidArgs = `{"city":"Oslo"}`
)

// The names of Farebox's entries in the _meta of a paid result.
const (
	metaReceipt = "dev.farebox/receipt"
	metaCharge  = "dev.farebox/charge"
)

// servedBy is the response header in which a balancer may name the gateway that
// served the request.
const servedBy = "X-Served-By"

// Charge is the charge in the _meta of a paid result.
type Charge struct {
	ID       string `json:"id"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Balance  string `json:"balance"`
}

// PaidCall is the outcome of a paid call.
type PaidCall struct {
	Result  string
	Charge  Charge
	Receipt string // a compact JWS
	Node    string // the gateway that served the call, if a balancer names it
}

// Agent is an ordinary MCP client that sends a bearer token.
type Agent struct {
	session *mcp.ClientSession
	bearer  *bearer
}

// Connect connects an agent to the MCP server at the endpoint. The caller must Close
// the agent.
func Connect(ctx context.Context, endpoint, secret string) (*Agent, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-demo", Version: "1.0.0"}, nil)
	a := &Agent{bearer: &bearer{secret: secret}}
	var err error
	a.session, err = client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             endpoint,
		HTTPClient:           &http.Client{Transport: a.bearer},
		DisableStandaloneSSE: true,
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("connect through the gateway: %w", err)
	}
	return a, nil
}

// Close ends the agent's session.
func (a *Agent) Close() error { return a.session.Close() }

// Call makes the paid call. It returns an error if the result was not charged.
func (a *Agent) Call(ctx context.Context) (*PaidCall, error) {
	result, err := a.session.CallTool(ctx, &mcp.CallToolParams{Name: PaidTool, Arguments: json.RawMessage(PaidArgs)})
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", PaidTool, err)
	}
	text := textOf(result)
	if result.IsError {
		return nil, fmt.Errorf("call %s: %s", PaidTool, text)
	}
	call, err := readMeta(text, result.Meta)
	if err == nil {
		call.Node, _ = a.bearer.node.Load().(string)
	}
	return call, err
}

// CallPaidTool connects an agent, makes the paid call once, and closes the agent.
func CallPaidTool(ctx context.Context, endpoint, secret string) (*PaidCall, error) {
	agent, err := Connect(ctx, endpoint, secret)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	return agent.Call(ctx)
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

// readMeta returns a PaidCall that has the text, and the charge and the receipt from
// meta.
func readMeta(text string, meta mcp.Meta) (*PaidCall, error) {
	call := &PaidCall{Result: text}
	raw, err := json.Marshal(meta[metaCharge])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &call.Charge); err != nil {
		return nil, fmt.Errorf("%s in the result: %w", metaCharge, err)
	}
	call.Receipt, _ = meta[metaReceipt].(string)
	if call.Charge.ID == "" || call.Receipt == "" {
		return nil, errors.New("the result has no charge or no receipt: was it paid for?")
	}
	return call, nil
}

// bearer is an http.RoundTripper that sends the secret with each request, and keeps
// the X-Served-By header of the last response. It is for an agent that makes one
// call at a time.
type bearer struct {
	secret string
	node   atomic.Value // holds a string
}

// RoundTrip sends a copy of the request with the secret in its Authorization header.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.secret)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		b.node.Store(resp.Header.Get(servedBy))
	}
	return resp, err
}

// Refusal requests the list of tools with a key that must be refused, and returns
// the message of the refusal. It returns an error if the key is accepted.
func Refusal(ctx context.Context, endpoint, secret string) (string, error) {
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(list))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := (&http.Client{Transport: &bearer{secret: secret}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("the deleted key got %s; want it to be refused", resp.Status)
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("the refusal cannot be read: %w", err)
	}
	return resp.Status + ": " + answer.Error.Message, nil
}
