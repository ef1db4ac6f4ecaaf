package platform

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

func problem(code wire.Code, title, detail string) *wire.Problem {
	return &wire.Problem{Status: code.Status(), Code: code, Title: title, Detail: detail}
}

// invalid says what is wrong with a part of a request.
func invalid(field, format string, args ...any) *wire.Problem {
	p := problem(wire.Invalid, "The request cannot be meant", fmt.Sprintf(format, args...))
	p.Field = field
	return p
}

// adminCodes has the codes of package admin as the API tells them.
var adminCodes = map[admin.Code]wire.Code{
	admin.Invalid: wire.Invalid, admin.NotFound: wire.NotFound, admin.Exists: wire.Exists,
	admin.Conflict: wire.Conflict, admin.Unavailable: wire.Unavailable, admin.Forbidden: wire.KindWrong,
}

// titles of the codes of package admin.
var titles = map[wire.Code]string{
	wire.Invalid: "The request cannot be meant", wire.NotFound: "Not found", wire.Exists: "It exists already",
	wire.Conflict: "The id was used with other content", wire.Unavailable: "The platform cannot answer now", wire.KindWrong: "Not allowed",
}

// problem says what a caller is told of an error. What is not meant for it is
// logged, as what has failed.
func (p *Platform) problem(ctx context.Context, what string, err error) *wire.Problem {
	var told *wire.Problem
	if errors.As(err, &told) {
		return told
	}
	var refused *admin.Error
	if errors.As(err, &refused) {
		code := adminCodes[refused.Code]
		return problem(code, titles[code], refused.Message)
	}
	told = wire.ProblemOf(err)
	if errors.Is(err, ledger.ErrInvalid) {
		told.Detail = err.Error()
	}
	if told.Code == wire.Unavailable && ctx.Err() == nil {
		p.Logger.Error("the platform could not answer", "what", what, "error", err)
	}
	return told
}

// retryAfter is when a caller may ask again, in seconds.
const retryAfter = "1"

// setHeaders sets the headers that go with a problem.
func setHeaders(set func(name, value string), p *wire.Problem) {
	set("Content-Type", problemType)
	switch {
	case p.Status == http.StatusUnauthorized && p.Field == "": // about the caller's own key
		set("WWW-Authenticate", `Bearer realm="farebox", error="invalid_token"`)
	case p.Status == http.StatusUnauthorized: // RFC 9110, 15.5.2: never without one
		set("WWW-Authenticate", `Bearer realm="farebox"`)
	case p.Code == wire.Unavailable || p.Code == wire.TooMany:
		set("Retry-After", retryAfter)
	}
}

// writeProblem answers with a problem.
func writeProblem(w http.ResponseWriter, p *wire.Problem) {
	setHeaders(w.Header().Set, p)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client has left: there is nobody to tell
}

// Unavailable answers that nothing can be answered now.
func Unavailable(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	writeProblem(w, wire.ProblemOf(ledger.ErrUnavailable))
}

// KeyInURL answers a request whose URL has a key in it.
func KeyInURL(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	writeProblem(w, problem(wire.Invalid, titles[wire.Invalid],
		"the URL has a key in it, and URLs are kept in logs and histories: have that key replaced, and send the key as Authorization: Bearer <key>"))
}

// transform makes problems of the library's own errors, which echo what they
// are about, and sets the headers of problems. So nothing of the library's
// global state has to be changed, which other users of it in the same process
// would notice.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	var p *wire.Problem
	switch v := v.(type) {
	case *wire.Problem:
		p = v
	case *huma.ErrorModel:
		p = problemOfModel(v)
	default:
		return v, nil
	}
	setHeaders(ctx.SetHeader, p)
	return p, nil
}

// problemOfModel takes over where the first fault is and what is wrong, and
// never the value.
func problemOfModel(m *huma.ErrorModel) *wire.Problem {
	p := &wire.Problem{Status: m.Status, Code: wire.Invalid, Title: titles[wire.Invalid], Detail: m.Detail}
	switch {
	case m.Status == http.StatusRequestEntityTooLarge:
		p.Code, p.Title = wire.TooLarge, "The request is too large"
	case m.Status >= http.StatusInternalServerError:
		return wire.ProblemOf(ledger.ErrUnavailable)
	case len(m.Errors) > 0 && m.Errors[0] != nil:
		p.Field, p.Detail = m.Errors[0].Location, m.Errors[0].Message
	}
	return p
}
