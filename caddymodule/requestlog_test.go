package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fareboxhq/farebox/internal/clock"
)

// loggedSite is a site with a readable log. The name of the called tool decides how
// the server behind it behaves.
type loggedSite struct {
	url, secret, log string
	client           *http.Client
	seen             chan http.Header // headers of the requests that reach the server
	release          chan struct{}    // lets slow tools end
}

func newLoggedSite(t *testing.T) *loggedSite {
	t.Helper()
	return newLoggedSiteWith(t, map[string]any{"header": "X-API-Key"})
}

// newLoggedSiteWith is like newLoggedSite, but with another header for keys, or with
// none if credentials is nil.
func newLoggedSiteWith(t *testing.T, credentials map[string]any) *loggedSite {
	t.Helper()
	s := &loggedSite{log: filepath.Join(t.TempDir(), "log"), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, seen: make(chan http.Header, 100), release: make(chan struct{})}
	upstream := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(upstream.Close)
	listen := freeAddress(t)
	s.url = "http://" + listen + "/mcp"
	price := func(tool, amount string) any { return map[string]any{"tool": tool, "amount": amount} }
	text, err := json.Marshal(map[string]any{
		"admin": map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{
			"writer": map[string]any{"output": "file", "filename": s.log}, "encoder": map[string]any{"format": "json"},
		}}},
		"apps": map[string]any{
			"farebox": map[string]any{"store": map[string]any{"path": filepath.Join(t.TempDir(), "f.db")}},
			"http": map[string]any{"servers": map[string]any{"mcp": map[string]any{
				"listen": []string{listen}, "automatic_https": map[string]any{"disable": true}, "logs": map[string]any{},
				"routes": []any{map[string]any{"handle": []any{
					map[string]any{"handler": "farebox", "server": "weather", "provider": "acme", "credentials": credentials, "origins": []string{"https://app.example.com"},
						"methods": []any{map[string]any{"method": "notifications/secret/*", "amount": "deny"}},
						"prices":  []any{price("broken", "0.01"), price("foreign", "0.01"), price("slow 日本", "0.01"), price("slow_free", "0"), price("dear", "1000"), price("broken_free", "0"), price("good", "0.01"), price("cut", "0.01")}},
					map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": strings.TrimPrefix(upstream.URL, "http://")}},
						"transport": map[string]any{"protocol": "http", "keep_alive": map[string]any{"enabled": false}}},
				}}},
			}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(text, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { close(s.release) }) // this runs before Caddy stops, because stopping waits for the slow calls
	s.secret = fund(t)
	return s
}

func (s *loggedSite) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.seen <- r.Header
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case bytes.Contains(body, []byte("notifications/")):
		w.WriteHeader(http.StatusAccepted)
	case bytes.Contains(body, []byte("broken")):
		panic(http.ErrAbortHandler)
	case bytes.Contains(body, []byte("foreign")):
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":"another","result":{}}`)
	case bytes.Contains(body, []byte("slow")):
		// In a session, a call goes on after its client has left, so the test ends it
		// by closing s.release.
		select {
		case <-r.Context().Done():
		case <-s.release:
		}
	case bytes.Contains(body, []byte("cut")):
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}
}

func (s *loggedSite) post(ctx context.Context, body string, header http.Header) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", s.url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	r.Header = header.Clone()
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func (s *loggedSite) call(ctx context.Context, tool string) {
	_, _, _ = s.post(ctx, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`"}}`, http.Header{"Authorization": {"Bearer " + s.secret}})
}

// line waits for a record r that has the given message and for which ok(r) is true.
func (s *loggedSite) line(t *testing.T, message string, ok func(map[string]any) bool) map[string]any {
	t.Helper()
	for deadline := clock.Now().Add(20 * time.Second); ; {
		text, err := os.ReadFile(s.log)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			var record map[string]any
			if json.Unmarshal(lines.Bytes(), &record) == nil && record["msg"] == message && ok(record) {
				return record
			}
		}
		if clock.Now().After(deadline) {
			t.Fatalf("no record %q of that kind in\n%s", message, text)
		}
		time.Sleep(time.Millisecond) // bounded polling: the log is a file
	}
}

// TestEveryFailureIsLogged checks that each failed call is logged with its server,
// tool, charge, key, account, status and cause. A refusal is logged in the record of
// the access log.
func TestEveryFailureIsLogged(t *testing.T) {
	s := newLoggedSite(t)
	for _, c := range []struct {
		tool, message, cause string
		status               float64
		free                 bool
	}{
		{"broken", "a call failed", "", 200, false},
		{"broken_free", "a call failed", "", 200, true},
		{"foreign", "a call failed", "its answer cannot be matched: ", 200, false}, // the answer has another id, so it is withheld
		{"cut", "a response was broken off", "it broke its answer off", 0, false},
		{"slow 日本", "a call was abandoned", "the client left before the answer", 0, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.call(ctx, c.tool); close(done) }()
		<-s.seen
		if strings.HasPrefix(c.tool, "slow") {
			cancel()
		}
		<-done
		cancel()
		r := s.line(t, c.message, func(r map[string]any) bool { return r["tool"] == c.tool })
		charge, _ := r["charge"].(string)
		account, _ := r["account"].(string)
		key, _ := r["key"].(string)
		cause, _ := r["cause"].(string)
		if r["server"] != "weather" || !strings.HasPrefix(account, "acct_") || !strings.HasPrefix(key, "key_") || strings.HasPrefix(charge, "chg_") == c.free ||
			!strings.Contains(cause, c.cause) || cause == "" {
			t.Errorf("%s: %v", c.tool, r)
		}
		if status, _ := r["status"].(float64); status != c.status {
			t.Errorf("%s: status %v, want %v", c.tool, r["status"], c.status)
		}
	}
	for tool, code := range map[string]string{"dear": "INSUFFICIENT_BALANCE", "unknown": "TOOL_UNKNOWN"} {
		s.call(t.Context(), tool)
		r := s.line(t, "handled request", func(r map[string]any) bool { return r["farebox_refused"] == code })
		if r["farebox_tool"] != tool || r["farebox_server"] != "weather" || r["farebox_account"] == nil || r["farebox_key"] == nil || r["status"] == nil {
			t.Errorf("%s: %v", tool, r)
		}
	}
}

// TestKeyInAHeaderOfTheSite checks that a key in the site's own header admits a call if
// it is the only credential. The key never reaches the server or the log, however the
// header's name is spelled.
func TestKeyInAHeaderOfTheSite(t *testing.T) {
	s := newLoggedSite(t)
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"good"}}`
	resp, text, err := s.post(t.Context(), call, http.Header{"X-Api-Key": {s.secret}, "X_api.key": {s.secret}})
	if err != nil || resp.StatusCode != 200 || !strings.Contains(text, "dev.farebox/receipt") {
		t.Fatalf("%v %v %s", err, resp, text)
	}
	for name, values := range <-s.seen {
		if strings.Contains(strings.Join(values, " "), s.secret) {
			t.Errorf("the server got %s", name)
		}
	}
	r := s.line(t, "handled request", func(r map[string]any) bool { return r["farebox_charged"] == true })
	if request, _ := r["request"].(map[string]any); !strings.Contains(toText(request["headers"]), `"X-Api-Key":["REDACTED"]`) || r["status"] != 200.0 || r["user_id"] == "" || r["logger"] != "http.log.access" {
		t.Errorf("the record is %v", r)
	}
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"two at once":       {http.Header{"X-Api-Key": {s.secret}, "Authorization": {"Bearer " + s.secret}}, "more than one credential"},
		"the header twice":  {http.Header{"X-Api-Key": {s.secret, s.secret}}, "more than one credential"},
		"with a scheme":     {http.Header{"X-Api-Key": {"Bearer " + s.secret}}, "X-API-Key has the key alone"},
		"too long":          {http.Header{"X-Api-Key": {strings.Repeat("x", 513)}}, "Invalid agent token"},
		"empty":             {http.Header{"X-Api-Key": {""}}, "the header X-API-Key is empty"},
		"for this hop":      {http.Header{"X-Api-Key": {s.secret}, "Connection": {"x-api-key"}}, "cannot be for this hop alone"},
		"in a spelling":     {http.Header{"X_api_key": {s.secret}}, "Token missing"},
		"another header":    {http.Header{"Api-Key": {"x"}}, "the header Api-Key is not read here"},
		"a bare key":        {http.Header{"Authorization": {s.secret}}, "no key after the scheme Bearer"},
		"of another scheme": {http.Header{"Authorization": {"Basic eDp5"}}, `Send the key either as \"Authorization: Bearer <key>\" or as \"X-API-Key: <key>\"`},
	} {
		resp, text, err := s.post(t.Context(), call, c.header)
		if err != nil || resp.StatusCode != 401 && name != "for this hop" || !strings.Contains(text, c.want) || strings.Contains(text, s.secret) {
			t.Errorf("%s: %v %v %s", name, err, resp, text)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(s.log)
	if err != nil || bytes.Contains(log, []byte(s.secret)) {
		t.Errorf("%v: the key is in the log:\n%s", err, log)
	}
	// The cleanup of the site stops the running config. The test has stopped it
	// above, so load another one.
	if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true); err != nil {
		t.Fatal(err)
	}
}

func toText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestNotificationsOfExtensions checks that notifications outside the protocol reach
// the server free of charge, unless a rule denies them. A message without an id but
// with the method of a request never reaches the server.
func TestNotificationsOfExtensions(t *testing.T) {
	s := newLoggedSite(t)
	bearer := http.Header{"Authorization": {"Bearer " + s.secret}}
	for method, want := range map[string]int{
		"notifications/vendor/thing": 202, "notifications/secret": 202, "notifications/initialized": 202,
		"notifications/secret/x": 400, "Notifications/vendor": 400, "vendor/thing": 400, "resources/read": 400,
	} {
		params := `{}`
		if method == "resources/read" {
			params = `{"uri":"docs://a"}`
		}
		resp, text, err := s.post(t.Context(), `{"jsonrpc":"2.0","method":"`+method+`","params":`+params+`}`, bearer)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v %s", method, err, resp, text)
		}
		if reached := len(s.seen); (reached == 1) != (want == 202) {
			t.Errorf("%s reached the server %d times", method, reached)
		}
		for range len(s.seen) {
			<-s.seen
		}
	}
	resp, text, err := s.post(t.Context(), `{"jsonrpc":"2.0","method":"notifications/vendor/thing","params":{"taskId":"of another"}}`, bearer)
	if err != nil || resp.StatusCode == 202 || !strings.Contains(text, "TASK_UNKNOWN") || len(s.seen) != 0 {
		t.Errorf("about another account's task: %v %v %s", err, resp, text)
	}
}

// TestPreflightAllowsWhatIsAsked checks that the answer to a preflight allows the
// site's own header for keys, and the headers Mcp-Param-NAME, in which a client repeats
// arguments of a tool call. The answer does not mention other headers that a web page
// wants to send.
func TestPreflightAllowsWhatIsAsked(t *testing.T) {
	s := newLoggedSite(t)
	r, err := http.NewRequestWithContext(t.Context(), "OPTIONS", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "mcp-param-region, Mcp-Param-Zone,x-other, mcp-param-, mcp-param-a b")
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	allowed := resp.Header.Get("Access-Control-Allow-Headers")
	const mcp = "Authorization, Content-Type, Accept, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID, Idempotency-Key"
	if want := mcp + ", X-API-Key, mcp-param-region, mcp-param-zone"; allowed != want || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Access-Control-Request-Headers") {
		t.Errorf("%s\nwant %s; %v", allowed, want, resp.Header)
	}
}
