package integration

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// refusal is a request that the gateway must refuse, with the expected answer.
type refusal struct {
	name   string
	secret string
	body   string

	status    int
	rpc       int
	code      string
	id        string // the id that the answer must have
	challenge string // the value that the header WWW-Authenticate must have
	text      string // a text that the message must contain
}

// TestRefusals checks promise 8 of docs/promises.md. A request that is not allowed, or
// that the gateway cannot judge, is refused with a reason and the request's id. The
// form of the refusal does not break clients. The request does not reach the server.
func TestRefusals(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL,
		"server weather", "provider acme", "price get_forecast 0.01", "free list_cities", "unpriced deny", "max_body 64KiB"))
	_, key := g.NewAgent(t, "agent", "5.00")
	test := g.NewKey(t, "agent", "--test")
	provider := g.NewKey(t, "acme", "--kind", "provider")
	deleted := g.NewKey(t, "agent", "--expires", "24h")
	paid := harness.ToolCall(7, "get_forecast", `{"city":"Oslo"}`)
	if answer := post(t, g, deleted.Secret, paid); answer.Result == nil {
		t.Fatalf("a good key is refused: %s", answer.Body)
	}
	g.CLI(t, nil, "key", "delete", deleted.ID)
	seen := len(recorder.Requests())

	invalid := `Bearer realm="weather", error="invalid_token"`
	unknown := "sk_live_" + strings.Repeat("0", 64)
	for _, c := range []refusal{
		{name: "no token", body: paid, status: 401, rpc: 401, code: "TOKEN_MISSING", id: "7", challenge: `Bearer realm="weather"`, text: "Token missing"},
		{name: "no token, no message", body: `{`, status: 401, rpc: 401, code: "TOKEN_MISSING", id: "null", challenge: `Bearer realm="weather"`},
		{name: "no token of ours", secret: "abc", body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid, text: "Invalid agent token"},
		{name: "wrong checksum", secret: unknown, body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid},
		{name: "one digit wrong", secret: mistype(key.Secret), body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid},
		{name: "deleted key, seen before", secret: deleted.Secret, body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid},
		{name: "key of another kind", secret: provider.Secret, body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid},
		{name: "test key on a live server", secret: test.Secret, body: paid, status: 401, rpc: 401, code: "TOKEN_INVALID", id: "7", challenge: invalid},
		{name: "a text for an id", body: `{"jsonrpc":"2.0","id":"seven","method":"ping"}`, status: 401, rpc: 401, code: "TOKEN_MISSING", id: `"seven"`, challenge: `Bearer realm="weather"`},
		{name: "unpriced tool", secret: key.Secret, body: harness.ToolCall(8, "climate_report", `{"city":"Oslo"}`), status: 200, rpc: -32602, code: "TOOL_UNKNOWN", id: "8", text: "climate_report"},
		{name: "unknown tool", secret: key.Secret, body: harness.ToolCall(9, "rm", `{}`), status: 200, rpc: -32602, code: "TOOL_UNKNOWN", id: "9", text: "Unknown tool: rm"},
		{name: "unknown method", secret: key.Secret, body: `{"jsonrpc":"2.0","id":10,"method":"admin/shutdown"}`, status: 200, rpc: -32601, code: "METHOD_UNKNOWN", id: "10"},
		{name: "no JSON", secret: key.Secret, body: `{"jsonrpc":`, status: 400, rpc: -32700, id: "null"},
		{name: "empty", secret: key.Secret, body: ``, status: 400, rpc: -32700, id: "null"},
		{name: "two messages", secret: key.Secret, body: paid + paid, status: 400, rpc: -32700, id: "null"},
		{name: "duplicate name", secret: key.Secret, body: `{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"list_cities","name":"climate_report"}}`, status: 200, rpc: -32600, id: "11"},
		{name: "batch", secret: key.Secret, body: `[` + paid + `,` + paid + `]`, status: 400, rpc: -32600, id: "null"},
		{name: "call without an id", secret: key.Secret, body: `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"get_forecast","arguments":{"city":"Oslo"}}}`, status: 400, rpc: -32600, id: "null"},
		{name: "fractional id", secret: key.Secret, body: strings.Replace(paid, `"id":7`, `"id":7.5`, 1), status: 400, rpc: -32600, id: "null"},
		{name: "too large", secret: key.Secret, body: harness.ToolCall(12, "list_cities", `{"x":"`+strings.Repeat("x", 70<<10)+`"}`), status: 413, rpc: 413, code: "MESSAGE_TOO_LARGE", id: "null"},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, post(t, g, c.secret, c.body)) })
	}
	if n := len(recorder.Requests()) - seen; n != 0 {
		t.Errorf("%d of the requests reached the server: %+v", n, recorder.Requests()[seen:])
	}
	if n := len(g.Charges(t, "agent")); n != 1 {
		t.Errorf("%d charges; want the one from before", n)
	}
}

func (c *refusal) check(t *testing.T, got *harness.Answer) {
	t.Helper()
	if got.Status != c.status || string(got.ID) != c.id || got.Header.Get("WWW-Authenticate") != c.challenge {
		t.Errorf("got status %d, id %s, challenge %q; want %d, %s, %q", got.Status, got.ID, got.Header.Get("WWW-Authenticate"), c.status, c.id, c.challenge)
	}
	if got.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
		t.Errorf("got headers %v", got.Header)
	}
	if ends := got.Header.Get("X-Farebox-Key-Expires"); ends != "" { // this header would distinguish a former key from an unknown one
		t.Errorf("it reports a key that ends %s", ends)
	}
	if got.Error == nil {
		t.Fatalf("got no JSON-RPC error: %s", got.Body)
	}
	if got.Error.Code != c.rpc || c.code != "" && got.Code() != c.code || got.Code() == "" || !strings.Contains(got.Error.Message, c.text) {
		t.Errorf("got %s; want code %d, %s, text %q", got.Body, c.rpc, c.code, c.text)
	}
}

// mistype changes one digit in the middle of a secret.
func mistype(secret string) string {
	i := len(secret) / 2
	digit := "0"
	if secret[i] == '0' {
		digit = "1"
	}
	return secret[:i] + digit + secret[i+1:]
}

func post(t *testing.T, g *harness.Gateway, secret, body string) *harness.Answer {
	t.Helper()
	answer, err := g.Post(t.Context(), http.DefaultClient, secret, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestOutsideOfMCP checks that paths outside the MCP server return a real 404, and so
// do the paths where clients look for an authorization server.
func TestOutsideOfMCP(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "free list_cities"))
	for _, path := range []string{"/", "/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"} {
		resp, err := http.Get("http://localhost:" + g.Port + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got status %s; want 404", path, resp.Status)
		}
	}
	if n := len(recorder.Requests()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// TestForeignPagesAreKeptOut checks that a request from a web page of another origin
// gets a 403 before the gateway looks at its token. A request for a foreign host name
// gets the same answer. A page sends such a request if the page's domain name was
// pointed at this machine.
func TestForeignPagesAreKeptOut(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, strings.Replace(
		harness.Site(recorder.URL, "server weather", "provider acme", "free list_cities"),
		"http://localhost:{$FAREBOX_PORT}", "http://:{$FAREBOX_PORT}", 1))
	_, key := g.NewAgent(t, "agent", "")
	for _, c := range []struct {
		host, origin, code string
	}{{"localhost:" + g.Port, "https://evil.example", "ORIGIN_FORBIDDEN"}, {"evil.example", "", "HOST_FORBIDDEN"}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(1, "list_cities", `{}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("Authorization", "Bearer "+key.Secret)
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), c.code) {
			t.Errorf("host %s, origin %q: got %s %s, %v; want 403 %s", c.host, c.origin, resp.Status, body, err, c.code)
		}
	}
	if n := len(recorder.Requests()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// TestStoreDown checks promise 8 of docs/promises.md. While the key store cannot be
// read, a key that is not cached is neither accepted nor called invalid. The answer is
// an error with retry_after_ms and an X-Farebox-Error header, which identifies the
// error to intermediaries. The request does not reach the server.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "agent", "5.00")
	spoil(t, filepath.Join(g.Data(), "farebox.db"))

	got := post(t, g, key.Secret, harness.ToolCall(7, "get_forecast", `{"city":"Oslo"}`))
	(&refusal{status: 200, rpc: 503, code: "STORE_UNAVAILABLE", id: "7"}).check(t, got)
	if got.Header.Get("Retry-After") != "" || got.Header.Get("X-Farebox-Error") != "STORE_UNAVAILABLE" || !strings.Contains(got.Body, `"retry_after_ms":5000`) {
		t.Errorf("got headers %v and %s; want retry_after_ms, and X-Farebox-Error", got.Header, got.Body)
	}
	if n := len(recorder.Requests()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

// TestCaptureFails checks promise 1 of docs/promises.md. When the store fails between
// the reservation and the capture, the server has run the tool, but no byte of its
// result leaves the gateway.
func TestCaptureFails(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "agent", "5.00")
	release := recorder.HoldAnswers()
	defer release()
	type outcome struct {
		answer *harness.Answer
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		answer, err := g.Post(t.Context(), http.DefaultClient, key.Secret, harness.ToolCall(7, "get_forecast", `{"city":"Oslo"}`))
		done <- outcome{answer, err}
	}()
	harness.Eventually(t, "the call to reach the server", func() error {
		if recorder.Calls("get_forecast") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	spoil(t, filepath.Join(g.Data(), "farebox.db"))
	release()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.answer.Code() != "CHARGE_FAILED" || string(o.answer.ID) != "7" || o.answer.Result != nil {
		t.Errorf("got status %d, %s; want an error CHARGE_FAILED with id 7", o.answer.Status, o.answer.Body)
	}
	if strings.Contains(o.answer.Body, "snow") {
		t.Errorf("the result left the gateway: %s", o.answer.Body)
	}
}

// spoil overwrites a database and its companion files in place, so that the process
// that has the database open reads garbage.
func spoil(t *testing.T, database string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		file, err := os.OpenFile(database+suffix, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.WriteAt([]byte(strings.Repeat("spoilt! ", int(info.Size())/8)), 0)
		if closing := file.Close(); err != nil || closing != nil {
			t.Fatal(err, closing)
		}
	}
}
