package accesslog

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fareboxhq/farebox/internal/exchange"
	"github.com/fareboxhq/farebox/internal/keys"
)

const host = "mcp.example.com"

// request returns a request to a server of Caddy with an access log.
func request(url string, header http.Header) *http.Request {
	r := httptest.NewRequest("POST", url, nil)
	r.Header = header
	ctx := context.WithValue(r.Context(), caddyhttp.ServerCtxKey, &caddyhttp.Server{Logs: &caddyhttp.ServerLogConfig{
		DefaultLoggerName: "default", SkipHosts: []string{"quiet.example.com"},
		LoggerNames: map[string]caddyhttp.StringArray{host: {"own", ""}, "*.other.example.com": {"wildcard"}},
	}})
	return r.WithContext(context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{}))
}

// TestRecord checks that a Redactor writes its record in place of Caddy, to the
// loggers of the request's host, with every key redacted.
func TestRecord(t *testing.T) {
	secret := keys.Mint(keys.Agent, keys.Live)
	for name, want := range map[string]string{
		host: "own,", "a.other.example.com": "wildcard", "else.example.com": "default", "quiet.example.com": "none",
	} {
		core, logged := observer.New(zapcore.InfoLevel)
		redactor := Redactor{
			Server: "weather", Secrets: &keys.DefaultFormat, Header: exchange.NewKeyHeader("X-API-Key"),
			Access: zap.New(core), Log: slog.New(slog.DiscardHandler),
		}
		r := request("https://"+name+"/mcp?key="+secret, http.Header{"X-Api-Key": {"any"}, "Referer": {"https://a.example/" + secret}})
		record, w := redactor.Begin(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusOK)
		record.Write(7, "acct_1")
		if skip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); !skip {
			t.Errorf("%s: Caddy writes its own record", name)
		}
		var loggers []string
		for _, entry := range logged.All() {
			loggers = append(loggers, entry.LoggerName)
			text, err := json.Marshal(entry.ContextMap())
			if err != nil || strings.Contains(string(text), secret[8:]) || strings.Contains(string(text), `"any"`) || !strings.Contains(string(text), `"user_id":"acct_1"`) {
				t.Errorf("%s: %s, %v", name, text, err)
			}
		}
		if got := strings.Join(loggers, ","); got != want && (want != "none" || len(loggers) > 0) {
			t.Errorf("%s: written to %q, want %q", name, got, want)
		}
	}
}

// TestFail checks that Fail answers a request with the status of its error, or with 500
// if the error has no status.
func TestFail(t *testing.T) {
	for status, err := range map[int]error{404: caddyhttp.Error(404, errors.New("no such page")), 500: errors.New("broken")} {
		redactor := Redactor{Secrets: &keys.DefaultFormat, Access: zap.NewNop(), Log: slog.New(slog.DiscardHandler)}
		w := httptest.NewRecorder()
		record, _ := redactor.Begin(w, request("https://"+host+"/mcp", nil))
		if record.Fail(err); w.Code != status {
			t.Errorf("%v: %d, want %d", err, w.Code, status)
		}
	}
}

// TestLeaks checks that Leaks reports a key in the URL of a request, or in a header
// that Caddy does not redact. A key in any other place is not reported.
func TestLeaks(t *testing.T) {
	secret := keys.Mint(keys.Agent, keys.Live)
	redactor := Redactor{Secrets: &keys.DefaultFormat}
	for name, c := range map[string]struct {
		path   string
		header http.Header
		want   bool
	}{
		"without a key":    {"/mcp", http.Header{"Referer": {"https://a.example/"}}, false},
		"in Authorization": {"/mcp", http.Header{"Authorization": {"Bearer " + secret}}, false},
		"in a header":      {"/mcp", http.Header{"Referer": {"https://a.example/" + secret}}, true},
		"in the query":     {"/mcp?key=" + secret, nil, true},
	} {
		if got := redactor.Leaks(request("https://"+host+c.path, c.header)); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
	if redactor.Leaks(httptest.NewRequest("POST", "/mcp?key="+secret, nil)) {
		t.Error("a server without an access log leaks a key")
	}
}
