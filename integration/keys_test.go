package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

var errNotYet = errors.New("not yet")

// managed is a key as "key rotate" prints it, with the secret of the new key.
type managed struct {
	harness.Key
	State   string `json:"state"`
	Lineage string `json:"lineage"`
}

// TestKeyLife checks promise 6 of docs/promises.md with the real binary. Each change of
// a key applies to the first call made after the command returned, even if the key is
// cached.
func TestKeyLife(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, harness.Site(upstream, "server weather", "provider acme", "free list_cities"))
	_, key := g.NewAgent(t, "alice", "")
	call := harness.ToolCall(1, "list_cities", `{}`)
	expect := func(what, secret, code string) {
		t.Helper()
		answer := post(t, g, secret, call)
		if got := answer.Code(); got != code || code == "" && answer.Result == nil {
			t.Errorf("%s: code %q, want %q: %s", what, got, code, answer.Body)
		}
	}
	steps := []struct {
		args []string
		code string
	}{
		{[]string{"disable", key.ID}, "TOKEN_INVALID"},
		{[]string{"enable", key.ID}, ""},
		{[]string{"update", key.ID, "--server", "mail", "--force"}, "TOKEN_INVALID"},
		{[]string{"update", key.ID, "--server", "mail", "--server", "weather"}, ""},
		{[]string{"update", key.ID, "--expires", "1ns"}, "TOKEN_EXPIRED"},
		{[]string{"update", key.ID, "--expires", "never", "--all-servers", "--name", "laptop"}, ""},
		{[]string{"delete", key.ID}, "TOKEN_INVALID"},
		{[]string{"delete", key.ID}, "TOKEN_INVALID"},
	}
	expect("at first", key.Secret, "")
	for _, step := range steps {
		g.CLI(t, nil, append([]string{"key"}, step.args...)...)
		expect(strings.Join(step.args, " "), key.Secret, step.code)
	}
	if _, err := g.Command("key", "enable", key.ID); err == nil || !strings.Contains(err.Error(), "is deleted") {
		t.Errorf("a deleted key came back: %v", err)
	}

	// The successor has the same rights, and the old key gets a grace period.
	old := g.NewKey(t, "alice", "--name", "server", "--server", "weather")
	var kept, last managed
	g.CLI(t, &kept, "key", "rotate", old.ID, "--grace", "1h")
	g.AddSecret(kept.Secret)
	if kept.Lineage != old.ID || kept.State != "active" {
		t.Errorf("successor %+v", kept)
	}
	expect("old key in its grace", old.Secret, "")
	expect("successor", kept.Secret, "")
	g.CLI(t, &last, "key", "rotate", kept.ID)
	g.AddSecret(last.Secret)
	expect("old key without grace", kept.Secret, "TOKEN_EXPIRED")
	expect("second successor", last.Secret, "")
	if last.Lineage != old.ID {
		t.Errorf("the lineage was broken: %+v", last)
	}
}

// openStream starts a session and opens its stream by GET.
func openStream(t *testing.T, g *harness.Gateway, secret string) *http.Response {
	t.Helper()
	begun := post(t, g, secret, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Endpoint(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Mcp-Session-Id", begun.Header.Get("Mcp-Session-Id"))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("no stream: %s", resp.Status)
	}
	return resp
}

// TestStreamsEndWithTheirKey checks promise 6 of docs/promises.md. A stream ends within
// a second after its key is deleted, is disabled, expires, or is restricted to other
// servers.
func TestStreamsEndWithTheirKey(t *testing.T) {
	upstream := binaries.StartWeather(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server weather", "provider acme", "free list_cities"))
	g.CLI(t, nil, "account", "create", "alice")
	for _, end := range [][]string{{"delete"}, {"disable"}, {"update", "--server", "mail", "--force"}, {"update", "--expires", "100ms"}} {
		key := g.NewKey(t, "alice")
		resp := openStream(t, g, key.Secret)
		ended := make(chan time.Time, 1)
		go func() {
			defer resp.Body.Close()
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			}
			ended <- clock.Now()
		}()
		args := append([]string{"key", end[0], key.ID}, end[1:]...)
		g.CLI(t, nil, args...)
		returned := clock.Now()
		select {
		case at := <-ended:
			if late := at.Sub(returned); late > time.Second {
				t.Errorf("%v: the stream lived on for %v", end, late)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%v: the stream lives on", end)
			_ = resp.Body.Close()
		}
	}
}

// TestDispatchedCallOutlivesItsKey checks that a paid call that was sent to the server
// before its key ended still settles.
func TestDispatchedCallOutlivesItsKey(t *testing.T) {
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	account, key := g.NewAgent(t, "alice", "1.00")
	release := recorder.HoldAnswers()
	answered := make(chan *harness.Answer, 1)
	go func() {
		answer, err := g.Post(context.Background(), http.DefaultClient, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`))
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	}()
	harness.Eventually(t, "the call at the server", func() error {
		if recorder.Calls("get_forecast") == 0 {
			return errNotYet
		}
		return nil
	})
	g.CLI(t, nil, "key", "delete", key.ID)
	release()
	answer := <-answered
	if answer == nil || answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("the call did not settle: %+v", answer)
	}
	if charges := g.Charges(t, account.ID); len(charges) != 1 || charges[0].ID != answer.Result.Meta.Charge.ID {
		t.Errorf("charges %+v", charges)
	}
}

// TestKeyThatEndsWhileItsBodyComes checks promise 6 of docs/promises.md. A client
// controls how fast its request's body arrives. The gateway therefore checks the key
// when the body is complete, not when the body begins.
func TestKeyThatEndsWhileItsBodyComes(t *testing.T) {
	upstream := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, harness.Site(upstream, "server weather", "provider acme", "price get_forecast 0.01"))
	account, _ := g.NewAgent(t, "alice", "1.00")
	listen := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	for name, c := range map[string]struct{ body, header string }{
		"paid call": {harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`), ""},
		"stream":    {listen, "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n"},
	} {
		key := g.NewKey(t, "alice")
		conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
			"Accept: application/json, text/event-stream\r\n%sContent-Length: %d\r\n\r\n%s", g.Port, key.Secret, c.header, len(c.body), c.body[:10])
		harness.Eventually(t, "the key was looked up", func() error {
			if g.Metrics(t)["farebox_held_bytes"] < 10 {
				return errNotYet
			}
			return nil
		})
		g.CLI(t, nil, "key", "delete", key.ID)
		fmt.Fprint(conn, c.body[10:])
		if err := conn.SetReadDeadline(clock.Deadline(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if charges := g.Charges(t, account.ID); len(charges) != 0 {
		t.Errorf("charges %+v", charges)
	}
}

// TestStopEndsStreams checks that SIGTERM ends open streams so that the process can
// exit. Without a grace period, Caddy would wait for the streams forever.
func TestStopEndsStreams(t *testing.T) {
	upstream := binaries.StartWeather(t)
	site := harness.Site(upstream, "server weather", "provider acme", "free list_cities")
	g := binaries.StartGateway(t, strings.Replace(site, "\tgrace_period 1s\n", "", 1))
	_, key := g.NewAgent(t, "alice", "")
	resp := openStream(t, g, key.Secret)
	defer resp.Body.Close()
	began := clock.Now()
	g.Stop(t)
	if took := clock.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
