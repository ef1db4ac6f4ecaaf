package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// ours are the codes of what is the gateway's or the server's fault.
var ours = []gate.Code{gate.StoreUnavailable, gate.ChargeFailed, gate.Misconfigured, gate.UpstreamFailed, gate.UpstreamTimeout}

// logRefusal tells the operator what clients are not told. What is the
// gateway's or the server's fault is an error of its own.
func (x *exchange) logRefusal(r *gate.Refusal, status int) {
	tool, charge := x.tool(r), x.chargeID()
	x.log(zap.String("farebox_refused", string(r.Code)), zap.String("farebox_server", x.h.Server), zap.String("farebox_tool", tool))
	if charge != "" {
		x.log(zap.String("farebox_charge", charge))
	}
	if r.Cause != nil {
		x.log(zap.String("farebox_cause", r.Cause.Error()))
	}
	if x.key != nil {
		x.log(zap.String("farebox_account", x.key.Account), zap.String("farebox_key", x.key.ID))
	}
	switch {
	case !slices.Contains(ours, r.Code):
	case x.isLeft(r):
		x.logAbandoned()
	default:
		x.logFailure(slog.LevelError, "a call failed", r, status)
	}
}

// isLeft reports whether a failure is only that the client has hung up: whatever
// was done for it then ends with an error.
func (x *exchange) isLeft(r *gate.Refusal) bool {
	return errors.Is(x.r.Context().Err(), context.Canceled) &&
		(r.Code == gate.UpstreamFailed || errors.Is(r.Cause, context.Canceled))
}

// logEnded tells why a response that had begun came to no end of its own. The
// context is what it was served in.
func (x *exchange) logEnded(ctx context.Context, failure *gate.Refusal) {
	switch {
	case x.isLeft(failure) && x.r.Method == http.MethodGet: // which is how clients end such a stream
		x.logFailure(slog.LevelInfo, "a stream ended", &gate.Refusal{Reason: "the client left"}, http.StatusOK)
	case x.isLeft(failure):
		x.logAbandoned()
	case errors.Is(ctx.Err(), context.Canceled):
		x.logFailure(slog.LevelInfo, "a stream ended", &gate.Refusal{Reason: "its key, the rules of its server, or the gateway ended it"}, http.StatusOK)
	default:
		x.logCut(failure)
	}
}

// logCut tells of a response that was broken off: its client gets no reason.
func (x *exchange) logCut(failure *gate.Refusal) {
	if failure == nil {
		failure = &gate.Refusal{Code: gate.UpstreamFailed, Reason: "the response could not be sent to its end"}
	}
	x.logFailure(slog.LevelError, "a response was broken off", failure, 0)
}

// logAbandoned tells, once, of a call whose client left before the answer.
func (x *exchange) logAbandoned() {
	x.abandoned.Do(func() {
		x.logFailure(slog.LevelInfo, "a call was abandoned", &gate.Refusal{Reason: "the client left before the answer"}, 0)
	})
}

// logFailure writes a line about a call that failed. Every such line says the
// same of the call. The status is what the client was answered, 0 for nothing;
// on a stream whose head was out it is the head's.
func (x *exchange) logFailure(level slog.Level, message string, r *gate.Refusal, status int) {
	ctx := context.Background() // Caddy would add what stands in the access log, all of it a second time
	if !x.h.logger.Enabled(ctx, level) {
		return
	}
	account, key := "", ""
	if x.key != nil {
		account, key = x.key.Account, x.key.ID
	}
	cause := r.Reason
	switch {
	case r.Cause != nil:
		cause = r.Cause.Error()
	case cause == "":
		cause = answers[r.Code].text
	}
	x.h.logger.Log(ctx, level, message, "server", x.h.Server, "tool", x.tool(r), "charge", x.chargeID(), "account", account, "key", key,
		"code", r.Code, "status", status, "cause", cause)
}

// tool returns what the request asks for, as charges call it: what a refusal
// names, or the call, or the message. It is "" of what was not read, and cut if
// it is longer than anything that could be charged.
func (x *exchange) tool(r *gate.Refusal) string {
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
	const most = items.MaxName + 16
	return name[:min(len(name), most)]
}

// chargeID returns the id of the charge that the request is about, "" for none.
func (x *exchange) chargeID() string {
	if x.charged.id == "" && x.call != nil {
		return x.call.ID()
	}
	return x.charged.id
}
