package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bearer is an http.RoundTripper that sends a secret as the bearer token of each
// request.
type Bearer struct {
	Secret string
	Base   http.RoundTripper // sends the requests; nil means http.DefaultTransport
}

// RoundTrip sends a copy of the request with the secret in its Authorization header.
func (b Bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.Secret)
	if b.Base != nil {
		return b.Base.RoundTrip(r)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// Connect opens a session through the gateway with the official Go client. If progress
// is not nil, it is called for each progress notification of all calls.
func (g *Gateway) Connect(t testing.TB, secret string, progress func(*mcp.ProgressNotificationParams)) *mcp.ClientSession {
	t.Helper()
	opts := &mcp.ClientOptions{}
	if progress != nil {
		opts.ProgressNotificationHandler = func(_ context.Context, n *mcp.ProgressNotificationClientRequest) {
			progress(n.Params)
		}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "farebox-test", Version: "1.0.0"}, opts)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   g.Endpoint(),
		HTTPClient: &http.Client{Transport: Bearer{Secret: secret}},
	}, nil)
	if err != nil {
		t.Fatalf("connect through the gateway: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// Text returns the texts of a result, one per line.
func Text(result *mcp.CallToolResult) string {
	var texts []string
	for _, content := range result.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, t.Text)
		}
	}
	return strings.Join(texts, "\n")
}

// Paid is the charge in the _meta of a paid result.
type Paid struct {
	ID          string        `json:"id"`
	Amount      ledger.Amount `json:"amount"`
	Currency    string        `json:"currency"`
	Balance     ledger.Amount `json:"balance"`
	Environment string        `json:"environment"`
	Free        bool          `json:"free"`
}

// Meta is the data that Farebox adds to _meta in answers.
type Meta struct {
	Charge   *Paid  `json:"dev.farebox/charge"`
	Receipt  string `json:"dev.farebox/receipt"`
	Replayed bool   `json:"dev.farebox/replayed"`
	Error    *struct {
		Code         string        `json:"code"`
		Tool         string        `json:"tool"`
		Price        ledger.Amount `json:"price"`
		Cap          *Cap          `json:"cap"`
		RetryAfterMS int64         `json:"retry_after_ms"`
		Scopes       []string      `json:"scopes"`
	} `json:"dev.farebox/error"`
}

// Cap describes the cap that caused a refusal.
type Cap struct {
	Holder string        `json:"holder"`
	Period string        `json:"period"`
	Amount ledger.Amount `json:"amount"`
	Left   ledger.Amount `json:"left"`
	Resets *time.Time    `json:"resets"`
}

// ReadMeta decodes Farebox's entries in the _meta of a result.
func ReadMeta(t testing.TB, meta mcp.Meta) Meta {
	t.Helper()
	raw, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var m Meta
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("_meta %s: %v", raw, err)
	}
	return m
}

// Answer is an HTTP response and the JSON-RPC message in it.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Message
}

// Message is a JSON-RPC response.
type Message struct {
	ID     json.RawMessage `json:"id"`
	Result *struct {
		IsError bool `json:"isError"`
		Meta    Meta `json:"_meta"`
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	} `json:"result"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Meta Meta `json:"_meta"`
		} `json:"data"`
	} `json:"error"`
}

// Code returns the code of Farebox's own error, or "" if the message is not such an
// error.
func (m *Message) Code() string {
	switch {
	case m.Error != nil && m.Error.Data.Meta.Error != nil:
		return m.Error.Data.Meta.Error.Code
	case m.Result != nil && m.Result.Meta.Error != nil:
		return m.Result.Meta.Error.Code
	}
	return ""
}

// Text returns the text that a model reads in the result of a tool, or "".
func (m *Message) Text() string {
	if m.Result == nil || len(m.Result.Content) == 0 {
		return ""
	}
	return m.Result.Content[0].Text
}

// ToolCall returns the body of a tools/call request.
func ToolCall(id int, tool, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, id, tool, arguments)
}

// Post sends a body with an HTTP client. If secret is "", the request has no token.
func (g *Gateway) Post(ctx context.Context, client *http.Client, secret, body string) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	return g.Send(client, secret, req)
}

// Send sends a request and decodes the JSON-RPC message in the response. If secret
// is "", the request has no token.
func (g *Gateway) Send(client *http.Client, secret string, req *http.Request) (*Answer, error) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	answer := &Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		text = lastData(text)
	}
	if err := json.Unmarshal(text, &answer.Message); err != nil {
		return nil, fmt.Errorf("status %d, no JSON-RPC message in %q: %w", resp.StatusCode, answer.Body, err)
	}
	return answer, nil
}

// lastData returns the data of the last event that has data. It requires that each
// message is in one line, as the servers in the tests write it.
func lastData(stream []byte) []byte {
	var data []byte
	for line := range bytes.Lines(stream) {
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok && len(bytes.TrimSpace(rest)) > 0 {
			data = bytes.TrimSpace(rest)
		}
	}
	return data
}
