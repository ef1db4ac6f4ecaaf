package offer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

const (
	sessionVersion   = "2025-11-25"
	statelessVersion = "2026-07-28"
	methodNotFound   = -32601
)

// client sends requests to one server, one at a time.
type client struct {
	transport http.RoundTripper
	url       string
	header    http.Header
	session   string
	version   string // protocol version for requests; "" until it is known
	stateless bool
	id        int
}

// statusError is the error for an HTTP status that suggests that the path has no MCP
// server.
type statusError struct{ status int }

func (e *statusError) Error() string {
	switch e.status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout: // these statuses come from a proxy that does not reach the server
		return fmt.Sprintf("the proxy before it got no answer, and says %d: is the server up, and at that address?", e.status)
	}
	return fmt.Sprintf("it answered with status %d", e.status)
}

// rpcError is a JSON-RPC error that the server has returned.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("it answered with the error %d, %q", e.Code, e.Message)
}

var errNoAnswer = errors.New("it gave no answer of MCP")

// open begins a session and returns the server's capabilities. If the server refuses
// initialize, it is assumed to have no sessions. Its capabilities are then unknown, and
// open returns nil.
func (c *client) open(ctx context.Context, offer *Offer) (capabilities map[string]json.RawMessage, err error) {
	who := map[string]string{"name": "farebox", "version": "1"}
	raw, err := c.call(ctx, "initialize", map[string]any{"protocolVersion": sessionVersion, "capabilities": map[string]any{}, "clientInfo": who})
	var refused *rpcError
	if errors.As(err, &refused) {
		c.stateless, c.version = true, statelessVersion
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var begun struct {
		ProtocolVersion string                     `json:"protocolVersion"`
		Capabilities    map[string]json.RawMessage `json:"capabilities"`
		ServerInfo      struct{ Name, Version string }
	}
	if err := json.Unmarshal(raw, &begun); err != nil || begun.Capabilities == nil {
		return nil, errNoAnswer
	}
	offer.Name, offer.Version = begun.ServerInfo.Name, begun.ServerInfo.Version
	c.version = begun.ProtocolVersion
	resp, err := c.send(ctx, http.MethodPost, map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"}, "")
	if err != nil {
		return nil, err
	}
	return begun.Capabilities, resp.Body.Close()
}

// end ends the session, if there is one. It ignores the server's response.
func (c *client) end(ctx context.Context) {
	if c.session == "" {
		return
	}
	if resp, err := c.send(ctx, http.MethodDelete, nil, ""); err == nil {
		_ = resp.Body.Close()
	}
}

// call sends a request and returns its result.
func (c *client) call(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	c.id++
	if c.stateless {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    statelessVersion,
			"io.modelcontextprotocol/clientInfo":         map[string]string{"name": "farebox", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
	}
	resp, err := c.send(ctx, http.MethodPost, map[string]any{"jsonrpc": "2.0", "id": c.id, "method": method, "params": params}, method)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		c.session = id
	}
	answer, err := c.answer(resp)
	switch {
	case err != nil && resp.StatusCode >= 400:
		return nil, &statusError{resp.StatusCode}
	case err != nil:
		return nil, err
	case answer.Error != nil:
		return nil, answer.Error
	}
	return answer.Result, nil
}

func (c *client) send(ctx context.Context, method string, message any, mcpMethod string) (*http.Response, error) {
	var body io.Reader
	if message != nil {
		text, err := json.Marshal(message)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url, body)
	if err != nil {
		return nil, err
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	if message != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Accept-Encoding", "identity")
	if c.version != "" {
		r.Header.Set("Mcp-Protocol-Version", c.version)
	}
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	if c.stateless && mcpMethod != "" {
		r.Header.Set("Mcp-Method", mcpMethod)
	}
	return c.transport.RoundTrip(r)
}

// message is a JSON-RPC response.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// answer reads the response to the client's last request, either from a JSON body or
// from an event stream.
func (c *client) answer(resp *http.Response) (*message, error) {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	limited := io.LimitReader(resp.Body, maxAnswer)
	if media != "text/event-stream" {
		text, err := io.ReadAll(limited)
		if err != nil {
			return nil, err
		}
		if m := c.ours(text); m != nil {
			return m, nil
		}
		return nil, errNoAnswer
	}
	lines := bufio.NewReader(limited)
	var data []byte
	for {
		line, err := lines.ReadBytes('\n')
		text := bytes.TrimRight(line, "\r\n")
		if after, ok := bytes.CutPrefix(text, []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(after, []byte(" "))...), '\n')
		}
		if len(text) == 0 || err != nil {
			if m := c.ours(data); m != nil {
				return m, nil
			}
			data = nil
		}
		if err != nil {
			return nil, errNoAnswer
		}
	}
}

// ours decodes a message. It returns nil if the message is not the response to the
// client's last request.
func (c *client) ours(text []byte) *message {
	var m message
	if json.Unmarshal(text, &m) != nil || m.Method != "" || m.Result == nil && m.Error == nil {
		return nil
	}
	if string(m.ID) != fmt.Sprint(c.id) && m.Error == nil { // an error may lack the id, if the server could not parse the request
		return nil
	}
	return &m
}

// unmarshal decodes JSON without losing digits of numbers.
func unmarshal(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}
