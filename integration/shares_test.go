package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// attackKeys is the number of keys of an attacker, each in an account of its
// own.
const attackKeys = 10

// besieged is a gateway under attack. An attacker with ten keys takes everything
// that it can get, while one victim makes paid calls and another makes free
// calls. All of them come from one address.
type besieged struct {
	*harness.Gateway
	attackers    []harness.Key
	paying, free harness.Key
	waiting      atomic.Int64 // number of requests that the server keeps waiting
}

// besiege starts a gateway with these lines in its limits block, and with this
// credit for each of the attacker's keys.
func besiege(t *testing.T, credits ledger.Amount, limits string) *besieged {
	t.Helper()
	b := new(besieged)
	release := make(chan struct{})
	upstream := httptest.NewServer(b.server(release))
	t.Cleanup(upstream.Close)
	t.Cleanup(upstream.CloseClientConnections)
	site := harness.Site(upstream.URL, "server weather", "provider acme", "price quick 0.01", "price hold 0.01", "free stall ping")
	if limits != "" {
		site = strings.Replace(site, "currency USD\n", "currency USD\n\t\tlimits {\n"+limits+"\n\t\t}\n", 1)
	}
	b.Gateway = binaries.StartGateway(t, site)
	t.Cleanup(func() { close(release) }) // runs before the gateway's own cleanup, which waits for open calls
	alone := &harness.Cluster{Nodes: []*harness.Gateway{b.Gateway}}
	for i := range attackKeys {
		b.attackers = append(b.attackers, alone.NewAgent(t, fmt.Sprintf("attacker%d", i), credits))
	}
	b.paying, b.free = alone.NewAgent(t, "paying", 10*ledger.Unit), alone.NewAgent(t, "free", 0)
	b.callsGoOn(t) // afterwards the gateway knows that this account pays
	return b
}

// server returns an MCP server. Some of its tools answer immediately, some wait, and
// some wait in the middle of a long answer.
func (b *besieged) server(release <-chan struct{}) http.Handler {
	var sessions atomic.Int64
	wait := func(r *http.Request) {
		b.waiting.Add(1)
		defer b.waiting.Add(-1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			wait(r)
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params struct{ Name string }
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case m.Method == "initialize":
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", sessions.Add(1)))
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`, m.ID)
			return
		case m.Params.Name == "hold":
			wait(r)
		case m.Params.Name == "stall":
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s`, m.ID, strings.Repeat("x", 900<<10))
			_ = http.NewResponseController(w).Flush()
			wait(r)
			fmt.Fprint(w, `"}]}}`)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"done"}]}}`, m.ID)
	})
}

// callsGoOn makes calls with both victims' keys and fails if any is refused.
func (b *besieged) callsGoOn(t *testing.T) {
	t.Helper()
	for i := range 10 {
		for _, call := range []struct{ secret, tool string }{{b.paying.Secret, "quick"}, {b.free.Secret, "ping"}} {
			got, err := ask(b.Gateway, call.secret, harness.ToolCall(i, call.tool, `{"text":"`+strings.Repeat("x", 100<<10)+`"}`))
			if err != nil || got.status != http.StatusOK || got.code != "" {
				t.Fatalf("call %d of %s: %d %.300s, %v", i, call.tool, got.status, got.body, err)
			}
		}
	}
}

// open sends the beginning of a request on a new connection, and returns the
// connection.
func (b *besieged) open(t *testing.T, secret string, length int, begin string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+b.Port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: %d\r\n\r\n%s",
		b.Port, secret, length, begin)
	return conn
}

// refusedBy returns the number of refused claims on a resource, such as "memory", from
// the metrics.
func (b *besieged) refusedBy(t *testing.T, of string) (n float64) {
	t.Helper()
	for name, value := range b.Metrics(t) {
		if strings.HasPrefix(name, `farebox_refused_by_share_total{of="`+of+`"`) {
			n += value
		}
	}
	return n
}

// TestBodiesWithoutTheirEnd checks that ten keys that send eighty bodies of 4 MiB, each
// without its last byte, do not stop the calls of other keys, paid or free.
func TestBodiesWithoutTheirEnd(t *testing.T) {
	t.Parallel()
	b := besiege(t, 0, "")
	const size = 4 << 20
	begin := harness.ToolCall(1, "ping", `{"text":"`) + strings.Repeat("x", size-200)
	var sending sync.WaitGroup
	for i := range 80 {
		secret := b.attackers[i%attackKeys].Secret
		conn := b.open(t, secret, size, "")
		sending.Go(func() { _, _ = io.WriteString(conn, begin) }) // the error does not matter, because the gateway may cut the connection
	}
	harness.Eventually(t, "bodies that are held", func() error {
		if held := b.Metrics(t)["farebox_held_bytes"]; held < 32<<20 {
			return fmt.Errorf("%v bytes are held", held)
		}
		return nil
	})
	b.callsGoOn(t)
	sending.Wait()
	b.callsGoOn(t)
	if b.refusedBy(t, "memory") == 0 {
		t.Error("nothing was refused: the attack was too weak")
	}
}

// TestSlowBodies checks that the gateway gives up a body that arrives a byte at a time.
// The gateway requires a minimum rate, measured over each window of bytes
// (share.Window), and gives up when the time for the first window is over, whatever the
// announced length.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	b := besiege(t, 0, "")
	began := clock.Now()
	var cut sync.WaitGroup
	for i := range 20 {
		conn := b.open(t, b.attackers[i%attackKeys].Secret, 4<<20, `{"jsonrpc"`)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-tick.C {
				_, _ = io.WriteString(conn, " ")
			}
		}()
		cut.Go(func() {
			defer cancel()
			_ = conn.SetReadDeadline(clock.Deadline(30 * time.Second))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("a slow body got no answer: %v", err)
				return
			}
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "too slowly") {
				t.Errorf("a slow body got %d %q, %v", resp.StatusCode, text, err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && ctx.Err() != nil {
				t.Errorf("its connection stays open: %v", err)
			}
		})
	}
	b.callsGoOn(t)
	cut.Wait()
	if took := clock.Since(began); took > 20*time.Second {
		t.Errorf("slow bodies were held for %s", took)
	}
}

// TestHeldAnswers checks that ten keys with more held answers than fit into the memory
// limit do not keep other keys from their answers.
func TestHeldAnswers(t *testing.T) {
	t.Parallel()
	b := besiege(t, 0, "")
	call := harness.ToolCall(1, "stall", `{}`)
	for i := range 320 {
		b.open(t, b.attackers[i%attackKeys].Secret, len(call), call) // the attacker never reads the answer
	}
	harness.Eventually(t, "an answer for which there is no room", func() error {
		if held := b.Metrics(t)["farebox_held_bytes"]; held < 240<<20 && b.refusedBy(t, "memory") == 0 {
			return fmt.Errorf("%v bytes are held", held)
		}
		return nil
	})
	b.callsGoOn(t)
}

// TestManyAtOnce checks a gateway while an attacker with ten keys opens as many
// streams, calls with reservations, or requests in sessions as it can. At some point
// the attacker is refused, but the other keys are not.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits, of string
		begin      func(t *testing.T, b *besieged, secret string, n int) // begins a request that stays open
	}{
		"streams": {"streams 320", "streams", func(t *testing.T, b *besieged, secret string, _ int) {
			b.stream(t, secret)
		}},
		"calls": {"calls 320", "calls", func(t *testing.T, b *besieged, secret string, n int) {
			call := harness.ToolCall(n, "hold", `{}`)
			b.open(t, secret, len(call), call)
		}},
		"sessions": {"session_ids 320", "session_ids", func(t *testing.T, b *besieged, secret string, n int) {
			b.holdInSession(t, secret, b.begin(t, secret), n)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := besiege(t, 10*ledger.Unit, c.limits)
			for n := range 30 * attackKeys {
				c.begin(t, b, b.attackers[n%attackKeys].Secret, n)
			}
			harness.Eventually(t, "a refusal", func() error {
				if b.refusedBy(t, c.of) == 0 {
					return fmt.Errorf("%d requests are waiting", b.waiting.Load())
				}
				return nil
			})
			if n := b.waiting.Load(); n >= 310 {
				t.Errorf("the attacker has %d open", n)
			}
			b.callsGoOn(t)
			b.stream(t, b.paying.Secret)
			session := b.begin(t, b.paying.Secret)
			before := b.waiting.Load()
			b.holdInSession(t, b.paying.Secret, session, 1)
			harness.Eventually(t, "the victim's call in its session", func() error {
				if b.waiting.Load() <= before {
					return fmt.Errorf("%d requests are waiting", b.waiting.Load())
				}
				return nil
			})
		})
	}
}

// stream opens a stream by GET. It fails the test if the stream of the paying victim
// is refused.
func (b *besieged) stream(t *testing.T, secret string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.Endpoint(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+secret)
	resp, err := fresh.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if secret == b.paying.Secret && resp.StatusCode != http.StatusOK {
		t.Errorf("the victim's stream: %s", resp.Status)
	}
}

// begin begins a session and returns its id.
func (b *besieged) begin(t *testing.T, secret string) string {
	t.Helper()
	got, err := ask(b.Gateway, secret, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
	session := got.header.Get("Mcp-Session-Id")
	if err != nil || session == "" {
		t.Fatalf("no session: %d %s, %v", got.status, got.body, err)
	}
	return session
}

// holdInSession begins a call in this session. The call stays open.
func (b *besieged) holdInSession(t *testing.T, secret, session string, n int) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+b.Port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	call := harness.ToolCall(n, "hold", `{}`)
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Session-Id: %s\r\nMcp-Protocol-Version: 2025-11-25\r\nContent-Length: %d\r\n\r\n%s",
		b.Port, secret, session, len(call), call)
}
