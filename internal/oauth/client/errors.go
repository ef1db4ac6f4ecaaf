package client

import (
	"net/http"
	"time"
)

// Code is the value of the member "error" in a response (RFC 6749, 5.2; RFC 7591, 3.2.2).
type Code string

// The values of Code.
const (
	InvalidClient      Code = "invalid_client"
	InvalidRequest     Code = "invalid_request"
	InvalidRedirectURI Code = "invalid_redirect_uri"
	InvalidMetadata    Code = "invalid_client_metadata"
	// TooMany refuses a client that registers or authenticates too often. RFC 6749 has no
	// code for it.
	TooMany Code = "too_many_requests"
	// Unavailable means that the question cannot be decided now, because a document or the
	// store cannot be read. The client may try again.
	Unavailable Code = "temporarily_unavailable"
)

// Error refuses a client. Its Reason is for the client's developer: it never has a secret
// or anything about the network of this process in it.
type Error struct {
	Code   Code
	Reason string        // ASCII, without quotation marks and backslashes (RFC 6749, 5.2)
	Wait   time.Duration // with TooMany and Unavailable: when to try again; 0 if unknown
	Cause  error         // for the log; nil if the Reason has everything
}

// Error returns the code and the reason.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Reason }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Status returns the status of the HTTP response. A response with the status 401 needs
// the header WWW-Authenticate.
func (e *Error) Status() int {
	switch e.Code {
	case InvalidClient:
		return http.StatusUnauthorized
	case TooMany:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// refuse returns an Error without a cause.
func refuse(code Code, reason string) *Error { return &Error{Code: code, Reason: asReason(reason)} }

// storeDown returns the Error for a failure of the store.
func storeDown(err error) *Error {
	return &Error{Code: Unavailable, Reason: "the store cannot be read now", Cause: err}
}

// asReason returns a text with only the characters that error_description may have.
func asReason(text string) string {
	b := []byte(text)
	for i, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			b[i] = '\''
		}
	}
	return string(b)
}
