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

// Redactor writes access log records with keys redacted, in place of Caddy, for
// requests of one handler. Which records it writes depends on the site. If the site has
// its own header for keys, it writes the records of all requests, because Caddy does
// not redact that header. At other sites it writes only the records of requests with a
// key in a wrong place, such as the URL; see Leaks. Caddy copies a request for its log
// before any handler runs, so no handler can redact that copy. Therefore the Redactor
// suppresses Caddy's own record. A Redactor is safe for concurrent use.
type Redactor struct {
	Server  string // the name of the MCP server, for log lines
	Secrets *keys.Format
	Header  exchange.KeyHeader
	Access  *zap.Logger // the logger that the function Logger returns
	Log     *slog.Logger
}

// httpApp stands in for Caddy's HTTP app: a logger that is made for an httpApp gets the
// same name as a logger that is made for the HTTP app.
type httpApp struct{}

// CaddyModule returns only the id, from which Caddy derives the name of the logger.
// The type is never registered as a module.
func (httpApp) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "http"} }

// Logger returns Caddy's logger of the access log, http.log.access.
func Logger(ctx caddy.Context) *zap.Logger { return ctx.Logger(httpApp{}).Named("log.access") }

// ServerOf returns the HTTP server of Caddy that received the request, or nil if the
// request's context has none.
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

// AddFields adds fields to Caddy's record of the request. It does nothing if the
// server writes no access log.
func AddFields(r *http.Request, fields []zap.Field) {
	if server := ServerOf(r); server != nil && server.Logs == nil {
		return
	}
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	for _, f := range fields {
		extra.Set(f)
	}
}

// Record is the access log record of one request, with keys redacted.
type Record struct {
	redactor *Redactor
	request  *http.Request // a copy of the request, with keys redacted
	w        caddyhttp.ResponseRecorder
	began    time.Time
	loggers  []*zap.Logger
	fields   []zap.Field
}

// Begin begins a record and suppresses Caddy's own record. The response must be written
// to the returned writer.
func (a *Redactor) Begin(w http.ResponseWriter, r *http.Request) (*Record, http.ResponseWriter) {
	record := &Record{redactor: a, request: r.Clone(r.Context()), w: caddyhttp.NewResponseRecorder(w, nil, nil), began: clock.Now(), loggers: a.loggersOf(r)}
	a.conceal(record.request)
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	return record, record.w
}

// Fail logs the error and answers the request with the status of the error. Caddy must
// not get the error, because Caddy would log the error together with the unredacted
// request.
func (a *Record) Fail(err error) {
	status := http.StatusInternalServerError
	var handled caddyhttp.HandlerError
	if errors.As(err, &handled) {
		status = handled.StatusCode
	}
	a.redactor.Log.Warn("a request was not served", "server", a.redactor.Server, "status", status, "error", err)
	a.w.WriteHeader(status)
}

// loggersOf returns the loggers that Caddy would use for the request: those that the
// route names, or else those of the request's host. It returns nil if Caddy would
// not log the request.
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

// loggerNames returns the names of a host's loggers. The second result reports
// whether the config maps the host to loggers, by its name or by a wildcard that
// covers the name.
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

// Keep adds fields to the record. A new field replaces an older one with the same
// key.
func (a *Record) Keep(fields []zap.Field) {
	for _, f := range fields {
		a.fields = append(slices.DeleteFunc(a.fields, func(old zap.Field) bool { return old.Key == f.Key }), f)
	}
}

// Write writes the record in Caddy's format. bodyLen is the number of body bytes that
// were read. account is the id of the caller's account, or "" if the caller is unknown.
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
