package exchange

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/intercept"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/trace"
)

// tracing is the trace of an exchange, and the facts that only its spans need.
type tracing struct {
	request *trace.Request
	message trace.Span // the span of the whole exchange; zero until beginMessage
	begun   bool       // beginMessage was called

	status      int // the server's last HTTP status; 0 without a response
	refused     gate.Code
	failure     string // the type of the error that the exchange ended with; "" for none
	description string // a fixed text about the failure, or ""
	rpc         string // the code of the JSON-RPC error that was sent; "" for none
	settled     bool   // the server's answer has arrived
}

// traceID returns the id of the request's trace if it is sampled, and "" otherwise.
func (x *Exchange) traceID() string { return trace.ID(x.r.Context()) }

// beginTrace sets x.tracing if the web server traces requests. It also removes keys,
// which the client may have put into the URL, from the web server's span.
func (x *Exchange) beginTrace() {
	request := trace.FromContext(x.r.Context(), x.timing.began)
	if request == nil {
		return
	}
	x.tracing = &tracing{request: request}
	request.Conceal(x.site.Secrets.Conceal)
}

// tracedAuthenticate calls authenticate and records a span for it. At this time, the
// trace of the exchange is not known yet: the message may name the trace, and is read
// later.
func (x *Exchange) tracedAuthenticate() (gate.Caller, *gate.Refusal) {
	if x.tracing == nil {
		return x.authenticate()
	}
	ctx, span := x.tracing.request.Early(x.r.Context(), trace.Authenticate)
	x.r = x.r.WithContext(ctx)
	caller, refusal := x.authenticate()
	if caller.Known() {
		span.Text(trace.KeyAccount, caller.Account)
		span.Text(trace.KeyKey, caller.Subject)
	}
	gate.EndSpan(span, refusal)
	return caller, refusal
}

// beginMessage begins the span of the whole exchange. It is called as soon as the
// message is known, or at the end of an exchange without a known message. Later calls
// do nothing.
func (x *Exchange) beginMessage() {
	if x.tracing == nil || x.tracing.begun {
		return
	}
	x.tracing.begun = true
	ctx, span := x.tracing.request.Message(x.r.Context(), x.message.Meta)
	x.tracing.message = span
	x.r = x.r.WithContext(ctx)
}

// tracedAdmit calls admitMessage and records a span for it.
func (x *Exchange) tracedAdmit(limited *gate.Refusal) *gate.Refusal {
	if x.tracing == nil {
		return x.admitMessage(limited)
	}
	whole := x.r
	ctx, span := trace.Start(whole.Context(), trace.Admit)
	x.r = whole.WithContext(ctx)
	refusal := x.admitMessage(limited)
	x.r = whole
	gate.EndSpan(span, refusal)
	return refusal
}

// outgoing begins the span of a request to the server, and returns the request with the
// trace in its context and its headers.
func (x *Exchange) outgoing(r *http.Request) (*http.Request, trace.Span) {
	if x.tracing == nil {
		return r, trace.Span{}
	}
	ctx, span := x.tracing.request.Outgoing(r.Context(), r.Method, r.Header)
	return r.WithContext(ctx), span
}

// endOutgoing ends the span that x.outgoing has begun. The status is that of the
// response, or 0 without a response.
func (x *Exchange) endOutgoing(span trace.Span, r *http.Request, status int, failure *gate.Refusal) {
	if x.tracing == nil {
		return
	}
	x.tracing.status = status
	if span.Recording() {
		span.Answered(x.host.Dialled(r), status)
	}
	gate.EndSpan(span, failure)
}

// tracedCall is a call that notes its outcome for the trace.
type tracedCall struct {
	intercept.Call
	tracing *tracing
}

// traced wraps a call for an interceptor, so that the outcome of the call is noted in
// the span of the exchange. It returns the call itself if no span is recorded.
func (x *Exchange) traced(c intercept.Call) intercept.Call {
	if x.tracing == nil || !x.tracing.message.Recording() {
		return c
	}
	return &tracedCall{c, x.tracing}
}

// Reads implements intercept.Call. It always returns true, because Settle reads the
// code of a JSON-RPC error from the response.
func (c *tracedCall) Reads() bool { return true }

// Settle notes the outcome of the server's response and settles the call.
func (c *tracedCall) Settle(ctx context.Context, outcome mcp.Outcome, response []byte) ([]mcp.Field, *gate.Refusal) {
	c.tracing.answered(outcome, response)
	return c.Call.Settle(ctx, outcome, response)
}

// The types of errors that have no code. The values follow OpenTelemetry's semantic
// conventions.
const (
	errorTypeTool      = "tool_error"
	errorTypeAbandoned = "abandoned"
	errorTypeOther     = "_OTHER"
)

// answered notes the outcome of the server's response. The response is nil if it is too
// long to hold. If the response is an error, only the error's code is noted, because
// the server chooses the error's text.
func (t *tracing) answered(outcome mcp.Outcome, response []byte) {
	t.settled = true
	switch outcome {
	case mcp.OutcomeToolError:
		t.failure = errorTypeTool
	case mcp.OutcomeError:
		var message struct {
			Error struct {
				Code int `json:"code"`
			} `json:"error"`
		}
		t.failure = errorTypeOther
		if json.Unmarshal(response, &message) == nil {
			t.rpc = strconv.Itoa(message.Error.Code)
			t.failure = t.rpc
		}
	}
}

// refuseTrace notes a refusal that is being written. rpc is the code of the JSON-RPC
// error, or 0 for a tool result.
func (x *Exchange) refuseTrace(r *gate.Refusal, rpc int) {
	t := x.tracing
	if t == nil {
		return
	}
	t.refused, t.failure, t.description = r.Code, errorTypeTool, refusalForms[r.Code].text
	if rpc != 0 {
		t.rpc = strconv.Itoa(rpc)
		t.failure = t.rpc
	}
}

// cutTrace notes that the response was broken off.
func (x *Exchange) cutTrace(failure *gate.Refusal) {
	if x.tracing != nil && x.tracing.failure == "" {
		x.tracing.failure = string(failure.Code)
	}
}

// endTrace describes the exchange in its span, and ends the span.
func (x *Exchange) endTrace() {
	x.beginMessage()
	if x.tracing == nil || !x.tracing.message.Recording() {
		return
	}
	t := x.tracing
	span := t.message
	x.describeMessage(span)
	span.Text(trace.KeyServer, x.site.Server)
	if x.caller.Known() {
		span.Text(trace.KeyAccount, x.caller.Account)
		span.Text(trace.KeyKey, x.caller.Subject)
	}
	span.Text(trace.KeyDecision, x.counted.decision)
	span.Text(trace.KeyRefused, string(t.refused))
	span.Text(trace.KeyCharge, x.chargeID())
	if x.call != nil && x.call.Paid() {
		span.Text(trace.KeyPrice, x.call.Price().String())
	}
	span.Text(trace.KeyStatusCode, t.rpc)
	switch {
	case t.failure != "":
		span.Fail(t.failure, t.description)
	case t.status >= http.StatusBadRequest:
		span.Fail(strconv.Itoa(t.status), "")
	case x.message.Kind == mcp.KindRequest && x.message.Method != mcp.MethodListen && !t.settled && errors.Is(x.r.Context().Err(), context.Canceled):
		span.Fail(errorTypeAbandoned, "")
	}
	span.End()
}

// describeMessage names the span of the exchange, and describes its message by
// OpenTelemetry's semantic conventions for MCP. The span's name contains the requested
// item only if the price book names the item or the call was admitted. Any other
// name of an item is the client's invention.
func (x *Exchange) describeMessage(span trace.Span) {
	m := &x.message
	if x.session != "" {
		sum := id.Hash(x.site.Server, x.session)
		span.Text(trace.KeySession, hex.EncodeToString(sum[:16]))
	}
	span.Text(trace.KeyVersion, x.protocolVersion())
	if m.Kind == mcp.KindRequest {
		span.Text(trace.KeyRequestID, x.concealed(m.ID.Text()))
	}
	switch {
	case m.Kind == mcp.KindResponse:
		span.Rename("response")
		return
	case m.Method == "":
		span.Rename(x.r.Method)
		return
	case !x.knowsMethod() && !x.anyEraKnows():
		span.Rename(x.r.Method)
		span.Text(trace.KeyMethod, "_OTHER")
		return
	}
	span.Text(trace.KeyMethod, m.Method)
	key, target := x.target()
	span.Text(key, target)
	if key == trace.KeyTool {
		span.Text(trace.KeyOperation, "execute_tool")
	}
	entry := ""
	if x.running { // before the engine runs, there is no price book
		entry = x.site.Gate.EntryOf(m)
	}
	span.Text(trace.KeyEntry, entry)
	if target == "" || x.call == nil && entry == "" {
		span.Rename(m.Method)
		return
	}
	span.Rename(m.Method + " " + target)
}

// anyEraKnows reports whether a protocol version has the method of a message that was
// refused before its era was known.
func (x *Exchange) anyEraKnows() bool {
	return x.era == 0 && (mcp.KnownMethod(mcp.EraSession, &x.message) || mcp.KnownMethod(mcp.EraStateless, &x.message))
}

// target returns the name of the tool or the prompt that the message asks for, and the
// attribute for that name. It returns "" for other messages. In particular, it does not
// return the URI of a resource, which may contain arguments.
func (x *Exchange) target() (trace.Key, string) {
	name := x.message.Name
	name = x.concealed(name[:min(len(name), items.MaxName)])
	switch x.message.Method {
	case "tools/call":
		return trace.KeyTool, name
	case "prompts/get":
		return trace.KeyPrompt, strings.TrimPrefix(name, "prompt:") // on a resumed stream the name comes from the charge and has this prefix
	}
	return "", ""
}

// concealed returns a text from the client with all keys concealed.
func (x *Exchange) concealed(text string) string {
	text, _ = x.site.Secrets.Conceal(text)
	return text
}

// protocolVersion returns the protocol version of the request, "" if the request names
// none in the form of a date.
func (x *Exchange) protocolVersion() string {
	version := x.message.ProtocolVersion
	if version == "" {
		version = x.r.Header.Get("Mcp-Protocol-Version")
	}
	if len(version) != len("2006-01-02") || strings.Trim(version, "0123456789-") != "" {
		return ""
	}
	return version
}
