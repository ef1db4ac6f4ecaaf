package oauth

import (
	"errors"
	"fmt"
)

// Code is an error code of OAuth (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628,
// section 3.5; RFC 8707, section 2).
type Code string

// The codes of errors.
const (
	InvalidRequest     Code = "invalid_request"
	InvalidClient      Code = "invalid_client"
	InvalidGrant       Code = "invalid_grant"
	InvalidScope       Code = "invalid_scope"
	InvalidTarget      Code = "invalid_target"
	UnauthorizedClient Code = "unauthorized_client"
	UnsupportedGrant   Code = "unsupported_grant_type"
	UnsupportedType    Code = "unsupported_response_type"
	AccessDenied       Code = "access_denied"
	ServerError        Code = "server_error"
	Unavailable        Code = "temporarily_unavailable"
	Pending            Code = "authorization_pending"
	SlowDown           Code = "slow_down"
	ExpiredToken       Code = "expired_token"
)

// Error refuses a request of a client. The description is for the developer of the
// client, and contains no secret.
type Error struct {
	Code        Code
	Description string
	Cause       error // for the log; may be nil
}

// Error returns the code and the description.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Description }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Refuse returns an *Error.
func Refuse(code Code, format string, args ...any) error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of an error. Errors that are not an *Error are failures of the
// store, and have the code Unavailable.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Unavailable
}
