package server

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"token"}`

func modernCall(tool string) (body string, headers []string) {
	return `{"jsonrpc":"2.0","id":"m","method":"tools/call","params":{"name":"` + tool + `","arguments":{"count":2},` + meta + `}}`,
		[]string{headerVersion, versionModern, "Mcp-Method", "tools/call", "Mcp-Name", tool}
}

const discoverBody = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + meta + `}}`

var discoverHeaders = []string{headerVersion, versionModern, "Mcp-Method", "server/discover"}

// TestModern: a server that speaks 2026-07-28 is served without sessions, with one process
// for each account, and in sessions, too.
func TestModern(t *testing.T) {
	b := open(t, stdiotest.Modern, nil)
	alice, bob := &client{b: b, account: "alice"}, &client{b: b, account: "bob"}
	status, body := alice.post(discoverBody, discoverHeaders...)
	if status != http.StatusOK || !strings.Contains(body, `"id":1`) || !strings.Contains(body, versionModern) {
		t.Fatalf("server/discover: %d %s", status, body)
	}
	text, headers := modernCall("pid")
	_, first := alice.post(text, headers...)
	_, again := alice.post(text, headers...)
	_, other := bob.post(text, headers...)
	if resultText(first) != resultText(again) || resultText(first) == resultText(other) {
		t.Errorf("processes %s, %s and %s", first, again, other)
	}
	text, headers = modernCall("progress")
	if _, body = alice.post(text, headers...); strings.Count(body, `"progressToken":"token"`) != 2 || strings.Contains(body, "\nid: ") || !strings.Contains(body, `"id":"m"`) {
		t.Errorf("progress: %s", body)
	}
	if session := b.visit("alice"); session.call("echo", "legacy", 0) != "legacy" {
		t.Error("a session does not work")
	}
	if status, _ = alice.post(discoverBody, append(discoverHeaders, "Mcp-Method", "tools/list")...); status != http.StatusBadRequest {
		t.Errorf("another Mcp-Method: %d", status)
	}
	if resp := alice.request(t.Context(), http.MethodGet, "", headerVersion, versionModern); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}

// TestLegacyOnly: a server of the versions with sessions refuses 2026-07-28 in the way
// that lets a client fall back.
func TestLegacyOnly(t *testing.T) {
	for _, mode := range []string{stdiotest.Plain, stdiotest.Broken} {
		b := open(t, mode, nil)
		for range 2 {
			status, body := (&client{b: b, account: "alice"}).post(discoverBody, discoverHeaders...)
			if status != http.StatusBadRequest || !strings.Contains(body, `-32022`) || !strings.Contains(body, `"supported":["2025-11-25"`) {
				t.Errorf("%s: %d %s", mode, status, body)
			}
		}
		eventually(t, "no process is left", func() bool { n, _ := b.server.Counts(); return n == 0 })
	}
}

// TestModernClientLeaves: to leave is to cancel, and the process gets its own id back.
func TestModernClientLeaves(t *testing.T) {
	b := open(t, stdiotest.Modern, nil)
	text, headers := modernCall("hang")
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.url, strings.NewReader(text))
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Account", "alice")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
		}
	}()
	busy := func() (n int) {
		b.server.mu.Lock()
		defer b.server.mu.Unlock()
		for p := range b.server.peers {
			if p.proc != nil {
				n += p.busy()
			}
		}
		return n
	}
	eventually(t, "the call runs", func() bool {
		b.server.mu.Lock()
		defer b.server.mu.Unlock()
		for p := range b.server.peers {
			p.mu.Lock()
			running := len(p.order) == 1 && p.order[0].method == "tools/call"
			p.mu.Unlock()
			if running {
				return true
			}
		}
		return false
	})
	leave()
	<-done
	eventually(t, "the call is cancelled", func() bool { return busy() == 0 })
}
