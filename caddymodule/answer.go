package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// answer is how a code is told to a client. Statuses and forms are chosen so
// that the clients of today survive a refusal and their models can read why:
// never a 404, which they take for a lost session, and always a JSON-RPC body
// with the request's id.
type answer struct {
	status int
	// rpc is the code of the JSON-RPC error: one of JSON-RPC's or MCP's own, or
	// an HTTP status, which lies outside all reserved ranges.
	rpc  int
	text string // unless the refusal brings a reason of its own
	// toolResult makes the answer to tools/call a result with isError, which
	// models read, where a protocol error often never reaches them.
	toolResult bool
	challenge  bool   // with WWW-Authenticate (RFC 6750, 3)
	tokenError string // its error parameter; none if no token was sent
	retryAfter int    // seconds
}

// answers has every code: a test holds it against gate.Codes.
var answers = map[gate.Code]answer{
	gate.TokenMissing:        {status: 401, rpc: 401, text: "Token missing", challenge: true},
	gate.TokenInvalid:        {status: 401, rpc: 401, text: "Invalid agent token", challenge: true, tokenError: "invalid_token"},
	gate.TokenExpired:        {status: 401, rpc: 401, text: "Agent token expired", challenge: true, tokenError: "invalid_token"},
	gate.RateLimited:         {status: 429, rpc: 429, text: "Too many unknown tokens from this address", retryAfter: 1},
	gate.InsufficientBalance: {status: 200, rpc: 402, text: "Insufficient balance", toolResult: true},
	gate.PlatformUnavailable: {status: 503, rpc: 503, text: "The gateway cannot decide about this call now; nothing was charged", retryAfter: 5},
	gate.ChargeFailed:        {status: 503, rpc: 503, text: "The call could not be charged, so its result is withheld", retryAfter: 5},
	gate.ToolUnknown:         {status: 200, rpc: -32602, text: "Unknown tool"},
	gate.MethodUnknown:       {status: 200, rpc: -32601, text: "Method not found"},
	gate.ParamsInvalid:       {status: 400, rpc: -32602, text: "Invalid params"},
	gate.TaskUnsupported:     {status: 200, rpc: -32602, text: "Tasks are not supported here"},
	gate.MessageMalformed:    {status: 400, rpc: -32700, text: "Parse error"},
	gate.MessageInvalid:      {status: 400, rpc: -32600, text: "Invalid request"},
	gate.HeaderMismatch:      {status: 400, rpc: -32020, text: "Header mismatch"},
	gate.EncodingUnsupported: {status: 400, rpc: -32700, text: "The body's encoding is not supported"},
	gate.MessageTooLarge:     {status: 413, rpc: 413, text: "The message is too large"},
	gate.RequestUnsupported:  {status: 400, rpc: -32600, text: "This is no MCP request"},
	gate.MethodNotAllowed:    {status: 405, rpc: 405, text: "MCP uses POST, GET and DELETE"},
	gate.MediaUnsupported:    {status: 415, rpc: 415, text: "The content type must be application/json"},
	gate.OriginForbidden:     {status: 403, rpc: 403, text: "This origin is not allowed"},
	gate.HostForbidden:       {status: 403, rpc: 403, text: "This host is not allowed: on the loopback interface, call the site by a loopback name or give it a name"},
	gate.UpstreamFailed:      {status: 502, rpc: 502, text: "The MCP server gave no usable answer; nothing was charged"},
	gate.UpstreamTimeout:     {status: 504, rpc: 504, text: "The MCP server did not answer in time; nothing was charged"},
	gate.Misconfigured:       {status: 500, rpc: 500, text: "The gateway is misconfigured; see its log"},
}

// errorField is _meta["dev.farebox/error"].
type errorField struct {
	Code      gate.Code      `json:"code"`
	Tool      string         `json:"tool,omitempty"`
	Price     *ledger.Amount `json:"price,omitempty"`
	Available *ledger.Amount `json:"available,omitempty"`
	Currency  string         `json:"currency,omitempty"`
}

// refusalBody returns the JSON-RPC message that tells of a refusal.
func (x *exchange) refusalBody(r *gate.Refusal) []byte {
	a := answers[r.Code]
	field := errorField{Code: r.Code, Tool: r.Tool}
	text := a.text
	if r.Reason != "" {
		text = r.Reason
	}
	switch r.Code {
	case gate.ToolUnknown:
		text += ": " + r.Tool
	case gate.InsufficientBalance:
		field.Price, field.Available, field.Currency = &r.Price, &r.Available, r.Currency
		text = x.poorText(r)
	}
	value, err := json.Marshal(field)
	if err != nil {
		panic(err) // strings and amounts always encode
	}
	meta := []mcp.Field{{Name: "dev.farebox/error", Value: value}}
	if a.toolResult && x.message.Kind == mcp.KindRequest && x.message.Method == "tools/call" {
		return mcp.AppendToolRefusal(nil, x.message.ID, x.era, text, meta)
	}
	return mcp.AppendError(nil, x.message.ID, a.rpc, text, meta)
}

// poorText tells a model what to tell its user.
func (x *exchange) poorText(r *gate.Refusal) string {
	balance := "balance"
	if r.Sandbox {
		balance = "test balance"
	}
	return fmt.Sprintf("The tool %q was not called and nothing was charged: one call costs %s %s, but the %s of account %s has only %s %s available. "+
		"Ask the operator of this gateway to top the account up, then call again; until then every retry will be refused.",
		r.Tool, r.Price, r.Currency, balance, x.key.Account, r.Available, r.Currency)
}

// The bounds of a body that is read for its id alone: of callers that are not
// known, who could hold much more than they send.
const (
	peekLimit = 64 << 10
	peekTime  = 2 * time.Second
)

// refuse answers for the exchange: nothing of a response has been written.
func (x *exchange) refuse(r *gate.Refusal) {
	if x.r.Method == http.MethodPost && x.body == nil && r.Code != gate.MessageTooLarge {
		// Refused before its body was read. Clients find the answer by its id.
		if body, err := x.readBody(peekLimit, peekTime, false); err == nil {
			if message, err := mcp.Decode(body); err == nil {
				x.message = message
			}
		}
	}
	x.count(string(r.Code))
	h := x.w.Header()
	clear(h) // of what an upstream said that failed
	maps.Copy(h, x.base)
	x.head(h)
	x.Refuse(x.w, r)
}

// Refuse writes a whole response; it is what a tap answers with, too.
func (x *exchange) Refuse(w http.ResponseWriter, r *gate.Refusal) {
	x.logRefusal(r)
	a := answers[r.Code]
	body := x.refusalBody(r)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	if a.challenge {
		challenge := `Bearer realm="` + x.h.Server + `"`
		if a.tokenError != "" {
			challenge += `, error="` + a.tokenError + `"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", allowedMethods)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // the client has left: there is nobody to tell
}

// Event returns a refusal as a server-sent event, for a stream whose head is
// out.
func (x *exchange) Event(r *gate.Refusal) []byte {
	x.logRefusal(r)
	event := append([]byte("event: message\ndata: "), x.refusalBody(r)...)
	return append(event, '\n', '\n')
}

// logRefusal tells the operator what clients are not told. What is the
// gateway's or the server's fault is an error of its own.
func (x *exchange) logRefusal(r *gate.Refusal) {
	x.log(zap.String("farebox_refused", string(r.Code)))
	if r.Cause != nil {
		x.log(zap.String("farebox_cause", r.Cause.Error()))
	}
	ours := []gate.Code{gate.PlatformUnavailable, gate.ChargeFailed, gate.Misconfigured, gate.UpstreamFailed, gate.UpstreamTimeout}
	if slices.Contains(ours, r.Code) {
		x.h.logger.Error("a call failed", "server", x.h.Server, "code", r.Code, "tool", r.Tool, "error", r.Cause)
	}
}

const (
	allowedMethods = "POST, GET, DELETE, OPTIONS"
	allowedHeaders = "Authorization, Content-Type, Accept, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID, Idempotency-Key"
	exposedHeaders = "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Retry-After"
)

// head lets the page that was let in read the response. What the upstream says
// of other origins is not for it to say.
func (x *exchange) head(h http.Header) {
	h.Del("Access-Control-Allow-Credentials")
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Expose-Headers")
	if x.origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", x.origin)
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
	h.Add("Vary", "Origin")
}

// preflight answers a browser's question before a request of a page (CORS). It
// carries no credentials, and never reaches the server.
func (x *exchange) preflight() {
	h := x.w.Header()
	x.head(h)
	h.Set("Allow", allowedMethods)
	if x.origin != "" {
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", allowedHeaders)
		h.Set("Access-Control-Max-Age", "600")
	}
	x.count("allowed")
	x.w.WriteHeader(http.StatusNoContent)
}
