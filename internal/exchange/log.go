package exchange

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// logRefusal adds a refusal to the access log, with causes that clients do not see.
// A fault of the gateway or the server also gets a log line of its own.
func (x *Exchange) logRefusal(r *gate.Refusal, status int) {
	x.refusal, x.status = r, status
	x.annotate(slog.String("farebox_refused", string(r.Code)))
	x.annotate(slog.String("farebox_server", x.site.Server))
	x.annotate(slog.String("farebox_tool", x.tool(r)))
	if charge := x.chargeID(); charge != "" {
		x.annotate(slog.String("farebox_charge", charge))
	}
	if r.Cause != nil {
		x.annotate(slog.String("farebox_cause", r.Cause.Error()))
	}
	if x.caller.Known() {
		x.annotate(slog.String("farebox_account", x.caller.Account))
		x.annotate(slog.String("farebox_key", x.caller.Subject))
	}
	switch {
	case !r.Code.IsFault():
	case x.isLeft(r):
		x.logAbandoned()
	default:
		x.site.Metrics.Failed(r.Code)
		x.logFailure(slog.LevelError, "a call failed", r, status)
	}
}

// isLeft reports whether the client caused a failure by hanging up.
func (x *Exchange) isLeft(r *gate.Refusal) bool {
	return errors.Is(x.r.Context().Err(), context.Canceled) &&
		(r.Code == gate.UpstreamFailed || errors.Is(r.Cause, context.Canceled))
}

// logEnded logs why a response ended early. ctx is the context in which the response
// was served.
func (x *Exchange) logEnded(ctx context.Context, failure *gate.Refusal) {
	switch {
	case x.isLeft(failure) && x.r.Method == http.MethodGet: // leaving is the normal end of a stream that a client has opened by GET
		x.ended = Left
		x.logFailure(slog.LevelInfo, "a stream ended", &gate.Refusal{Reason: "the client left"}, http.StatusOK)
	case x.isLeft(failure):
		x.logAbandoned()
	case errors.Is(ctx.Err(), context.Canceled):
		x.ended = Withdrawn
		x.logFailure(slog.LevelInfo, "a stream ended", &gate.Refusal{Reason: "its key, the rules of its server, or the gateway ended it"}, http.StatusOK)
	default:
		x.logCut(failure)
	}
}

// logCut logs a response that was broken off. The client of such a response gets no
// reason.
func (x *Exchange) logCut(failure *gate.Refusal) {
	if failure == nil {
		failure = &gate.Refusal{Code: gate.UpstreamFailed, Reason: "the response could not be sent to its end"}
	}
	x.cutTrace(failure)
	x.ended, x.refusal = Cut, failure
	x.site.Metrics.Failed(failure.Code)
	x.logFailure(slog.LevelError, "a response was broken off", failure, 0)
}

// logAbandoned logs, once, that the client left before the answer.
func (x *Exchange) logAbandoned() {
	x.abandoned.Do(func() {
		x.left.Store(true)
		x.logFailure(slog.LevelInfo, "a call was abandoned", &gate.Refusal{Reason: "the client left before the answer"}, 0)
	})
}

// logFailure writes a line about a call that failed; every such line has the same
// fields. status is the HTTP status that the client got. For a stream, this is the
// status in the stream's head. status is 0 if the client got no complete response.
func (x *Exchange) logFailure(level slog.Level, message string, r *gate.Refusal, status int) {
	ctx := context.Background() // with the request's context, Caddy would repeat all fields of the access log
	if !x.site.Logger.Enabled(ctx, level) {
		return
	}
	account, key := "", ""
	if x.caller.Known() {
		account, key = x.caller.Account, x.caller.Subject
	}
	cause := r.Reason
	switch {
	case r.Cause != nil:
		cause = r.Cause.Error()
	case cause == "":
		cause = refusalForms[r.Code].text
	}
	x.site.Logger.Log(ctx, level, message, "server", x.site.Server, "tool", x.tool(r), "charge", x.chargeID(), "account", account, "key", key,
		"code", r.Code, "status", status, "cause", cause)
}

// tool returns the requested item in the form in which charges name it. It takes
// the name from the refusal, the charge, the call or the message, in this order. It
// returns "" if no message has been read. A name that is too long for a charge is
// cut.
func (x *Exchange) tool(r *gate.Refusal) string {
	name := r.Tool
	switch {
	case name != "":
	case x.charged.tool != "":
		name = x.charged.tool
	case x.call != nil && x.call.Tool() != "":
		name = x.call.Tool()
	case x.message.Kind != mcp.KindResponse && x.message.Method != "":
		name = gate.ItemOf(&x.message).String()
	}
	const limit = items.MaxName + 16
	return name[:min(len(name), limit)]
}

// chargeID returns the id of the request's charge, "" for none.
func (x *Exchange) chargeID() string {
	if x.charged.id == "" && x.call != nil {
		return x.call.ID()
	}
	return x.charged.id
}
