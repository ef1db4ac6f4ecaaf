// Package accesslog keeps keys out of Caddy's access log, and adds Farebox's fields
// to its records.
package accesslog

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/keys"
)

// Redactor writes the records of one handler's requests in place of Caddy. It is for
// sites with a header for keys, which Caddy does not know, and for requests with a
// key in another place. Caddy copies the request for its log before any handler can
// change it, including spellings of headers that handlers never see; so its own
// record is left out in any case. It is safe for concurrent use.
type Redactor struct {
	Server  string // the MCP server, for log lines
	Secrets *keys.Format
	Header  exchange.KeyHeader
	Access  *zap.Logger // see Logger
	Log     *slog.Logger
}

// httpApp has the name under which Caddy's HTTP app logs.
type httpApp struct{}

// CaddyModule returns the name alone: nothing is registered under it.
func (httpApp) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "http"} }

// Logger returns the logger of the access log.
func Logger(ctx caddy.Context) *zap.Logger { return ctx.Logger(httpApp{}).Named("log.access") }

// ServerOf returns Caddy's server of a request; nil without one.
func ServerOf(r *http.Request) *caddyhttp.Server {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server
}

// LogsCredentials reports whether the access log of the request's server contains
// Authorization headers.
func LogsCredentials(r *http.Request) bool {
	server := ServerOf(r)
	return server != nil && server.Logs != nil && server.Logs.ShouldLogCredentials
}

// AddFields adds fields to Caddy's record of the request.
func AddFields(r *http.Request, fields []zap.Field) {
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	for _, f := range fields {
		extra.Set(f)
	}
}

// Record is the record of one request, with keys redacted.
type Record struct {
	redactor *Redactor
	request  *http.Request // a redacted copy
	w        caddyhttp.ResponseRecorder
	began    time.Time
	loggers  []*zap.Logger
	fields   []zap.Field
}

// Begin begins a record in place of Caddy's. The response must be written to the
// returned writer.
func (a *Redactor) Begin(w http.ResponseWriter, r *http.Request) (*Record, http.ResponseWriter) {
	record := &Record{redactor: a, request: r.Clone(r.Context()), w: caddyhttp.NewResponseRecorder(w, nil, nil), began: clock.Now(), loggers: a.loggersOf(r)}
	a.conceal(record.request)
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	return record, record.w
}

// Fail ends a request that was not served with the error's status. Caddy would log
// the error beside the request.
func (a *Record) Fail(err error) {
	status := http.StatusInternalServerError
	var handled caddyhttp.HandlerError
	if errors.As(err, &handled) {
		status = handled.StatusCode
	}
	a.redactor.Log.Warn("a request was not served", "server", a.redactor.Server, "status", status, "error", err)
	a.w.WriteHeader(status)
}

// loggersOf returns the loggers that Caddy would use for the request: those of its
// host, or those that the route names. An unlogged request has none.
func (a *Redactor) loggersOf(r *http.Request) []*zap.Logger {
	server := ServerOf(r)
	if skip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); server == nil || server.Logs == nil || skip {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(host)
	names, mapped := loggerNames(server.Logs, host)
	if !mapped && (server.Logs.SkipUnmappedHosts || slices.ContainsFunc(server.Logs.SkipHosts, func(skip string) bool { return certmagic.MatchWildcard(host, skip) })) {
		return nil
	}
	if chosen, ok := caddyhttp.GetVar(r.Context(), caddyhttp.AccessLoggerNameVarKey).([]any); ok {
		names = names[:0:0]
		for _, name := range chosen {
			text, _ := name.(string)
			names = append(names, text)
		}
	}
	loggers := make([]*zap.Logger, len(names))
	for i, name := range names {
		loggers[i] = a.Access
		if name != "" {
			loggers[i] = a.Access.Named(name)
		}
	}
	return loggers
}

// loggerNames returns the names of a host's loggers, and whether the host has
// any of its own.
func loggerNames(logs *caddyhttp.ServerLogConfig, host string) ([]string, bool) {
	if names, ok := logs.LoggerNames[host]; ok {
		return names, true
	}
	labels := strings.Split(host, ".")
	for i := range labels {
		if labels[i] != "" {
			labels[i] = "*"
			if names, ok := logs.LoggerNames[strings.Join(labels, ".")]; ok {
				return names, true
			}
		}
	}
	return []string{logs.DefaultLoggerName}, false
}

// Keep adds fields, in place of older ones with their keys.
func (a *Record) Keep(fields []zap.Field) {
	for _, f := range fields {
		a.fields = append(slices.DeleteFunc(a.fields, func(old zap.Field) bool { return old.Key == f.Key }), f)
	}
}

// Write writes the record, as Caddy does. BodyLen is the number of body bytes that
// were read, and account the caller's account id, if it is known.
func (a *Record) Write(bodyLen int, account string) {
	if len(a.loggers) == 0 {
		return
	}
	status := a.w.Status()
	level := zap.InfoLevel
	if status >= 500 {
		level = zap.ErrorLevel
	}
	fields := append([]zap.Field{
		zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: a.request}),
		zap.Int("bytes_read", bodyLen), zap.String("user_id", account), zap.Duration("duration", clock.Since(a.began)),
		zap.Int("size", a.w.Size()), zap.Int("status", status),
		zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: a.w.Header()}),
	}, a.fields...)
	for _, logger := range a.loggers {
		if c := logger.Check(level, "handled request"); c != nil {
			c.Write(fields...)
		}
	}
}
