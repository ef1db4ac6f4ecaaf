package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Code names a reason for a refusal, as clients see it in
// _meta["dev.farebox/error"].code. Codes are stable.
type Code string

// The codes of refusals.
const (
	TokenMissing         Code = "TOKEN_MISSING"
	TokenInvalid         Code = "TOKEN_INVALID"
	TokenExpired         Code = "TOKEN_EXPIRED"
	AccountUnknown       Code = "ACCOUNT_UNKNOWN" // the token is valid, but there is no account for its holder
	ScopeInsufficient    Code = "SCOPE_INSUFFICIENT"
	RateLimited          Code = "RATE_LIMITED"
	InsufficientBalance  Code = "INSUFFICIENT_BALANCE"
	SpendingCap          Code = "SPENDING_CAP"
	CallInFlight         Code = "IDEMPOTENCY_IN_FLIGHT"  // the first call with this idempotency key is still running
	IdempotencyKeyReused Code = "IDEMPOTENCY_KEY_REUSED" // the idempotency key was used for a different call
	ResultGone           Code = "RESULT_GONE"            // the call was paid before, but its response is not stored
	PriceAboveMax        Code = "PRICE_ABOVE_MAX"        // the price is above the caller's own maximum
	PriceRefused         Code = "PRICE_REFUSED"          // the price book's expression gives no price
	StoreUnavailable     Code = "STORE_UNAVAILABLE"
	ChargeFailed         Code = "CHARGE_FAILED"
	ToolUnknown          Code = "TOOL_UNKNOWN"
	MethodUnknown        Code = "METHOD_UNKNOWN"
	ParamsInvalid        Code = "PARAMS_INVALID"
	TaskUnknown          Code = "TASK_UNKNOWN"          // the task does not exist, or belongs to another account
	StateUnknown         Code = "REQUEST_STATE_UNKNOWN" // the state does not exist, or belongs to another account
	MessageMalformed     Code = "MESSAGE_MALFORMED"     // the message is not JSON, or is JSON that parsers read differently
	MessageInvalid       Code = "MESSAGE_INVALID"       // the message is JSON, but not a message of this protocol
	HeaderMismatch       Code = "HEADER_MISMATCH"
	EncodingUnsupported  Code = "ENCODING_UNSUPPORTED"
	MessageTooLarge      Code = "MESSAGE_TOO_LARGE"
	RequestUnsupported   Code = "REQUEST_UNSUPPORTED" // the request does not have the shape of an MCP request
	MethodNotAllowed     Code = "METHOD_NOT_ALLOWED"  // the endpoint does not take this HTTP method
	MediaUnsupported     Code = "MEDIA_UNSUPPORTED"   // the endpoint does not take this content type
	OriginForbidden      Code = "ORIGIN_FORBIDDEN"
	HostForbidden        Code = "HOST_FORBIDDEN"
	UpstreamFailed       Code = "UPSTREAM_FAILED"
	UpstreamTimeout      Code = "UPSTREAM_TIMEOUT"
	SessionUnknown       Code = "SESSION_UNKNOWN" // the session does not exist, or belongs to another account
	Misconfigured        Code = "MISCONFIGURED"
)

// Codes returns every code.
func Codes() []Code {
	return []Code{
		TokenMissing, TokenInvalid, TokenExpired, AccountUnknown, ScopeInsufficient, RateLimited, InsufficientBalance, SpendingCap,
		CallInFlight, IdempotencyKeyReused, ResultGone, PriceAboveMax, PriceRefused,
		StoreUnavailable, ChargeFailed, ToolUnknown, MethodUnknown, ParamsInvalid, TaskUnknown, StateUnknown, MessageMalformed, MessageInvalid, HeaderMismatch,
		EncodingUnsupported, MessageTooLarge, RequestUnsupported, MethodNotAllowed,
		MediaUnsupported, OriginForbidden, HostForbidden,
		UpstreamFailed, UpstreamTimeout, SessionUnknown, Misconfigured,
	}
}

// faults lists the codes of Faults.
var faults = []Code{StoreUnavailable, ChargeFailed, Misconfigured, UpstreamFailed, UpstreamTimeout}

// Faults returns the codes of failures for which the gateway, its store or the server is
// to blame, and not the caller.
func Faults() []Code { return slices.Clone(faults) }

// IsFault reports whether the code is one of Faults.
func (c Code) IsFault() bool { return slices.Contains(faults, c) }

// Refusal explains why a call was refused. Cause is only for the operator's log;
// the other fields are for the client.
type Refusal struct {
	Code   Code
	Reason string // a full sentence that replaces the code's usual text, or ""
	Cause  error

	Tool         string
	Price        ledger.Amount
	Available    ledger.Amount
	Maximum      ledger.Amount    // the caller's own limit on the price
	Cap          *ledger.CapError // the spending cap that was reached; nil with other codes
	Currency     string
	Test         bool
	Scopes       []string      // the scopes that the request requires
	Lacking      []string      // the scopes among Scopes that the caller does not carry
	RateExceeded bool          // with RateLimited: too many requests; if false, too many abandoned calls or unknown tokens
	RetryAfter   time.Duration // wait after which the same request may succeed; zero if unknown
}

// Error returns the code and the cause, for logs.
func (r *Refusal) Error() string {
	switch {
	case r.Cause != nil:
		return fmt.Sprintf("%s: %v", r.Code, r.Cause)
	case r.Reason != "":
		return fmt.Sprintf("%s: %s", r.Code, r.Reason)
	}
	return string(r.Code)
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }
