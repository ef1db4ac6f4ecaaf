package caddymodule

import (
	"errors"
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
)

// httpApp has the name under which Caddy's HTTP app logs.
type httpApp struct{}

// CaddyModule returns the name alone: nothing is registered under it.
func (httpApp) CaddyModule() caddy.ModuleInfo { return caddy.ModuleInfo{ID: "http"} }

// accessLogger returns the logger of the access log.
func accessLogger(ctx caddy.Context) *zap.Logger {
	return ctx.Logger(httpApp{}).Named("log.access")
}

// accessRecord replaces Caddy's record of a request in the access log, with keys
// redacted. It is for sites with a header for keys, which Caddy does not know, and
// for requests with a key in another place. Caddy copies the request for its log
// before any handler can change it, including spellings of headers that handlers
// never see; so its own record is left out in any case.
type accessRecord struct {
	h       *Handler
	request *http.Request // a redacted copy
	w       caddyhttp.ResponseRecorder
	began   time.Time
	loggers []*zap.Logger
	x       *exchange.Exchange
	fields  []zap.Field
}

// serveRedacted serves a request with an accessRecord.
func (h *Handler) serveRedacted(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	a := &accessRecord{h: h, request: r.Clone(r.Context()), w: caddyhttp.NewResponseRecorder(w, nil, nil), began: clock.Now(), loggers: h.loggersOf(r)}
	h.conceal(a.request)
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	a.x = exchange.New(&h.site, &host{h: h, record: a}, next, a.w, r)
	defer a.write()
	err := statusOf(a.x.Serve())
	if err != nil { // Caddy would log it beside the request
		status := http.StatusInternalServerError
		var handled caddyhttp.HandlerError
		if errors.As(err, &handled) {
			status = handled.StatusCode
		}
		h.logger.Warn("a request was not served", "server", h.Server, "status", status, "error", err)
		a.w.WriteHeader(status)
	}
	return nil
}

// loggersOf returns the loggers that Caddy would use for the request: those of its
// host, or those that the route names. An unlogged request has none.
func (h *Handler) loggersOf(r *http.Request) []*zap.Logger {
	server := serverOf(r)
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
		loggers[i] = h.accessLog
		if name != "" {
			loggers[i] = h.accessLog.Named(name)
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

// keep adds fields, in place of older ones with their keys.
func (a *accessRecord) keep(fields []zap.Field) {
	for _, f := range fields {
		a.fields = append(slices.DeleteFunc(a.fields, func(old zap.Field) bool { return old.Key == f.Key }), f)
	}
}

// write writes the record, as Caddy does.
func (a *accessRecord) write() {
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
		zap.Int("bytes_read", a.x.BodyLen()), zap.String("user_id", a.x.Account()), zap.Duration("duration", clock.Since(a.began)),
		zap.Int("size", a.w.Size()), zap.Int("status", status),
		zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: a.w.Header()}),
	}, a.fields...)
	for _, logger := range a.loggers {
		if c := logger.Check(level, "handled request"); c != nil {
			c.Write(fields...)
		}
	}
}
