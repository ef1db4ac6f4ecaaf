package caddymodule

import (
	"encoding/json"
	"fmt"
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

// answer is how a code is told to a client. Statuses and forms are chosen so
// that the clients of today survive a refusal and their models can read why:
// a 404 only for what it stands for, a lost session or (2026-07-28) an unknown
// method, and always a JSON-RPC body
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
	// http is the status where error_style http is set, or where no JSON-RPC answer
	// is waited for; 0 if that changes nothing.
	http int
}

// answers has every code: a test holds it against gate.Codes.
var answers = map[gate.Code]answer{
	gate.TokenMissing:         {status: 401, rpc: 401, text: "Token missing", challenge: true, http: 401},
	gate.TokenInvalid:         {status: 401, rpc: 401, text: "Invalid agent token", challenge: true, tokenError: "invalid_token", http: 401},
	gate.TokenExpired:         {status: 401, rpc: 401, text: "Agent token expired", challenge: true, tokenError: "invalid_token", http: 401},
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
	gate.StateUnknown:         {status: 200, rpc: -32602, text: "This requestState is none that this account was given here: send the request anew, without it"},
	gate.MessageMalformed:     {status: 200, rpc: -32700, text: "Parse error", http: 400},
	gate.MessageInvalid:       {status: 200, rpc: -32600, text: "Invalid request", http: 400},
	gate.HeaderMismatch:       {status: 400, rpc: -32020, text: "Header mismatch"}, // as 2026-07-28 has it
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

// tooOften answers gate.RateLimited for a key that may come again: it is known,
// so that its model is told. The answer of the table is for floods of callers
// who are not.
var tooOften = answer{status: 200, rpc: 429, toolResult: true, http: 429}

// formOf returns the form of the answer to a refusal.
func formOf(r *gate.Refusal) answer {
	if r.Code == gate.RateLimited && r.RetryAfter > 0 {
		return tooOften
	}
	return answers[r.Code]
}

// answerTo returns the form of the answer to a refusal, as a response of its
// own.
func (x *exchange) answerTo(r *gate.Refusal) answer {
	a := formOf(r)
	if a.http != 0 && (!x.answerable() || x.misheaded) {
		a.status = a.http
	}
	switch {
	case r.Code == gate.MethodUnknown && x.message.Kind == mcp.KindNotification:
		a.status = http.StatusBadRequest // it was not accepted (MCP, streamable HTTP, "Sending Messages")
	case r.Code == gate.MethodUnknown && x.era == mcp.EraStateless:
		// There are no sessions to be taken for lost (2026-07-28, streamable HTTP).
		a.status = http.StatusNotFound
	}
	if x.h.ErrorStyle == styleHTTP && a.http != 0 {
		a.status = a.http
		a.challenge = a.challenge || a.tokenError != ""
	}
	if a.status == http.StatusTooManyRequests && r.RetryAfter > 0 {
		a.retryAfter = int(math.Ceil(r.RetryAfter.Seconds()))
	}
	return a
}

// answerable reports whether the client waits for a JSON-RPC message with its id.
// What is no request over POST has none: its answer is a stream, or nothing. Of a
// message that could not be read, the id may be known all the same.
func (x *exchange) answerable() bool {
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
	Scopes       []string       `json:"scopes,omitempty"` // that are needed
	Charge       string         `json:"charge,omitempty"` // of a call that was charged all the same

	// Of refusals for want of credits or by a cap: whose they are, and where to turn.
	Account     string `json:"account,omitempty"`
	AccountName string `json:"account_name,omitempty"`
	Contact     string `json:"contact,omitempty"`
	TopUpURL    string `json:"topup_url,omitempty"`
}

// capField tells of the cap that is in the way of a call.
type capField struct {
	Holder ledger.Holder `json:"holder"` // key, account or server
	Period ledger.Period `json:"period"`
	Amount ledger.Amount `json:"amount"`
	Left   ledger.Amount `json:"left"`
	Resets *time.Time    `json:"resets,omitempty"` // none for a cap of single calls
}

func fieldOfCap(c *ledger.CapError) *capField {
	f := &capField{Holder: c.Holder, Period: c.Period, Amount: c.Amount, Left: max(c.Left(), 0)}
	if !c.Resets.IsZero() {
		f.Resets = &c.Resets
	}
	return f
}

// refusalBody returns the JSON-RPC message that tells of a refusal: a tool result
// where models are to read it, unless the answer is a classic one by its status.
func (x *exchange) refusalBody(r *gate.Refusal, classic bool) []byte {
	a := formOf(r)
	field, text := x.tell(r)
	value, err := json.Marshal(field)
	if err != nil {
		panic(err) // strings and amounts always encode
	}
	meta := []mcp.Field{{Name: "dev.farebox/error", Value: value}}
	if a.toolResult && !classic && x.message.Kind == mcp.KindRequest && x.message.Method == "tools/call" {
		return mcp.AppendToolRefusal(nil, x.message.ID, x.era, text, meta)
	}
	return mcp.AppendError(nil, x.message.ID, a.rpc, text, meta)
}

// tell returns what a client is told of a refusal: its figures, and a text.
func (x *exchange) tell(r *gate.Refusal) (field errorField, text string) {
	field = errorField{Code: r.Code, Tool: r.Tool}
	text = answers[r.Code].text
	switch r.Code {
	case gate.ToolUnknown:
		text += ": " + plainly(r.Tool)
	case gate.InsufficientBalance:
		field.Price, field.Available, field.Currency = &r.Price, &r.Available, r.Currency
		field.Account, field.AccountName = x.account()
		field.Contact, field.TopUpURL = x.h.Contact, x.h.TopUpURL
		text = x.poorText(r, accountText(&field))
	case gate.ScopeInsufficient:
		field.Scopes, field.Contact = r.Scopes, x.h.Contact
		text = x.scopeText(r)
	case gate.SpendingCap:
		field.Price, field.Currency, field.Cap = &r.Price, r.Currency, fieldOfCap(r.Cap)
		field.Account, field.AccountName = x.account()
		field.Contact = x.h.Contact
		text = x.capText(r, accountText(&field))
	case gate.CallInFlight:
		field.RetryAfterMS = r.RetryAfter.Milliseconds()
		text = notDone(r.Tool) + " again: " + inFlightText
	case gate.IdempotencyKeyReused:
		text = notDone(r.Tool) + " and nothing was charged: " + reusedText
	case gate.ResultGone:
		text = notDone(r.Tool) + " again and nothing more was charged: " + goneText
	case gate.PriceAboveMax:
		field.Price, field.Maximum, field.Currency = &r.Price, &r.Maximum, r.Currency
		text = dearText(r)
	case gate.RateLimited:
		if r.RetryAfter > 0 {
			field.RetryAfterMS = int64(math.Ceil(float64(r.RetryAfter) / float64(time.Millisecond)))
			text = x.oftenText(r)
		}
	}
	if wait := formOf(r).retryAfter; wait > 0 && field.RetryAfterMS == 0 {
		field.RetryAfterMS = int64(wait) * 1000
	}
	if r.Reason != "" {
		text = r.Reason
	}
	if x.call != nil && x.call.Captured() { // when it started: nothing else is charged and refused
		field.Charge = x.call.ID()
		text = chargedText(r.Code, text)
	}
	return field, text
}

// account is the caller's own account, by id and by name. The name is asked for
// when a call is refused, so that others need not carry it.
func (x *exchange) account() (id, name string) {
	if x.h.accountName != nil {
		name = x.h.accountName(x.r.Context(), x.key.Account)
	}
	return x.key.Account, name
}

// accountText tells of the caller's account in a sentence.
func accountText(f *errorField) string {
	if f.AccountName == "" {
		return "account " + f.Account
	}
	return fmt.Sprintf("account %s (%s)", f.AccountName, f.Account)
}

// poorText tells a model what to tell its user.
func (x *exchange) poorText(r *gate.Refusal, account string) string {
	balance := "balance"
	if r.Test {
		balance = "test balance"
	}
	return fmt.Sprintf("%s and nothing was charged: one call costs %s %s, but the %s of %s has only %s %s available. "+
		"%s then call again; until then every retry will be refused.",
		notDone(r.Tool), r.Price, r.Currency, balance, account, r.Available, r.Currency, x.h.toTopUp())
}

const (
	inFlightText = "the first call with this idempotency key is still under way. Wait, then send the same call again to get its result."
	reusedText   = "this idempotency key stands for another call. Use a new key for each new call."
	goneText     = "a call with this idempotency key was made and charged before, but its result is not kept. To have the call made and charged anew, use a new key."
)

// capText tells a model which cap is in the way, and until when.
func (x *exchange) capText(r *gate.Refusal, account string) string {
	c := r.Cap
	whose := map[ledger.Holder]string{
		ledger.HolderKey: "this key of " + account, ledger.HolderAccount: account, ledger.HolderServer: "one account at this server",
	}[c.Holder]
	if c.Period == ledger.PerCall {
		return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, and %s may spend at most %s %s on one call. "+
			"Ask %s to raise the cap; until then every retry will be refused.",
			notDone(r.Tool), r.Price, r.Currency, whose, c.Amount, r.Currency, x.h.whom())
	}
	return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, and of the %s %s that %s may spend in a %s only %s %s are left. "+
		"The cap begins anew at %s (UTC); until then dearer calls than that will be refused, unless %s raises it.",
		notDone(r.Tool), r.Price, r.Currency, c.Amount, r.Currency, whose, c.Period, max(c.Left(), 0), r.Currency, c.Resets.Format(time.DateTime), x.h.whom())
}

// scopeText tells a model which scopes are missing.
func (x *exchange) scopeText(r *gate.Refusal) string {
	needs := "scope " + r.Scopes[0]
	if len(r.Scopes) > 1 {
		needs = "scopes " + strings.Join(r.Scopes, " and ")
	}
	return fmt.Sprintf("%s and nothing was charged: it needs the %s, and this key lacks %s. "+
		"Ask %s for a key that may; until then every retry will be refused.",
		notDone(r.Tool), needs, strings.Join(r.Lacking, " and "), x.h.whom())
}

// dearText tells a model what it may do about a price.
func dearText(r *gate.Refusal) string {
	return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, but the caller's own maximum in _meta[\"dev.farebox/max-price\"] is %s %s. "+
		"Call again with a higher maximum if the price is acceptable; until then every retry will be refused.",
		notDone(r.Tool), r.Price, r.Currency, r.Maximum, r.Currency)
}

// oftenText tells a model to wait, and why.
func (x *exchange) oftenText(r *gate.Refusal) string {
	if r.Often {
		rate := x.quota.Rate
		return fmt.Sprintf("This request was not served and nothing was charged: this key has asked too often. It may ask %d times in %s; after a pause, %d requests may come at once. "+
			"Wait %d seconds, then ask again.", rate.Requests, rate.Period(), rate.Burst, int64(math.Ceil(r.RetryAfter.Seconds())))
	}
	return fmt.Sprintf("%s and nothing was charged: too many paid calls with this key were abandoned before their answer came. "+
		"Wait %d seconds, then call again, and wait for the answer.",
		notDone(r.Tool), int64(math.Ceil(r.RetryAfter.Seconds())))
}

// chargedText is what is told of a call that was charged when it started and
// then had no answer.
func chargedText(code gate.Code, text string) string {
	switch code {
	case gate.UpstreamFailed:
		return "The MCP server gave no usable answer; the call was charged when it started"
	case gate.UpstreamTimeout:
		return "The MCP server did not answer in time; the call was charged when it started"
	case gate.StoreUnavailable:
		return "The gateway cannot deliver this answer now; the call was charged when it started"
	}
	return text
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
		if !x.memory.Opened() {
			shares.memory.Open(&x.memory, share.Holder{Address: x.client()})
		}
		if body, err := x.readBody(peekLimit, 0, peekTime); err == nil {
			message, err := mcp.Decode(body)
			if err == nil {
				x.message = message
			} else if answers[r.Code].status == http.StatusUnauthorized && x.h.resource == nil && isRegistration(x.r) {
				x.refuseRegistration()
				return
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

// refuseRegistration answers a client that has lost its way to the server's own
// path: what it has sent is no message.
func (x *exchange) refuseRegistration() {
	x.count("registration")
	x.head(x.w.Header())
	refuseRegistration(x.w, x.h.secrets, x.h.credential.name, x.h.Contact)
}

// Refuse writes a whole response; it is what a tap answers with, too.
func (x *exchange) Refuse(w http.ResponseWriter, r *gate.Refusal) {
	a := x.answerTo(r)
	x.logRefusal(r, a.status)
	h := w.Header()
	if a.challenge {
		h.Set("WWW-Authenticate", x.challenge(&a, r))
	}
	if a.retryAfter > 0 && a.status >= 400 { // to clients, a 200 is an answer
		h.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.status == http.StatusOK {
		h.Set(errorHeader, string(r.Code))
	}
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", allowedMethods)
	}
	writeMessage(w, a.status, x.refusalBody(r, x.h.ErrorStyle == styleHTTP && a.http != 0))
}

// challenge returns the value of WWW-Authenticate (RFC 6750, 3).
func (x *exchange) challenge(a *answer, r *gate.Refusal) string {
	challenge := `Bearer realm="` + x.h.Server + `"`
	if a.tokenError != "" {
		challenge += `, error="` + a.tokenError + `"`
	}
	scopes := r.Scopes
	if a.status == http.StatusUnauthorized && x.h.resource != nil {
		scopes = x.h.resource.needs
	}
	if len(scopes) > 0 {
		challenge += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	if x.h.resource != nil { // RFC 9728, 5.1
		challenge += `, resource_metadata="` + x.h.resource.metadataURL(x.h.resource.asked(x.r)) + `"`
	}
	return challenge
}

// writeMessage writes a message of our own.
func writeMessage(w http.ResponseWriter, status int, message []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(message)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(message) // if the client has left, there is nobody to tell
}

// Event returns a refusal as a server-sent event, for a stream whose head is
// out.
func (x *exchange) Event(r *gate.Refusal) []byte {
	x.logRefusal(r, http.StatusOK)
	event := append([]byte("event: message\ndata: "), x.refusalBody(r, false)...)
	return append(event, '\n', '\n')
}

const (
	allowedMethods = "POST, GET, DELETE, OPTIONS"
	allowedHeaders = "Authorization, Content-Type, Accept, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID, Idempotency-Key"
	exposedHeaders = "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Farebox-Key-Expires, X-Farebox-Error"

	// errorHeader names the code of a refusal whose status does not tell that it is
	// one: for balancers, breakers and logs, which do not read messages.
	errorHeader = "X-Farebox-Error"
)

// head seals the session that the response begins, and lets the page that was
// let in read it. What the upstream says of other origins is not for it to say.
func (x *exchange) head(h http.Header) {
	x.sealSession(h)
	x.tellLimits(h)
	h.Del(errorHeader)
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

// noticeTime is how long before its end a key's holder is told of it.
const noticeTime = 14 * 24 * time.Hour

// tellLimits tells the client how often it may ask, and when its key ends.
func (x *exchange) tellLimits(h http.Header) {
	h.Del("X-Farebox-Key-Expires")
	if x.key != nil && !x.key.ExpiresAt.IsZero() && clock.Until(x.key.ExpiresAt) < noticeTime {
		h.Set("X-Farebox-Key-Expires", x.key.ExpiresAt.UTC().Format(http.TimeFormat))
	}
	if x.quota.Limit == 0 {
		return
	}
	h.Set("X-RateLimit-Limit", strconv.FormatInt(x.quota.Limit, 10))
	h.Set("X-RateLimit-Remaining", strconv.FormatInt(x.quota.Remaining, 10))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(int64(math.Ceil(x.quota.Reset.Seconds())), 10))
}

// preflight answers a browser's question before a request of a page (CORS). It
// carries no credentials, and never reaches the server.
func (x *exchange) preflight() {
	h := x.w.Header()
	x.head(h)
	h.Set("Allow", allowedMethods)
	if x.origin != "" {
		h.Set("Access-Control-Allow-Methods", allowedMethods)
		h.Set("Access-Control-Allow-Headers", x.mayAsk())
		h.Add("Vary", "Access-Control-Request-Headers")
		h.Set("Access-Control-Max-Age", "600")
	}
	x.count("allowed")
	x.w.WriteHeader(http.StatusNoContent)
}
