package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// forecast is a paid call with the arguments that the weather server requires.
var forecast = harness.ToolCall(7, "get_forecast", `{"city":"Oslo"}`)

// stub is a server that keeps each POST request and answers it with the handler that
// was passed to newStub.
type stub struct {
	url  string
	seen chan *http.Request // the requests, each with its trailer
}

func newStub(t *testing.T, answer http.HandlerFunc) *stub {
	t.Helper()
	s := &stub{seen: make(chan *http.Request, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler) // the gateway has disconnected
		}
		s.seen <- r
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // runs before Close, which waits for open connections
	s.url = server.URL
	return s
}

// result answers the request with the id 7.
func result(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"done"}]}}`)
}

// raw sends these bytes as a request, and returns the status and the body of the
// answer.
func raw(t *testing.T, g *harness.Gateway, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(clock.Deadline(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answers, err := readReplies(&attack{method: http.MethodPost}, conn)
	if err != nil {
		t.Fatal(err)
	}
	return answers[0].status, string(answers[0].body)
}

// TestIdentityIsTheGatewaysOwn checks that only the gateway states the caller's
// identity. Identity headers from a client reach no server, in any spelling or in a
// trailer. A client cannot remove the gateway's headers by naming them in Connection
// (CVE-2026-30851, CVE-2026-52845).
func TestIdentityIsTheGatewaysOwn(t *testing.T) {
	t.Parallel()
	server := newStub(t, result)
	g := binaries.StartGateway(t, harness.Site(server.url, "server stub", "provider acme", "price get_forecast 0.01", "identity_headers on"))
	account, key := g.NewAgent(t, "alice", "1.00")
	head := "POST /mcp HTTP/1.1\r\nHost: localhost:" + g.Port + "\r\nAuthorization: Bearer " + key.Secret +
		"\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	chunk := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n", len(forecast), forecast)
	for name, lines := range map[string]string{
		"plain":         "X-Farebox-Account: acct_evil\r\nX-Farebox-Key: key_evil\r\nX-Farebox-Scopes: admin\r\n",
		"spelled":       "x-farebox-account: acct_evil\r\nX_Farebox_Account: acct_evil\r\nX.Farebox.Account: acct_evil\r\nX-Farebox_Key: key_evil\r\nX-FAREBOX-SCOPES: admin\r\nX.FAREBOX_KEY: key_evil\r\n",
		"twice":         "X-Farebox-Account: acct_evil\r\nX-Farebox-Account: acct_worse\r\n",
		"unknown":       "X-Farebox-Admin: acct_evil\r\n",
		"in Connection": "Connection: close, X-Farebox-Account, x-farebox-key\r\nConnection: X-Farebox-Scopes\r\nX-Farebox-Account: acct_evil\r\n",
		"in a trailer":  "Trailer: X-Farebox-Account, X-Farebox-Key\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if status, body := raw(t, g, head+lines+chunk+"X-Farebox-Account: acct_evil\r\nX-Farebox-Key: key_evil\r\n\r\n"); status != http.StatusOK || !strings.Contains(body, "done") {
				t.Fatalf("%d %s", status, body)
			}
			r := <-server.seen
			if got := r.Header["X-Farebox-Account"]; len(got) != 1 || got[0] != account.ID {
				t.Errorf("account %q", got)
			}
			if got := r.Header["X-Farebox-Key"]; len(got) != 1 || got[0] != key.ID {
				t.Errorf("key %q", got)
			}
			for name, values := range r.Header {
				if strings.Contains(strings.Join(values, " "), "evil") || strings.Contains(strings.Join(values, " "), key.Secret) {
					t.Errorf("%s: %q reached the server", name, values)
				}
			}
			if len(r.Trailer) != 0 || r.Header.Get("Authorization") != "" {
				t.Errorf("trailer %v, header %v", r.Trailer, r.Header)
			}
		})
	}
}

// TestRetryKeyInHeader checks that a call that is sent again with the same
// Idempotency-Key header runs once, is charged once, and gets the first answer. The
// gateway does not forward the header, because transports retry requests that have it.
func TestRetryKeyInHeader(t *testing.T) {
	t.Parallel()
	var breaks atomic.Bool
	server := newStub(t, func(w http.ResponseWriter, r *http.Request) {
		if breaks.Load() {
			panic(http.ErrAbortHandler) // the tool ran, but its answer is lost
		}
		result(w, r)
	})
	g := binaries.StartGateway(t, harness.Site(server.url, "server stub", "provider acme", "price get_forecast 0.01"))
	account, key := g.NewAgent(t, "alice", "1.00")
	send := func(retry string) *harness.Answer {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, g.Endpoint(), strings.NewReader(forecast))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Idempotency-Key", retry)
		answer, err := g.Send(http.DefaultClient, key.Secret, r)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	first := send("k1")
	for range 2 {
		again := send("k1")
		if first.Result == nil || again.Result == nil || again.Result.Meta.Charge == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
			t.Fatalf("first %s, again %s", first.Body, again.Body)
		}
	}
	breaks.Store(true)
	if answer := send("k2"); answer.Code() != "UPSTREAM_FAILED" {
		t.Errorf("the server broke off: %d %s", answer.Status, answer.Body)
	}
	for _, want := range []string{"k1", "k2"} { // the server got one request for each key, without the header
		r := <-server.seen
		if r.Header.Get("Idempotency-Key") != "" {
			t.Errorf("%s: the header reached the server", want)
		}
	}
	if n := len(server.seen); n != 0 {
		t.Errorf("the server was asked %d times more", n)
	}
	if charges := g.Charges(t, account.ID); len(charges) != 1 || g.Account(t, "alice").Balance != ledger.Unit-10_000 {
		t.Errorf("charges %+v, balance %s", charges, g.Account(t, "alice").Balance)
	}
}

// TestBodiesInPieces checks that a body that arrives with each byte in its own chunk is
// judged and forwarded as a whole. A body that never ends is not forwarded.
func TestBodiesInPieces(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	body, w := io.Pipe()
	go func() {
		for i := range len(forecast) { // each Write sends one chunk
			if _, err := io.WriteString(w, forecast[i:i+1]); err != nil {
				t.Error(err)
			}
		}
		_ = w.Close()
	}()
	r, err := http.NewRequest(http.MethodPost, g.Endpoint(), body)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := g.Send(http.DefaultClient, key.Secret, r); err != nil || answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("%+v, %v", answer, err)
	}
	if sent := recorder.Requests(); len(sent) != 1 || string(sent[0].Body) != forecast || sent[0].Header.Get("Transfer-Encoding") != "" {
		t.Errorf("the server received %+v", sent)
	}

	// Send the same call again, without its last byte.
	conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s",
		g.Port, key.Secret, len(forecast), forecast[:len(forecast)-1])
	harness.Eventually(t, "the beginning of the body", func() error {
		if g.Metrics(t)["farebox_held_bytes"] == 0 {
			return errNotYet
		}
		return nil
	})
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the end of the request", func() error {
		if n := g.Metrics(t)["farebox_held_bytes"]; n != 0 {
			return fmt.Errorf("%v bytes are held", n)
		}
		return nil
	})
	if n := len(recorder.Requests()); n != 1 {
		t.Errorf("the server received %d requests; want only the first", n)
	}
	if a := g.Account(t, "alice"); a.Reserved != 0 || a.Balance != ledger.Unit-10_000 {
		t.Errorf("account %+v", a)
	}
}

// TestServerBreaksOff checks promise 2 of docs/promises.md. A server may break off its
// answer before the beginning or midway, in JSON or in a stream that has begun. In each
// case the client gets an error with the request's id, and nothing is charged.
func TestServerBreaksOff(t *testing.T) {
	t.Parallel()
	var how atomic.Value
	server := newStub(t, func(w http.ResponseWriter, _ *http.Request) {
		parts := how.Load().([]string)
		w.Header().Set("Content-Type", parts[0])
		for _, part := range parts[1:] {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	g := binaries.StartGateway(t, harness.Site(server.url, "server stub", "provider acme", "price get_forecast 0.01"))
	account, key := g.NewAgent(t, "alice", "1.00")
	const events, progress = "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n"
	for name, parts := range map[string][]string{
		"before JSON":              {"application/json"},
		"in JSON":                  {"application/json", `{"jsonrpc":"2.0","id":7,"result":{"content":[`},
		"in JSON, one byte early":  {"application/json", `{"jsonrpc":"2.0","id":7,"result":{"content":[]}`},
		"in events":                {events, progress},
		"in an event":              {events, progress, "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{"},
		"in an event, at its end":  {events, progress, "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}"},
		"in a comment of a stream": {events, progress, ": keep"},
	} {
		how.Store(parts)
		answer := post(t, g, key.Secret, forecast)
		if answer.Code() != "UPSTREAM_FAILED" || string(answer.ID) != "7" || answer.Result != nil {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
		if parts[0] == events && (answer.Status != http.StatusOK || !strings.Contains(answer.Body, "notifications/progress")) {
			t.Errorf("%s: the stream had begun: %d %s", name, answer.Status, answer.Body)
		}
	}
	if charges := g.Charges(t, account.ID); len(charges) != 0 || g.Account(t, "alice").Reserved != 0 {
		t.Errorf("charges %+v", charges)
	}
}

// TestHTTP2 checks that a call over HTTP/2 is judged, charged and settled like one over
// HTTP/1.1. This holds for an answer in one piece, for an answer in a stream, and for a
// request with a trailer. A client that leaves in the middle of a stream pays nothing.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t))
	site := harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01", "price watch_storm 0.05", "free list_cities")
	g := binaries.StartGateway(t, strings.Replace(site, "\tmetrics\n", "\tmetrics\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n", 1))
	account, key := g.NewAgent(t, "alice", "1.00")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	session := ""
	send := func(ctx context.Context, body string, change func(*http.Request)) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + key.Secret,
			"MCP-Protocol-Version": sessionVersion, "Mcp-Session-Id": session,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if change != nil {
			change(r)
		}
		return client.Do(r)
	}
	read := func(body string, change func(*http.Request)) (*http.Response, string) {
		t.Helper()
		resp, err := send(t.Context(), body, change)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s %v: %s", resp.Proto, err, text)
		}
		return resp, string(text)
	}
	begun, _ := read(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+sessionVersion+`","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, nil)
	session = begun.Header.Get("Mcp-Session-Id")

	if resp, text := read(forecast, nil); resp.StatusCode != http.StatusOK || !strings.Contains(text, "dev.farebox/charge") {
		t.Errorf("a call: %s %s", resp.Status, text)
	}
	if resp, text := read(forecast, func(r *http.Request) {
		r.ContentLength = -1
		r.Trailer = http.Header{"X-Farebox-Account": {"acct_evil"}, "Mcp-Session-Id": {"evil"}}
	}); resp.StatusCode != http.StatusOK || !strings.Contains(text, "dev.farebox/charge") {
		t.Errorf("a call with a trailer: %s %s", resp.Status, text)
	}
	if resp, text := read(forecast, func(r *http.Request) { r.Header.Del("Authorization") }); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "TOKEN_MISSING") {
		t.Errorf("a call without a token: %s %s", resp.Status, text)
	}
	if resp, text := read(strings.Replace(forecast, `"name"`, `"name":"list_cities","name"`, 1), nil); resp.StatusCode != http.StatusOK || !strings.Contains(text, "MESSAGE_INVALID") {
		t.Errorf("a call of two tools: %s %s", resp.Status, text)
	}
	if resp, text := read(forecast, func(r *http.Request) { r.Host = "evil.example" }); resp.StatusCode == http.StatusOK && text != "" {
		t.Errorf("a call to another host: %s %s", resp.Status, text)
	}

	// The client leaves after the first progress, before the answer.
	release := recorder.HoldAnswers()
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	storm := strings.Replace(harness.ToolCall(9, "watch_storm", `{"city":"Oslo","steps":2}`), `"params":{`, `"params":{"_meta":{"progressToken":"p"},`, 1)
	resp, err := send(ctx, storm, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first := make([]byte, 1); resp.ProtoMajor != 2 {
		t.Errorf("over %s", resp.Proto)
	} else if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	leave()
	_ = resp.Body.Close()
	harness.Eventually(t, "the client to be missed", func() error {
		if g.Metrics(t)[`farebox_abandoned_total{server="weather"}`] != 1 {
			return errNotYet
		}
		return nil
	})
	release()
	harness.Eventually(t, "the end of the call", func() error {
		if a := g.Account(t, "alice"); a.Reserved != 0 {
			return errors.New("it is reserved")
		}
		return nil
	})
	if charges := g.Charges(t, account.ID); len(charges) != 2 {
		t.Errorf("charges %+v; want two charges for forecasts", charges)
	}
	for _, r := range recorder.Requests() {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Farebox-") || name == "Authorization" {
				t.Errorf("%s reached the server", name)
			}
		}
	}
	g.VerifyLedger(t)
}

// TestStreamEndsWithItsClient checks that a stream opened by GET ends at the server
// when its client leaves. A GET with a body is refused, because an unread body would
// hide that the client has left.
func TestStreamEndsWithItsClient(t *testing.T) {
	t.Parallel()
	opened, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	server := newStub(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		opened <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	g := binaries.StartGateway(t, harness.Site(server.url, "server stub", "provider acme", "price get_forecast 0.01"))
	_, key := g.NewAgent(t, "alice", "")
	head := "GET /mcp HTTP/1.1\r\nHost: localhost:" + g.Port + "\r\nAuthorization: Bearer " + key.Secret + "\r\nAccept: text/event-stream\r\n"
	for _, body := range []string{"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
		if status, text := raw(t, g, head+body); status != http.StatusBadRequest || !strings.Contains(text, "REQUEST_UNSUPPORTED") {
			t.Errorf("a GET with a body: %d %s", status, text)
		}
	}
	if len(server.seen) != 0 {
		t.Error("a GET with a body reached the server")
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	<-opened
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(harness.Patience):
		t.Error("the stream outlived its client")
	}
}
