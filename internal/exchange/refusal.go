package exchange

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/share"
)

// refusalForm is the form in which a code reaches a client. Statuses and forms are
// chosen so that today's clients survive a refusal and their models can read the
// reason. The response always has a JSON-RPC body with the request's id. The status is
// 404 only for a lost session or, in MCP 2026-07-28, for an unknown method.
type refusalForm struct {
	status int
	// rpc is the code of the JSON-RPC error. It is either a code that JSON-RPC or MCP
	// defines, or an HTTP status, which lies outside all reserved ranges.
	rpc  int
	text string // text of the refusal, unless the refusal has its own reason
	// toolResult answers a tools/call with a result that has isError. Models read
	// such a result, while a protocol error often never reaches them.
	toolResult bool
	challenge  bool   // the response has WWW-Authenticate (RFC 6750, 3)
	tokenError string // error parameter of the challenge; "" if no token was sent
	retryAfter int    // the wait before a retry, in seconds
	// http, unless 0, replaces status as the HTTP status if the option error_style is
	// "http", or if the client does not wait for a JSON-RPC response.
	http int
}

// refusalForms has every code; a test compares it with gate.Codes.
//
//exhaustive:enforce
var refusalForms = map[gate.Code]refusalForm{
	gate.TokenMissing:         {status: 401, rpc: 401, text: "Token missing", challenge: true, http: 401},
	gate.TokenInvalid:         {status: 401, rpc: 401, text: "Invalid agent token", challenge: true, tokenError: "invalid_token", http: 401},
	gate.TokenExpired:         {status: 401, rpc: 401, text: "Agent token expired", challenge: true, tokenError: "invalid_token", http: 401},
	gate.AccountUnknown:       {status: 403, rpc: 403, text: "This token is valid, but its holder has no account here", http: 403},
	gate.ScopeInsufficient:    {status: 200, rpc: 403, text: "The token lacks a scope", toolResult: true, tokenError: "insufficient_scope", http: 403},
	gate.RateLimited:          {status: 429, rpc: 429, text: "Too many unknown tokens from this address", retryAfter: 1, http: 429},
	gate.InsufficientBalance:  {status: 200, rpc: 402, text: "Insufficient balance", toolResult: true, http: 402},
	gate.SpendingCap:          {status: 200, rpc: 402, text: "A spending cap is reached", toolResult: true, http: 402},
	gate.CallInFlight:         {status: 200, rpc: 409, text: "The first call with this idempotency key is still under way", toolResult: true},
	gate.IdempotencyKeyReused: {status: 200, rpc: 409, text: "This idempotency key was used for another call", toolResult: true},
	gate.ResultGone:           {status: 200, rpc: 410, text: "This call was made and charged before, and its result is not kept", toolResult: true},
	gate.PriceAboveMax:        {status: 200, rpc: 402, text: "The price is above the caller's maximum", toolResult: true, http: 402},
	gate.PriceRefused:         {status: 200, rpc: -32602, text: "The call cannot be priced"},
	gate.StoreUnavailable:     {status: 200, rpc: 503, text: "The gateway cannot decide about this call now; nothing was charged", retryAfter: 5, http: 503},
	gate.ChargeFailed:         {status: 200, rpc: 503, text: "The call could not be charged, so its result is withheld", retryAfter: 5, http: 503},
	gate.ToolUnknown:          {status: 200, rpc: -32602, text: "Unknown tool"},
	gate.MethodUnknown:        {status: 200, rpc: -32601, text: "Method not found"},
	gate.ParamsInvalid:        {status: 200, rpc: -32602, text: "Invalid params", http: 400},
	gate.TaskUnknown:          {status: 200, rpc: -32602, text: "Task not found"},
	gate.StateUnknown:         {status: 200, rpc: -32602, text: "This requestState was not given to this account here: send the request anew, without it"},
	gate.MessageMalformed:     {status: 200, rpc: -32700, text: "Parse error", http: 400},
	gate.MessageInvalid:       {status: 200, rpc: -32600, text: "Invalid request", http: 400},
	gate.HeaderMismatch:       {status: 400, rpc: -32020, text: "Header mismatch"}, // as MCP 2026-07-28 requires
	gate.EncodingUnsupported:  {status: 400, rpc: -32700, text: "The body's encoding is not supported"},
	gate.MessageTooLarge:      {status: 413, rpc: 413, text: "The message is too large"},
	gate.RequestUnsupported:   {status: 400, rpc: -32600, text: "This is no MCP request"},
	gate.MethodNotAllowed:     {status: 405, rpc: 405, text: "MCP uses POST, GET and DELETE"},
	gate.MediaUnsupported:     {status: 415, rpc: 415, text: "The content type must be application/json"},
	gate.OriginForbidden:      {status: 403, rpc: 403, text: "This origin is not allowed"},
	gate.HostForbidden:        {status: 403, rpc: 403, text: "This host is not allowed: on the loopback interface, call the site by a loopback name or give it a name"},
	gate.UpstreamFailed:       {status: 200, rpc: 502, text: "The MCP server gave no usable answer; nothing was charged", http: 502},
	gate.UpstreamTimeout:      {status: 200, rpc: 504, text: "The MCP server did not answer in time; nothing was charged", http: 504},
	gate.SessionUnknown:       {status: 404, rpc: 404, text: "Session not found: begin a new one"},
	gate.Misconfigured:        {status: 200, rpc: 500, text: "The gateway is misconfigured; see its log", http: 500},
}

// keyRateLimited is the form of gate.RateLimited for a known key, which may be used
// again after a wait. The model that uses the key can read this form. The form in
// refusalForms is for floods of unknown tokens.
var keyRateLimited = refusalForm{status: 200, rpc: 429, toolResult: true, http: 429}

// formOf returns the form of a refusal.
func formOf(r *gate.Refusal) refusalForm {
	if r.Code == gate.RateLimited && r.RetryAfter > 0 {
		return keyRateLimited
	}
	return refusalForms[r.Code]
}

// responseForm returns the form of a refusal that is sent as a whole response.
func (x *Exchange) responseForm(r *gate.Refusal) refusalForm {
	f := formOf(r)
	if f.http != 0 && (!x.answerable() || x.stage == mismatched) {
		f.status = f.http
	}
	switch {
	case r.Code == gate.MethodUnknown && x.message.Kind == mcp.KindNotification:
		f.status = http.StatusBadRequest // the notification was not accepted (MCP, streamable HTTP, "Sending Messages")
	case r.Code == gate.MethodUnknown && x.era == mcp.EraStateless:
		// No client of MCP 2026-07-28 can mistake a 404 for a lost session (streamable
		// HTTP).
		f.status = http.StatusNotFound
	}
	if x.site.ErrorStyle == StyleHTTP && f.http != 0 {
		f.status = f.http
		f.challenge = f.challenge || f.tokenError != ""
	}
	if r.Code == gate.ScopeInsufficient && x.answerable() && x.stepsUp() {
		f.status, f.challenge = http.StatusForbidden, true
	}
	if f.status == http.StatusTooManyRequests && r.RetryAfter > 0 {
		f.retryAfter = int(math.Ceil(r.RetryAfter.Seconds()))
	}
	return f
}

// answerable reports whether the client waits for a JSON-RPC message with the
// request's id. Only requests by POST have an id. The id may be known even if the
// message could not be read.
func (x *Exchange) answerable() bool {
	asks := x.message.Kind == mcp.KindRequest || x.message.Kind == 0
	return x.r.Method == http.MethodPost && asks && !x.message.ID.IsZero()
}

// errorField is _meta["dev.farebox/error"].
type errorField struct {
	Code         gate.Code      `json:"code"`
	Tool         string         `json:"tool,omitempty"`
	Price        *ledger.Amount `json:"price,omitempty"`
	Available    *ledger.Amount `json:"available,omitempty"`
	Maximum      *ledger.Amount `json:"maximum,omitempty"`
	Currency     string         `json:"currency,omitempty"`
	Cap          *capField      `json:"cap,omitempty"`
	RetryAfterMS int64          `json:"retry_after_ms,omitempty"`
	Scopes       []string       `json:"scopes,omitempty"` // scopes that the request requires
	Charge       string         `json:"charge,omitempty"` // id of the charge, if the call was charged in spite of the refusal

	// The next four fields name the caller's account and say where to get help. All
	// four are set if credits are missing. If a cap is reached, all but TopUpURL are
	// set. If a scope is missing, only Contact is set.
	Account     string `json:"account,omitempty"`
	AccountName string `json:"account_name,omitempty"`
	Contact     string `json:"contact,omitempty"`
	TopUpURL    string `json:"topup_url,omitempty"`
}

// capField is the cap that prevents a call.
type capField struct {
	Holder ledger.Holder `json:"holder"` // the owner of the cap: key, account or server
	Period ledger.Period `json:"period"`
	Amount ledger.Amount `json:"amount"`
	Left   ledger.Amount `json:"left"`
	Resets *time.Time    `json:"resets,omitempty"` // absent for a cap on single calls
}

func fieldOfCap(c *ledger.CapError) *capField {
	f := &capField{Holder: c.Holder, Period: c.Period, Amount: c.Amount, Left: max(c.Left(), 0)}
	if !c.Resets.IsZero() {
		f.Resets = &c.Resets
	}
	return f
}

// refusalBody returns a refusal as a JSON-RPC message. A refusal that models should
// read is a tool result, unless classic is true: a classic response has an HTTP status
// and a JSON-RPC error.
func (x *Exchange) refusalBody(r *gate.Refusal, classic bool) []byte {
	f := formOf(r)
	field, text := x.describe(r)
	value, err := json.Marshal(field)
	if err != nil {
		panic(err) // cannot happen, because strings and amounts always encode
	}
	meta := []mcp.Field{{Name: "dev.farebox/error", Value: value}}
	if r.Code == gate.ScopeInsufficient && x.stepsUp() {
		meta = append(meta, x.stepUpField(&f, r))
	}
	if f.toolResult && !classic && x.message.Kind == mcp.KindRequest && x.message.Method == "tools/call" {
		x.refuseTrace(r, 0)
		return mcp.AppendToolRefusal(nil, x.message.ID, x.era, text, meta)
	}
	x.refuseTrace(r, f.rpc)
	return mcp.AppendError(nil, x.message.ID, f.rpc, text, meta)
}

// describe returns a refusal's field for _meta and its text.
func (x *Exchange) describe(r *gate.Refusal) (field errorField, text string) {
	field = errorField{Code: r.Code, Tool: r.Tool}
	text = refusalForms[r.Code].text
	switch r.Code {
	case gate.AccountUnknown:
		field.Contact = x.site.Contact
		text += ". Ask " + x.site.contact() + " for an account; until then every retry will be refused."
	case gate.ToolUnknown:
		text += ": " + quoteOddName(r.Tool)
	case gate.InsufficientBalance:
		field.Price, field.Available, field.Currency = &r.Price, &r.Available, r.Currency
		field.Account, field.AccountName = x.account()
		field.Contact, field.TopUpURL = x.site.Contact, x.topUpURL()
		text = x.insufficientBalanceText(r, &field)
	case gate.ScopeInsufficient:
		field.Scopes, field.Contact = r.Scopes, x.site.Contact
		text = x.scopeInsufficientText(r)
	case gate.SpendingCap:
		field.Price, field.Currency, field.Cap = &r.Price, r.Currency, fieldOfCap(r.Cap)
		field.Account, field.AccountName = x.account()
		field.Contact = x.site.Contact
		text = x.spendingCapText(r, accountText(&field))
	case gate.CallInFlight:
		field.RetryAfterMS = r.RetryAfter.Milliseconds()
		text = notCalled(r.Tool) + " again: " + callInFlightText
	case gate.IdempotencyKeyReused:
		text = notCalled(r.Tool) + " and nothing was charged: " + idempotencyKeyReusedText
	case gate.ResultGone:
		text = notCalled(r.Tool) + " again and nothing more was charged: " + resultGoneText
	case gate.PriceAboveMax:
		field.Price, field.Maximum, field.Currency = &r.Price, &r.Maximum, r.Currency
		text = priceAboveMaxText(r)
	case gate.RateLimited:
		if r.RetryAfter > 0 {
			field.RetryAfterMS = int64(math.Ceil(float64(r.RetryAfter) / float64(time.Millisecond)))
			text = x.rateLimitedText(r)
		}
	}
	if wait := formOf(r).retryAfter; wait > 0 && field.RetryAfterMS == 0 {
		field.RetryAfterMS = int64(wait) * 1000
	}
	if r.Reason != "" {
		text = r.Reason
	}
	if x.call != nil && x.call.Captured() { // only a call that was charged at its start can be refused after its charge
		field.Charge = x.call.ID()
		text = chargedAtStartText(r.Code, text)
	}
	return field, text
}

// account returns the id and the name of the caller's own account. The name is
// looked up for refusals only, so that other requests do not have to carry it.
func (x *Exchange) account() (id, name string) {
	return x.caller.Account, x.site.Engine.AccountName(x.r.Context(), x.caller.Account)
}

// refuse answers the exchange with a refusal. It must not be called after a
// response has begun.
func (x *Exchange) refuse(r *gate.Refusal) {
	if x.r.Method == http.MethodPost && x.stage == unread && r.Code != gate.MessageTooLarge {
		if x.peekMessage(); x.lostRegistration(r) {
			x.refuseRegistration()
			return
		}
	}
	x.beginMessage()
	x.count(string(r.Code))
	h := x.w.Header()
	clear(h) // drop the header of an upstream that failed
	maps.Copy(h, x.base)
	x.head(h)
	x.Refuse(x.w, r)
}

// peekMessage reads the message of a request that is refused before its body was
// read. Clients need the id in the message to match the response.
func (x *Exchange) peekMessage() {
	if !x.memory.Opened() {
		x.site.Shares.Memory.Open(&x.memory, share.Holder{Address: x.client()})
	}
	body, err := x.read(peek)
	if err != nil {
		return
	}
	x.advance(readBody)
	message, err := mcp.Decode(body)
	if err != nil {
		return
	}
	x.advance(decodedMessage)
	x.message = message
}

// Refuse writes a refusal as a whole response to w.
func (x *Exchange) Refuse(w http.ResponseWriter, r *gate.Refusal) {
	f := x.responseForm(r)
	x.logRefusal(r, f.status)
	h := w.Header()
	if f.challenge {
		h.Set("WWW-Authenticate", x.challenge(&f, r))
	}
	if f.retryAfter > 0 && f.status >= 400 { // clients ignore Retry-After in a response with status 200
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.status == http.StatusOK {
		h.Set(errorHeader, string(r.Code))
	}
	if f.status == http.StatusMethodNotAllowed {
		h.Set("Allow", allowedMethods)
	}
	writeMessage(w, f.status, x.refusalBody(r, x.site.ErrorStyle == StyleHTTP && f.http != 0))
}

// challenge returns the value of WWW-Authenticate (RFC 6750, 3).
func (x *Exchange) challenge(f *refusalForm, r *gate.Refusal) string {
	challenge := `Bearer realm="` + x.site.Server + `"`
	if f.tokenError != "" {
		challenge += `, error="` + f.tokenError + `"`
	}
	scopes := r.Scopes
	if f.status == http.StatusUnauthorized && x.site.Resource != nil {
		scopes = x.site.Resource.Scopes
	}
	if len(scopes) > 0 {
		challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	if x.site.Resource != nil && x.leadsToOAuth() { // the challenge names the metadata (RFC 9728, 5.1)
		challenge += `, resource_metadata="` + x.site.Resource.MetadataURL(x.r) + `"`
	}
	return challenge
}

// writeMessage writes a message of the gateway's own.
func writeMessage(w http.ResponseWriter, status int, message []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(message)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(message) // fails only if the client has left
}

// Event returns a refusal as a server-sent event, for a stream that has sent its
// head.
func (x *Exchange) Event(r *gate.Refusal) []byte {
	x.logRefusal(r, http.StatusOK)
	event := append([]byte("event: message\ndata: "), x.refusalBody(r, false)...)
	return append(event, '\n', '\n')
}

// errorHeader carries the code of a refusal with status 200, for load balancers,
// circuit breakers and logs, which do not read messages.
const errorHeader = "X-Farebox-Error"

// head completes a response header: it seals the session that the response
// begins, and sets the headers about limits and origins.
func (x *Exchange) head(h http.Header) {
	x.sealSession(h)
	x.setLimits(h)
	h.Del(errorHeader)
	x.allowOrigin(h)
}

// noticeTime is the length of the period before a key's expiry. Responses in this
// period announce the expiry.
const noticeTime = 14 * 24 * time.Hour

// setLimits sets the headers about the key's rate and expiry. Only a stored key has a
// header about its expiry: the clients of issuers renew their tokens by themselves.
func (x *Exchange) setLimits(h http.Header) {
	h.Del("X-Farebox-Key-Expires")
	if x.caller.Key != nil && !x.caller.ExpiresAt.IsZero() && clock.Until(x.caller.ExpiresAt) < noticeTime {
		h.Set("X-Farebox-Key-Expires", x.caller.ExpiresAt.UTC().Format(http.TimeFormat))
	}
	if x.quota.Limit == 0 {
		return
	}
	h.Set("X-RateLimit-Limit", strconv.FormatInt(x.quota.Limit, 10))
	h.Set("X-RateLimit-Remaining", strconv.FormatInt(x.quota.Remaining, 10))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(int64(math.Ceil(x.quota.Reset.Seconds())), 10))
}
