package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

const problemType = "application/problem+json"

// Problem returns a problem with the status of its code.
func Problem(code wire.Code, title, detail string) *wire.Problem {
	return &wire.Problem{Status: code.Status(), Code: code, Title: title, Detail: detail}
}

// Invalid returns a problem that names the invalid part of a request.
func Invalid(field, format string, args ...any) *wire.Problem {
	p := Problem(wire.Invalid, titles[wire.Invalid], fmt.Sprintf(format, args...))
	p.Field = field
	return p
}

// adminCodes maps the codes of package admin to those of package wire.
var adminCodes = map[admin.Code]wire.Code{
	admin.Invalid: wire.Invalid, admin.NotFound: wire.NotFound, admin.Exists: wire.Exists,
	admin.Conflict: wire.Conflict, admin.Unavailable: wire.Unavailable, admin.Forbidden: wire.KindWrong,
}

// titles are the titles of problems with codes of package admin.
var titles = map[wire.Code]string{
	wire.Invalid: "The request is invalid", wire.NotFound: "Not found", wire.Exists: "It exists already",
	wire.Conflict: "The id was used with other content", wire.Unavailable: "The platform cannot answer now", wire.KindWrong: "Not allowed",
}

// problem returns the problem with which to respond to an error. Internal errors are
// logged, and their problem does not reveal the cause.
func (m *Mount) problem(ctx context.Context, operation string, err error) *wire.Problem {
	var known *wire.Problem
	if errors.As(err, &known) {
		return known
	}
	var refused *admin.Error
	if errors.As(err, &refused) {
		code := adminCodes[refused.Code]
		p := Problem(code, titles[code], refused.Message)
		p.Field = refused.Field
		return p
	}
	p := wire.ProblemOf(err)
	if errors.Is(err, ledger.ErrInvalid) {
		p.Detail = err.Error()
	}
	if p.Code == wire.Unavailable {
		p.Detail = m.o.Unavailable
		if ctx.Err() == nil {
			m.o.Logger.Error("an operation failed", "operation", operation, "error", err)
		}
	}
	return p
}

// retryAfter is the number of seconds in the header Retry-After.
const retryAfter = "1"

// setHeaders sets the headers of a response that is a problem.
func setHeaders(set func(name, value string), p *wire.Problem, realm string) {
	set("Content-Type", problemType)
	switch {
	case p.Status == http.StatusUnauthorized && p.Field == "": // the problem concerns the caller's own credential
		set("WWW-Authenticate", `Bearer realm="`+realm+`", error="invalid_token"`)
	case p.Status == http.StatusUnauthorized: // RFC 9110, 15.5.2: a 401 always has a challenge
		set("WWW-Authenticate", `Bearer realm="`+realm+`"`)
	case p.Code == wire.Unavailable || p.Code == wire.TooMany:
		set("Retry-After", retryAfter)
	}
}

// WriteProblem responds with a problem.
func WriteProblem(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Cache-Control", "no-store")
	writeProblem(w, p, "farebox")
}

func writeProblem(w http.ResponseWriter, p *wire.Problem, realm string) {
	setHeaders(w.Header().Set, p, realm)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // fails only if the client has disconnected
}

// Unavailable responds that no operation is possible now. The detail may be "".
func Unavailable(w http.ResponseWriter, detail string) {
	p := wire.ProblemOf(ledger.ErrUnavailable)
	p.Detail = detail
	WriteProblem(w, p)
}

// KeyInURL refuses a request with a key in its URL.
func KeyInURL(w http.ResponseWriter) {
	WriteProblem(w, Problem(wire.Invalid, titles[wire.Invalid],
		"the URL has a key in it, and URLs are kept in logs and histories: have that key replaced, and send the key as Authorization: Bearer <key>"))
}

// transform replaces the library's errors by problems, because the errors quote the
// invalid value. It also sets the headers of problems. The library's own hook for
// this is a global variable, which would affect other users of the library in the
// process.
func (m *Mount) transform(ctx huma.Context, _ string, v any) (any, error) {
	var p *wire.Problem
	switch v := v.(type) {
	case *wire.Problem:
		p = v
	case *huma.ErrorModel:
		p = problemOfModel(v)
	default:
		return v, nil
	}
	setHeaders(ctx.SetHeader, p, m.o.Realm)
	return p, nil
}

// problemOfModel returns a problem with the location and the kind of the first fault.
// It leaves out the invalid value.
func problemOfModel(e *huma.ErrorModel) *wire.Problem {
	p := &wire.Problem{Status: e.Status, Code: wire.Invalid, Title: titles[wire.Invalid], Detail: e.Detail}
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		p.Code, p.Title = wire.TooLarge, "The request is too large"
	case e.Status >= http.StatusInternalServerError:
		return wire.ProblemOf(ledger.ErrUnavailable)
	case len(e.Errors) > 0 && e.Errors[0] != nil:
		p.Field, p.Detail = e.Errors[0].Location, e.Errors[0].Message
	}
	return p
}
