// Package calllog writes one structured record for each MCP request, with a logger of
// Caddy's that has a name of its own.
package calllog

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/trace"
)

// Name is the last part of the logger's name, http.handlers.farebox.calls.
const Name = "calls"

// message is the message of all records. It differs from "handled request", the
// message of Caddy's access log.
const message = "handled MCP request"

// Log implements exchange.CallLog. It is safe for concurrent use.
type Log struct {
	logger   *zap.Logger
	currency string
}

// New returns a log for the module that ctx belongs to. All amounts are in the given
// currency.
func New(ctx caddy.Context, currency string) *Log {
	return &Log{logger: ctx.Logger().Named(Name), currency: currency}
}

// Enabled reports whether at least one of Caddy's logs takes lines of the level INFO.
// Such a log may still exclude this logger by its name. Caddy checks the name only when
// a record is written.
func (l *Log) Enabled() bool { return l.logger.Core().Enabled(zapcore.InfoLevel) }

// Log writes a record. Every record has the same fields, in the same order.
func (l *Log) Log(ctx context.Context, r *exchange.Record) {
	entry := l.logger.Check(zapcore.InfoLevel, message)
	if entry == nil {
		return
	}
	amount, currency := "", ""
	if r.Amount != nil {
		amount, currency = r.Amount.String(), l.currency
	}
	client := ""
	if r.Client.IsValid() {
		client = r.Client.String()
	}
	entry.Write(
		zap.String("server", r.Server), zap.String("method", r.Method), zap.String("entry", r.Entry), zap.String("tool", r.Tool),
		zap.String("decision", r.Decision), zap.String("code", string(r.Code)), zap.Int("status", r.Status), zap.String("ended", string(r.Ended)),
		zap.String("account", r.Account), zap.String("key", r.Key), zap.Bool("test", r.Test),
		zap.String("charge", r.Charge), zap.String("amount", amount), zap.String("currency", currency), zap.Bool("replayed", r.Replayed),
		zap.Duration("duration", r.Duration), zap.Duration("added_duration", r.Added), zap.Duration("upstream_duration", r.Upstream),
		zap.Duration("reserve_duration", r.Reserve), zap.Duration("capture_duration", r.Captured),
		zap.Int("bytes_read", r.BytesRead), zap.Int64("size", r.BytesSent), zap.String("protocol_version", r.ProtocolVersion),
		zap.String("client_ip", client), zap.String("trace_id", trace.ID(ctx)),
	)
}

// Interface guard: the compiler checks that Log implements the interface.
var _ exchange.CallLog = (*Log)(nil)
