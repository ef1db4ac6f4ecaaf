package wire

import (
	"errors"
	"net/http"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Code names the reason for a refusal. Codes do not change between versions.
type Code string

// These are the codes of problems.
const (
	TokenInvalid        Code = "TOKEN_INVALID" // the key of the caller or of the paying agent is invalid; Problem.Field names which of the two
	TokenExpired        Code = "TOKEN_EXPIRED"
	KindWrong           Code = "KIND_WRONG" // the caller's key is valid, but not for this operation
	ServerForbidden     Code = "SERVER_FORBIDDEN"
	Invalid             Code = "INVALID"
	NotFound            Code = "NOT_FOUND"
	Exists              Code = "EXISTS"
	Conflict            Code = "CONFLICT" // the id was already used with other content
	Settled             Code = "SETTLED"
	InsufficientBalance Code = "INSUFFICIENT_BALANCE"
	SpendingCap         Code = "SPENDING_CAP"
	Overflow            Code = "AMOUNT_OUT_OF_RANGE" // the change would make a balance exceed the range of amounts
	InFlight            Code = "IDEMPOTENCY_IN_FLIGHT"
	KeyReused           Code = "IDEMPOTENCY_KEY_REUSED"
	ResultGone          Code = "RESULT_GONE"
	TooLarge            Code = "TOO_LARGE"
	TooMany             Code = "TOO_MANY_REQUESTS"
	Unavailable         Code = "UNAVAILABLE"
	MethodNotAllowed    Code = "METHOD_NOT_ALLOWED" // the path supports only other HTTP methods
)

// statuses maps every code to its HTTP status.
var statuses = map[Code]int{
	TokenInvalid: http.StatusUnauthorized, TokenExpired: http.StatusUnauthorized, KindWrong: http.StatusForbidden, ServerForbidden: http.StatusForbidden,
	Invalid: http.StatusUnprocessableEntity, NotFound: http.StatusNotFound, Exists: http.StatusConflict, Conflict: http.StatusConflict, Settled: http.StatusConflict,
	InsufficientBalance: http.StatusPaymentRequired, SpendingCap: http.StatusPaymentRequired,
	Overflow: http.StatusUnprocessableEntity,
	InFlight: http.StatusConflict, KeyReused: http.StatusConflict, ResultGone: http.StatusGone,
	TooLarge: http.StatusRequestEntityTooLarge, TooMany: http.StatusTooManyRequests, Unavailable: http.StatusServiceUnavailable,
	MethodNotAllowed: http.StatusMethodNotAllowed,
}

// Status returns the HTTP status of the code.
func (c Code) Status() int { return statuses[c] }

// Problem is an error of the API (RFC 9457). Its media type is
// application/problem+json.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code"`
	Field  string `json:"field,omitempty" doc:"Which part of the request it is about"`

	Needed  *ledger.Amount `json:"needed,omitempty" doc:"By the call; with INSUFFICIENT_BALANCE and SPENDING_CAP"`
	Balance *Balance       `json:"account_balance,omitempty" doc:"With INSUFFICIENT_BALANCE"`
	Cap     *ledger.Cap    `json:"cap,omitempty" doc:"With SPENDING_CAP"`
}

// Error returns the detail, or the title if there is no detail.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// sentinels maps errors of package ledger to codes. Both ProblemOf and Problem.Err use
// the first entry that matches.
var sentinels = []struct {
	err  error
	code Code
}{
	{ledger.ErrNotFound, NotFound}, {ledger.ErrExists, Exists}, {ledger.ErrConflict, Conflict}, {ledger.ErrSettled, Settled},
	{ledger.ErrInFlight, InFlight}, {ledger.ErrReused, KeyReused}, {ledger.ErrGone, ResultGone}, {ledger.ErrInvalid, Invalid},
	{ledger.ErrInsufficient, InsufficientBalance}, // also for a refund that is greater than the rest of the charge
	{ledger.ErrOverflow, Overflow},
}

// ProblemOf converts an error of a ledger to a problem. An error that package ledger
// does not define becomes Unavailable, without its cause.
func ProblemOf(err error) *Problem {
	var poor *ledger.InsufficientError
	var capped *ledger.CapError
	switch {
	case errors.As(err, &poor):
		balance := Balance(poor.Balance)
		return &Problem{Status: InsufficientBalance.Status(), Code: InsufficientBalance, Title: "Insufficient balance", Detail: err.Error(), Needed: &poor.Needed, Balance: &balance}
	case errors.As(err, &capped):
		return &Problem{Status: SpendingCap.Status(), Code: SpendingCap, Title: "A spending cap is reached", Detail: err.Error(), Needed: &capped.Needed, Cap: &capped.Cap}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return &Problem{Status: s.code.Status(), Code: s.code, Title: s.err.Error()}
		}
	}
	return &Problem{Status: Unavailable.Status(), Code: Unavailable, Title: "The platform cannot answer now"}
}

// Err is the inverse of ProblemOf. It returns the corresponding error of package
// ledger, or an error that wraps ledger.ErrUnavailable.
func (p *Problem) Err() error {
	switch {
	case p.Code == InsufficientBalance && p.Balance != nil && p.Needed != nil:
		return &ledger.InsufficientError{Balance: ledger.Balance(*p.Balance), Needed: *p.Needed}
	case p.Code == SpendingCap && p.Cap != nil && p.Needed != nil:
		return &ledger.CapError{Cap: *p.Cap, Needed: *p.Needed}
	}
	for _, s := range sentinels {
		if p.Code == s.code {
			return s.err
		}
	}
	return errors.Join(ledger.ErrUnavailable, p)
}
