package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/stdio/process"
	"github.com/fareboxhq/farebox/internal/stdio/stdiotest"
)

func TestMain(m *testing.M) {
	if os.Getenv(stdiotest.Variable) != "" {
		stdiotest.Main()
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/fareboxhq/farebox/internal/stdio/process.(*guardian).await")) // package process tests that it ends
}

// bench is a Server behind HTTP. Its callers name their account in a header.
type bench struct {
	t      *testing.T
	server *Server
	url    string
	log    *stdiotest.Log
}

// open starts a bench. At its end no process is left.
func open(t *testing.T, modes string, change func(*Options)) *bench {
	o := Options{
		Process: process.Options{
			Command: []string{os.Args[0]}, Env: []string{stdiotest.Variable + "=" + modes, "TOKEN=a secret value"}, MaxLine: 64 << 20,
			Grace: 2 * time.Second, Redact: process.Redactor([]string{"TOKEN=a secret value"}),
		},
		Per: PerSession, Instances: 1, MaxProcesses: 20, MaxPerAccount: 10, Idle: time.Minute, StartTimeout: 20 * time.Second, Buffer: 1 << 20, StreamAfter: time.Minute,
	}
	if change != nil {
		change(&o)
	}
	b := &bench{t: t, log: new(stdiotest.Log)}
	b.server = New(o, slog.New(slog.NewTextHandler(b.log, nil)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.server.Serve(w, r, r.Header.Get("Account"))
	}))
	b.url = h.URL
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		h.CloseClientConnections()
		b.server.Close()
		h.Close()
		if n, sessions := b.server.Counts(); n > 0 || sessions > 0 {
			t.Errorf("%d processes and %d sessions are left", n, sessions)
		}
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

// client is a client with a session.
type client struct {
	b                *bench
	account, session string
}

func (c *client) request(ctx context.Context, method, body string, headers ...string) *http.Response {
	c.b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.b.url, strings.NewReader(body))
	if err != nil {
		c.b.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Account", c.account)
	if c.session != "" {
		r.Header.Set(headerSession, c.session)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.b.t.Fatal(err)
	}
	c.b.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// post sends a message and reads the whole response.
func (c *client) post(body string, headers ...string) (int, string) {
	c.b.t.Helper()
	resp := c.request(c.b.t.Context(), http.MethodPost, body, headers...)
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		c.b.t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`

// visit begins a session.
func (b *bench) visit(account string) *client {
	b.t.Helper()
	c := &client{b: b, account: account}
	resp := c.request(b.t.Context(), http.MethodPost, initialize)
	body, _ := io.ReadAll(resp.Body)
	if c.session = resp.Header.Get(headerSession); c.session == "" {
		b.t.Fatalf("no session: %d %s", resp.StatusCode, body)
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted {
		b.t.Fatalf("initialized: %d", status)
	}
	return c
}

func toolCall(id any, tool, text string, count int) string {
	arguments, err := json.Marshal(map[string]any{"text": text, "count": count})
	if err != nil {
		panic(err)
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"token"}}}`, quoted, tool, arguments)
}

// call calls a tool and returns the text of its result, or the response.
func (c *client) call(tool, text string, count int) string {
	c.b.t.Helper()
	_, body := c.post(toolCall("id of "+tool, tool, text, count))
	return resultText(body)
}

func resultText(body string) string {
	var m struct {
		Result struct{ Content []struct{ Text string } }
	}
	if json.Unmarshal([]byte(body), &m) == nil && len(m.Result.Content) == 1 {
		return m.Result.Content[0].Text
	}
	return body
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := clock.Now().Add(20 * time.Second); !condition(); {
		if clock.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		_ = clock.Sleep(t.Context(), 5*time.Millisecond)
	}
}

func contains(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%.1000q does not have %q", text, want)
	}
}

// TestSession: a session has a process of its own, its messages pass as they are, and its
// end is that of the process.
func TestSession(t *testing.T) {
	b := open(t, stdiotest.Banner, nil)
	alice, bob := b.visit("alice"), b.visit("bob")
	if a, b := alice.call("pid", "", 0), bob.call("pid", "", 0); a == b || a != alice.call("pid", "", 0) {
		t.Errorf("processes %s and %s", a, b)
	}
	_, body := alice.post(`{ "jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`)
	contains(t, body, `"id":"1"`)
	bob.session = alice.session
	if body = bob.call("echo", "", 0); !strings.Contains(body, "begin a new one") {
		t.Errorf("bob used the session of alice: %s", body)
	}
	if resp := alice.request(t.Context(), http.MethodDelete, ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %d", resp.StatusCode)
	}
	if status, _ := alice.post(toolCall(1, "echo", "", 0)); status != http.StatusNotFound {
		t.Errorf("after DELETE: %d", status)
	}
	eventually(t, "one process", func() bool { n, _ := b.server.Counts(); return n == 1 })
	contains(t, b.log.String(), "Welcome to the server!")
}

// TestServerFails: a call gets an error, and never hangs, when the server dies, writes
// half a line, or writes too much. A line that is no message is skipped.
func TestServerFails(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.Process.MaxLine = 1 << 20; o.MaxPerAccount = 20 })
	for n, c := range []struct{ tool, want string }{
		{"die", "exit status 3"}, {"half", "exit status 0"}, {"huge", "too long"}, {"chatter", "chattered"},
	} {
		v := b.visit(fmt.Sprint("account", n))
		status, body := v.post(toolCall("x", c.tool, "", 2<<20))
		if !strings.Contains(body, c.want) || !strings.Contains(body, `"id":"x"`) || status != http.StatusOK {
			t.Errorf("%s: %d %s", c.tool, status, body)
		}
	}
	contains(t, b.log.String(), "Now listening")
	contains(t, b.log.String(), "ended within a line")
	v := b.visit("account9")
	if got := v.call("huge", "", 1<<19); len(got) != 1<<19 {
		t.Errorf("%d bytes of a long answer", len(got))
	}
}

// TestLongLine: a line up to the bound of 64 MiB is an answer, and a longer one an error.
func TestLongLine(t *testing.T) {
	v := open(t, stdiotest.Plain, nil).visit("alice")
	if got := v.call("huge", "", 63<<20); len(got) != 63<<20 {
		t.Errorf("%d bytes of an answer of 63 MiB", len(got))
	}
	contains(t, v.call("huge", "", 65<<20), "too long")
	contains(t, v.call("echo", "next", 0), "next")
}

// TestStart: a server that does not start, or does not answer, is an error in time, and a
// server that dies at each start is not started each time.
func TestStart(t *testing.T) {
	for mode, want := range map[string]string{stdiotest.Broken: "exit status 4", stdiotest.Silent: "has not answered within"} {
		b := open(t, mode, func(o *Options) { o.StartTimeout = 2 * time.Second; o.Process.Grace = time.Second })
		c := &client{b: b, account: "alice"}
		_, body := c.post(initialize)
		contains(t, body, want)
	}
	b := open(t, stdiotest.Broken, nil)
	c := &client{b: b, account: "alice"}
	for range 2 {
		c.post(initialize)
	}
	resp := c.request(t.Context(), http.MethodPost, initialize)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	b = open(t, stdiotest.Plain, func(o *Options) { o.Process.Command = []string{"/no/such/program"} })
	if status, body := (&client{b: b}).post(initialize); status != http.StatusBadGateway {
		t.Errorf("%d %s", status, body)
	}
}

// TestLimits: an account, and all together, have no more processes than they may. An idle
// session makes room for a new one of its account.
func TestLimits(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.MaxPerAccount, o.MaxProcesses = 2, 3 })
	first, second := b.visit("alice"), b.visit("alice")
	streams := []*http.Response{first.request(t.Context(), http.MethodGet, ""), second.request(t.Context(), http.MethodGet, "")}
	resp := (&client{b: b, account: "alice"}).request(t.Context(), http.MethodPost, initialize)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third process: %d", resp.StatusCode)
	}
	b.visit("bob")
	if status, body := (&client{b: b, account: "carol"}).post(initialize); status != http.StatusServiceUnavailable {
		t.Errorf("a fourth process: %d %s", status, body)
	}
	_ = streams[0].Body.Close()
	eventually(t, "alice can begin a session", func() bool {
		status, _ := (&client{b: b, account: "alice"}).post(initialize)
		return status == http.StatusOK
	})
	if status, _ := first.post(toolCall(1, "echo", "", 0)); status != http.StatusNotFound {
		t.Errorf("the idle session: %d", status)
	}
	contains(t, second.call("echo", "still here", 0), "still here")
}

// TestIdle: a session without requests ends with its process, and one with an open stream
// does not.
func TestIdle(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.Idle = 200 * time.Millisecond })
	busy := b.visit("alice")
	busy.request(t.Context(), http.MethodGet, "")
	idle := b.visit("alice")
	eventually(t, "the idle one ends", func() bool { n, sessions := b.server.Counts(); return n == 1 && sessions == 1 })
	if status, _ := idle.post(toolCall(1, "echo", "", 0)); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	contains(t, busy.call("echo", "busy", 0), "busy")
}

// TestShared: accounts with a process of their own never see another account's, ids and
// progress tokens of two clients do not mix, and the limit of instances holds.
func TestShared(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.Per = PerAccount })
	a1, a2, other := b.visit("alice"), b.visit("alice"), b.visit("bob")
	pid := a1.call("pid", "", 0)
	if a2.call("pid", "", 0) != pid || other.call("pid", "", 0) == pid {
		t.Error("the processes are not those of the accounts")
	}
	var wait sync.WaitGroup
	for n, c := range []*client{a1, a2} {
		for i := range 50 {
			wait.Go(func() {
				text := fmt.Sprint(n, "-", i)
				_, body := c.post(toolCall(i, "echo", text, 0))
				if resultText(body) != text || !strings.Contains(body, fmt.Sprintf(`"id":%d,`, i)) {
					t.Errorf("%s got %s", text, body)
				}
			})
		}
	}
	wait.Wait()
	_, body := a1.post(toolCall("p", "progress", "", 3))
	if strings.Count(body, `"progressToken":"token"`) != 3 || !strings.Contains(body, `"id":"p"`) {
		t.Errorf("progress: %s", body)
	}
	if n, _ := b.server.Counts(); n != 2 {
		t.Errorf("%d processes", n)
	}

	b = open(t, stdiotest.Plain, func(o *Options) { o.Per, o.Instances = Shared, 2 })
	clients := []*client{b.visit("alice"), b.visit("bob"), b.visit("carol")}
	for _, c := range clients {
		wait.Go(func() { c.post(toolCall("h", "hold", "", 0)) })
	}
	busy := func() (processes, calls int) { // handshakes are not counted
		b.server.mu.Lock()
		defer b.server.mu.Unlock()
		for p := range b.server.peers {
			p.mu.Lock()
			for _, c := range p.order {
				if c.method == "tools/call" {
					calls++
				}
			}
			p.mu.Unlock()
		}
		return len(b.server.peers), calls
	}
	eventually(t, "three calls at two processes", func() bool { n, calls := busy(); return n == 2 && calls == 3 })
	eventually(t, "all calls end", func() bool {
		b.server.mu.Lock()
		for p := range b.server.peers {
			p.post([]byte(`{"jsonrpc":"2.0","method":"notifications/release"}`))
		}
		b.server.mu.Unlock()
		_, calls := busy()
		return calls == 0
	})
	wait.Wait()
}

// TestQuestion: a request of the server goes out on the stream of the running call, and
// the client's response comes back to the server.
func TestQuestion(t *testing.T) {
	b := open(t, stdiotest.Plain, nil)
	c := b.visit("alice")
	resp := c.request(t.Context(), http.MethodPost, toolCall(1, "ask", "", 0))
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "sampling/createMessage") {
			break
		}
	}
	if status, _ := c.post(`{"jsonrpc":"2.0","id":"question","result":{}}`); status != http.StatusAccepted {
		t.Errorf("status %d", status)
	}
	rest, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(rest), "the client answered")
}

// TestNotifications: a notification without a call comes on the session's stream, also if that
// was not open, and only once.
func TestNotifications(t *testing.T) {
	b := open(t, stdiotest.Plain, nil)
	c := b.visit("alice")
	c.call("note", "notifications/tools/list_changed", 0)
	read := func(want string, headers ...string) string {
		resp := c.request(t.Context(), http.MethodGet, "", headers...)
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		var seen strings.Builder
		for !strings.Contains(seen.String(), want) {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%v after %q", err, seen.String())
			}
			seen.WriteString(line)
		}
		return seen.String()
	}
	read("tools/list_changed")
	session := b.server.session(c.session, "alice")
	eventually(t, "the server has noticed that the stream is closed", func() bool { return !session.listening() })
	c.call("note", "notifications/prompts/list_changed", 0)
	again := read("prompts/list_changed")
	if strings.Contains(again, "tools/") {
		t.Errorf("delivered twice: %s", again)
	}
	if again = read("prompts/list_changed", headerEvent, "0-0"); !strings.Contains(again, "tools/") {
		t.Errorf("not resumed: %s", again)
	}
}

// TestResume: a client that lost its connection within a long call gets the answer by the
// id of the last event, and gets it again.
func TestResume(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.StreamAfter = time.Millisecond })
	c := b.visit("alice")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	resp := c.request(ctx, http.MethodPost, toolCall(1, "hold", "", 0))
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	event := strings.TrimSpace(strings.TrimPrefix(line, "id: "))
	leave()
	c.post(`{"jsonrpc":"2.0","method":"notifications/release"}`)
	for range 2 {
		resp := c.request(t.Context(), http.MethodGet, "", headerEvent, event)
		all, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(all), "released") {
			t.Fatalf("after event %q: %q %v", event, all, err)
		}
	}
	if resp := c.request(t.Context(), http.MethodGet, "", headerEvent, "99-0"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown event: %d", resp.StatusCode)
	}
}

// TestCancelled: a request that its client has cancelled ends although the server does not
// answer it.
func TestCancelled(t *testing.T) {
	for _, per := range []Sharing{PerSession, PerAccount} {
		b := open(t, stdiotest.Plain, func(o *Options) { o.Per = per; o.Process.Grace = 100 * time.Millisecond })
		c := b.visit("alice")
		var wait sync.WaitGroup
		wait.Go(func() {
			_, body := c.post(toolCall(7, "hang", "", 0))
			contains(t, body, "was cancelled")
		})
		session := b.server.session(c.session, "alice")
		eventually(t, "the call runs", func() bool { return session.running("n7") != nil })
		c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		wait.Wait()
	}
}

// TestRequestTimeout: with a limit, a server that hangs ends in an error.
func TestRequestTimeout(t *testing.T) {
	b := open(t, stdiotest.Plain, func(o *Options) { o.RequestTimeout = 50 * time.Millisecond })
	contains(t, b.visit("alice").call("hang", "", 0), "has not answered within 50ms")
}

// TestClose: the end waits for running calls, ends open streams, and refuses sessions.
func TestClose(t *testing.T) {
	b := open(t, stdiotest.Plain, nil)
	c := b.visit("alice")
	open := c.request(t.Context(), http.MethodGet, "")
	var wait sync.WaitGroup
	wait.Go(func() { contains(t, c.call("hold", "", 0), "released") })
	session := b.server.session(c.session, "alice")
	eventually(t, "the call runs", func() bool { return session.running("sid of hold") != nil })
	wait.Go(b.server.Close)
	if _, err := io.ReadAll(open.Body); err != nil {
		t.Error(err)
	}
	if status, _ := (&client{b: b}).post(initialize); status != http.StatusServiceUnavailable {
		t.Errorf("a new session: %d", status)
	}
	eventually(t, "the call ends", func() bool { // again and again, because the call may reach the server later
		session.own.post([]byte(`{"jsonrpc":"2.0","method":"notifications/release"}`))
		return session.running("sid of hold") == nil
	})
	wait.Wait()
}
