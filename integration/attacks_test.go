package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

// byID is an MCP server that finds the stream for an answer only by the request id,
// as two of the big SDKs do: any answer with an id goes to the latest request with
// that id.
type byID struct {
	mu      sync.Mutex
	streams map[string]chan string
	arrived chan string // the names of the called tools, in the order in which the calls arrived
	answer  chan struct{}
}

func (s *byID) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Name string }
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if m.Method == "initialize" { // all clients share one session
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Mcp-Session-Id", "s1")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"confused","version":"1"}}}`, m.ID)
		return
	}
	mine := make(chan string, 2)
	s.mu.Lock()
	s.streams[strings.Trim(string(m.ID), `"`)] = mine
	s.mu.Unlock()
	s.arrived <- m.Params.Name
	if m.Params.Name == "dear" {
		<-s.answer
		s.mu.Lock()
		s.streams[strings.Trim(string(m.ID), `"`)] <- "the dear result"
		s.mu.Unlock()
	}
	select {
	case text := <-mine:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]}}`, m.ID, text)
	case <-r.Context().Done():
	}
}

// TestOneIDAtATime checks promise 1 of docs/promises.md with a server that confuses two
// requests if they have the same id in one session. While the first request is open, a
// second request with the same id never reaches the server. This holds even if the
// second id is a string instead of a number, or if the second request comes from
// another account.
func TestOneIDAtATime(t *testing.T) {
	server := &byID{streams: make(map[string]chan string), arrived: make(chan string, 10), answer: make(chan struct{})}
	upstream := httptest.NewServer(server)
	defer upstream.Close()
	g := binaries.StartGateway(t, harness.Site(upstream.URL, "server confused", "provider acme", "price dear 1.00", "free cheap"))
	account, key := g.NewAgent(t, "alice", "1.00")
	_, other := g.NewAgent(t, "bob", "")
	sessions := map[string]string{} // by secret, the id under which this key's account knows the shared session
	for _, secret := range []string{key.Secret, other.Secret} {
		begun := post(t, g, secret, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		sessions[secret] = begun.Header.Get("Mcp-Session-Id")
	}
	send := func(secret, body string) (*harness.Answer, error) {
		r, err := http.NewRequest(http.MethodPost, g.Endpoint(), strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Mcp-Session-Id", sessions[secret])
		return g.Send(http.DefaultClient, secret, r)
	}
	done := make(chan *harness.Answer, 1)
	go func() {
		answer, err := send(key.Secret, harness.ToolCall(1, "dear", `{}`))
		if err != nil {
			t.Error(err)
		}
		done <- answer
	}()
	<-server.arrived
	for _, c := range []struct{ secret, body string }{
		{key.Secret, harness.ToolCall(1, "cheap", `{}`)},
		{key.Secret, strings.Replace(harness.ToolCall(1, "cheap", `{}`), `"id":1`, `"id":"1"`, 1)},
		{other.Secret, harness.ToolCall(1, "cheap", `{}`)},
	} {
		answer, err := send(c.secret, c.body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status != http.StatusOK || answer.Code() != "MESSAGE_INVALID" || strings.Contains(answer.Body, "dear result") {
			t.Errorf("%s: %d %s", c.body, answer.Status, answer.Body)
		}
	}
	close(server.answer)
	if answer := <-done; answer == nil || answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Errorf("the first call: %+v", answer)
	}
	if charges := g.Charges(t, account.ID); len(charges) != 1 || charges[0].Amount != ledger.Unit {
		t.Errorf("charges %+v", charges)
	}
}

// TestLongAnswerIsPaidByWhoLeaves checks promise 1 of docs/promises.md for answers that
// are too long to buffer. A client that disconnects after reading nearly all of such an
// answer has paid for the call.
func TestLongAnswerIsPaidByWhoLeaves(t *testing.T) {
	const size = 8 << 20
	left := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"`+strings.Repeat("x", size))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-left:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `"}]}}`)
	}))
	defer upstream.Close()
	g := binaries.StartGateway(t, harness.Site(upstream.URL, "server long", "provider acme", "price dump 0.10"))
	account, key := g.NewAgent(t, "alice", "1.00")
	stateless := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"dump","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(stateless))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + key.Secret, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "dump",
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, resp.Body, size); err != nil {
		t.Fatalf("read %d bytes of %s: %v", n, resp.Status, err)
	}
	leave()
	_ = resp.Body.Close()
	close(left)
	harness.Eventually(t, "the end of the call", func() error {
		if a := g.Account(t, "alice"); a.Reserved != 0 {
			return fmt.Errorf("%s is reserved", a.Reserved)
		}
		if n := g.Metrics(t)["farebox_held_bytes"]; n != 0 {
			return fmt.Errorf("%v bytes are reserved", n)
		}
		return nil
	})
	if charges := g.Charges(t, account.ID); len(charges) != 1 || g.Account(t, "alice").Balance != 900_000 {
		t.Errorf("charges %+v, balance %s", charges, g.Account(t, "alice").Balance)
	}
	g.VerifyLedger(t)
}

// TestStrangersHoldNothing checks that connections that send neither a token nor a
// body use no memory reserved for calls, and are answered in time.
func TestStrangersHoldNothing(t *testing.T) {
	g := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "free list_cities"))
	_, key := g.NewAgent(t, "alice", "")
	var strangers []net.Conn
	for range 50 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+g.Port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost:%s\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n", g.Port)
		strangers = append(strangers, conn)
	}
	if answer := post(t, g, key.Secret, harness.ToolCall(1, "list_cities", `{}`)); answer.Result == nil {
		t.Errorf("a good call among strangers: %s", answer.Body)
	}
	if n := g.Metrics(t)["farebox_held_bytes"]; n != 0 {
		t.Errorf("strangers hold %v bytes", n)
	}
	for _, conn := range strangers {
		if err := conn.SetReadDeadline(clock.Deadline(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 12)
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 401" {
			t.Fatalf("a stranger got %q, %v", head, err)
		}
	}
}

// TestMetricLabelsAreBounded checks that names invented by a client never become
// labels of metrics.
func TestMetricLabelsAreBounded(t *testing.T) {
	g := binaries.StartGateway(t, harness.Site(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "free list_cities"))
	_, key := g.NewAgent(t, "alice", "")
	for _, method := range []string{"FOOBAR", "PUT", "PATCH"} {
		r, err := http.NewRequest(method, g.Endpoint(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	post(t, g, key.Secret, `{"jsonrpc":"2.0","id":1,"method":"made/up"}`)
	post(t, g, key.Secret, harness.ToolCall(1, "made_up", `{}`))
	for name := range g.Metrics(t) {
		for _, made := range []string{"FOOBAR", "PUT", "made/up", "made_up", key.ID} {
			if strings.HasPrefix(name, "farebox_") && strings.Contains(name, made) {
				t.Errorf("%s", name)
			}
		}
	}
}

// TestSecondHandler checks that a route with two farebox handlers, which would
// charge twice, refuses calls as a configuration error and charges nothing.
func TestSecondHandler(t *testing.T) {
	site := harness.SiteWithProxy(binaries.StartWeather(t, "-stateless"), "server weather", "provider acme", "price get_forecast 0.01")
	at := strings.Index(site, "\t\tfarebox {\n\t\t\t")
	end := strings.Index(site[at:], "\t\t}\n") + len("\t\t}\n")
	block := site[at : at+end]
	g := binaries.StartGateway(t, strings.Replace(site, block, "\t\troute {\n"+block+block+"\t\t}\n", 1))
	account, key := g.NewAgent(t, "alice", "1.00")
	if answer := post(t, g, key.Secret, harness.ToolCall(1, "get_forecast", `{"city":"Oslo"}`)); answer.Status != http.StatusOK || answer.Code() != "MISCONFIGURED" {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	if charges := g.Charges(t, account.ID); len(charges) != 0 {
		t.Errorf("charges %+v", charges)
	}
}
