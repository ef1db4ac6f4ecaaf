package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"
)

// counted is an MCP server that counts the runs of each tool. Its answers
// contain the count, so that a second run is visible.
type counted struct {
	mu      sync.Mutex
	runs    map[string]int
	ids     map[string]int // number of requests, by the id of the request
	started chan struct{}  // receives a value when a slow call begins
	finish  chan struct{}  // closed to let slow calls end
}

func newCounted(t *testing.T) (server *counted, url string) {
	t.Helper()
	server = &counted{runs: map[string]int{}, ids: map[string]int{}, started: make(chan struct{}, 100), finish: make(chan struct{})}
	upstream := httptest.NewServer(server)
	t.Cleanup(upstream.Close)
	return server, upstream.URL
}

func (s *counted) note(tool, id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[tool]++
	s.ids[id]++
	return s.runs[tool]
}

func (s *counted) ran(tool string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[tool]
}

// asked returns the number of requests with this id.
func (s *counted) asked(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// ServeHTTP runs the tool that the message names. The tool's name sets the form
// and the outcome of the answer: json_ok, events_fail, json_long and so on.
func (s *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Params struct{ Name string }
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tool := m.Params.Name
	text := fmt.Sprintf("run %d of %s", s.note(tool, string(m.ID)), tool)
	form, kind, _ := strings.Cut(tool, "_")
	end := ""
	switch kind {
	case "slow":
		s.started <- struct{}{}
		select {
		case <-s.finish:
		case <-r.Context().Done():
			return
		}
	case "fail":
		end = `,"isError":true`
	case "long":
		text += strings.Repeat("x", 1<<20)
	case "longfail":
		text += strings.Repeat("x", 1<<20)
		end = `,"isError":true`
	}
	message := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}],"_meta":{"own":1}%s}}`, m.ID, text, end)
	if form == "json" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, message)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"soon\"}}\n\n")
	_, _ = io.WriteString(w, "event: message\nid: 1\ndata: "+message+"\n\n")
}

// inMeta adds an idempotency key to the _meta of a call.
func inMeta(body, key string) string {
	return strings.Replace(body, `"arguments"`, fmt.Sprintf(`"_meta":{"dev.farebox/idempotency-key":%q},"arguments"`, key), 1)
}

// postKey sends a call with the idempotency key in the header.
func postKey(g *harness.Gateway, client *http.Client, secret, key, body string) (*harness.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Idempotency-Key", key)
	return g.Send(client, secret, r)
}

// withKey is postKey for calls that must get an answer.
func withKey(t *testing.T, g *harness.Gateway, secret, key, body string) *harness.Answer {
	t.Helper()
	answer, err := postKey(g, http.DefaultClient, secret, key, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestRepeatedCall checks promise 2 of docs/promises.md. A call that is sent again with
// its idempotency key gets the first result and the first charge, under the new
// request's id. The server runs the tool once. The promise holds for servers that
// answer in JSON and in events, for keys in the header and in _meta, and after a crash.
func TestRepeatedCall(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01"))
	recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
	weather := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01"))
	for _, c := range []struct {
		name string
		g    *harness.Gateway
		tool string
		ran  func() int
	}{
		{"JSON", g, "json_ok", func() int { return server.ran("json_ok") }},
		{"events", g, "events_ok", func() int { return server.ran("events_ok") }},
		{"the weather server", weather, "get_forecast", func() int { return recorder.Calls("get_forecast") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := "agent-" + strings.ReplaceAll(c.tool, "_", "-")
			_, key := c.g.NewAgent(t, name, "1.00")
			plain, otherwise := `{"city":"Oslo","n":1}`, `{ "n":1, "cit\u0079":"Osl\u006f" }`
			if c.tool == "get_forecast" { // its only argument is a city
				plain, otherwise = `{"city":"Oslo"}`, `{ "cit\u0079":"Osl\u006f" }`
			}
			first := withKey(t, c.g, key.Secret, "k-1", harness.ToolCall(1, c.tool, plain))
			if first.Result == nil || first.Result.Meta.Charge == nil || first.Result.Meta.Replayed || string(first.ID) != "1" {
				t.Fatalf("the first: %d %s", first.Status, first.Body)
			}
			same := func(what, id string, again *harness.Answer) {
				t.Helper()
				if again.Result == nil || again.Result.Meta.Charge == nil {
					t.Fatalf("%s: %d %s", what, again.Status, again.Body)
				}
				meta, want := again.Result.Meta, first.Result.Meta
				if !meta.Replayed || *meta.Charge != *want.Charge || meta.Receipt != want.Receipt || again.Text() != first.Text() || string(again.ID) != id {
					t.Errorf("%s: got %s; want the first result, %s", what, again.Body, first.Body)
				}
			}
			same("in the header", "2", withKey(t, c.g, key.Secret, "k-1", harness.ToolCall(2, c.tool, plain)))
			same("in _meta", "3", post(t, c.g, key.Secret, inMeta(harness.ToolCall(3, c.tool, plain), "k-1")))
			same("with a text for an id", `"four"`, withKey(t, c.g, key.Secret, "k-1", strings.Replace(harness.ToolCall(4, c.tool, plain), `"id":4`, `"id":"four"`, 1)))
			same("spelled otherwise", "5", withKey(t, c.g, key.Secret, "k-1", harness.ToolCall(5, c.tool, otherwise)))
			c.g.Kill()
			c.g.Start(t)
			same("after a crash", "6", withKey(t, c.g, key.Secret, "k-1", harness.ToolCall(6, c.tool, plain)))
			if n := c.ran(); n != 1 {
				t.Errorf("the server ran it %d times", n)
			}
			if a := c.g.Account(t, name); a.Balance != amount(t, "0.99") || a.Reserved != 0 || len(c.g.Charges(t, name)) != 1 {
				t.Errorf("balance %s, reserved %s, charges %+v", a.Balance, a.Reserved, c.g.Charges(t, name))
			}
			other := withKey(t, c.g, key.Secret, "k-2", harness.ToolCall(7, c.tool, plain))
			if other.Result == nil || other.Result.Meta.Replayed || other.Result.Meta.Charge.ID == first.Result.Meta.Charge.ID || c.ran() != 2 {
				t.Errorf("with another key: %s", other.Body)
			}
			c.g.VerifyLedger(t)
		})
	}
	if n := g.Metrics(t)[`farebox_charges_total{environment="live",result="replayed",server="counted",tool="other"}`]; n != 1 {
		t.Errorf("%v replays were counted since the last start, want 1", n)
	}
}

// TestRepeatOfAClient checks that the official Go client gets the first result again if
// it repeats a call with the same key in _meta, and its session continues.
func TestRepeatOfAClient(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"-stateless"}} {
		recorder := harness.Record(t, binaries.StartWeather(t, args...))
		g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "price get_forecast 0.01", "free list_cities"))
		_, key := g.NewAgent(t, "alice", "1.00")
		session := g.Connect(t, key.Secret, nil)
		call := func(name string) *mcp.CallToolResult {
			t.Helper()
			params := &mcp.CallToolParams{Name: "get_forecast", Arguments: map[string]any{"city": "Oslo"}, Meta: mcp.Meta{"dev.farebox/idempotency-key": name}}
			result, err := session.CallTool(t.Context(), params)
			if err != nil || result.IsError {
				t.Fatalf("%+v, %v", result, err)
			}
			return result
		}
		first := call("k")
		want := harness.ReadMeta(t, first.Meta)
		for range 3 {
			again := call("k")
			got := harness.ReadMeta(t, again.Meta)
			if !got.Replayed || got.Receipt != want.Receipt || *got.Charge != *want.Charge || encode(t, again.Content) != encode(t, first.Content) ||
				encode(t, again.StructuredContent) != encode(t, first.StructuredContent) {
				t.Errorf("again: %+v, want %+v", got, want)
			}
		}
		if other := harness.ReadMeta(t, call("other").Meta); other.Replayed || other.Charge.ID == want.Charge.ID {
			t.Errorf("another key: %+v", other)
		}
		if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_cities"}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if n := recorder.Calls("get_forecast"); n != 2 || len(g.Charges(t, "alice")) != 2 {
			t.Errorf("ran %d times, charges %+v", n, g.Charges(t, "alice"))
		}
	}
}

// TestRepeatOfARunningCall checks that, while a call runs, a different call with the
// same idempotency key is refused. A retry of the running call is refused with a delay
// after which to retry. After the running call has ended, a retry gets the result of
// that call.
func TestRepeatOfARunningCall(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	done := make(chan *harness.Answer, 1)
	go func() {
		answer, err := postKey(g, http.DefaultClient, key.Secret, "k", harness.ToolCall(1, "json_slow", `{"n":1}`))
		if err != nil {
			t.Error(err)
		}
		done <- answer
	}()
	<-server.started
	answer := withKey(t, g, key.Secret, "k", harness.ToolCall(2, "json_slow", `{"n":1}`))
	if answer.Status != 200 || answer.Code() != "IDEMPOTENCY_IN_FLIGHT" || answer.Result.Meta.Error.RetryAfterMS <= 0 || !strings.Contains(answer.Text(), "was not called again") {
		t.Errorf("while it runs: %d %s", answer.Status, answer.Body)
	}
	for what, body := range map[string]string{
		"other arguments": harness.ToolCall(2, "json_slow", `{"n":2}`),
		"another number":  harness.ToolCall(2, "json_slow", `{"n":1.0}`),
		"another tool":    harness.ToolCall(2, "json_ok", `{"n":1}`),
	} {
		if answer := withKey(t, g, key.Secret, "k", body); answer.Code() != "IDEMPOTENCY_KEY_REUSED" {
			t.Errorf("%s while it runs: %s", what, answer.Body)
		}
	}
	close(server.finish)
	first := <-done
	if first == nil || first.Result == nil || first.Result.Meta.Charge == nil {
		t.Fatalf("the first call: %+v", first)
	}
	if answer := withKey(t, g, key.Secret, "k", harness.ToolCall(3, "json_slow", `{"n":1}`)); answer.Result == nil || !answer.Result.Meta.Replayed || answer.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
		t.Errorf("afterwards: %s", answer.Body)
	}
	if answer := withKey(t, g, key.Secret, "k", harness.ToolCall(4, "json_slow", `{"n":2}`)); answer.Code() != "IDEMPOTENCY_KEY_REUSED" || answer.Result == nil || !answer.Result.IsError {
		t.Errorf("other arguments afterwards: %s", answer.Body)
	}
	if server.ran("json_slow") != 1 || server.ran("json_ok") != 0 || len(g.Charges(t, "alice")) != 1 {
		t.Errorf("ran %d times, charges %+v", server.ran("json_slow"), g.Charges(t, "alice"))
	}
	g.VerifyLedger(t)
}

// TestRepeatOfAFailedCall checks that a call that was not charged frees its idempotency
// key. The call can be made again with this key, even with other arguments.
func TestRepeatOfAFailedCall(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01", "cap call 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	for i, tool := range []string{"json_fail", "events_fail", "json_fail", "json_longfail", "events_longfail"} {
		answer := withKey(t, g, key.Secret, "k", harness.ToolCall(i, tool, fmt.Sprintf(`{"n":%d}`, i)))
		if answer.Result == nil || !answer.Result.IsError || answer.Code() != "" || answer.Result.Meta.Replayed || !strings.HasPrefix(answer.Text(), "run ") {
			t.Fatalf("%s: %.300s", tool, answer.Body)
		}
	}
	if n := server.ran("json_fail"); n != 2 {
		t.Errorf("it ran %d times, want 2", n)
	}
	if a := g.Account(t, "alice"); a.Balance != amount(t, "1.00") || a.Reserved != 0 {
		t.Errorf("balance %s, reserved %s", a.Balance, a.Reserved)
	}
	for range 2 {
		if answer := withKey(t, g, key.Secret, "k", harness.ToolCall(9, "json_ok", `{}`)); answer.Result == nil || answer.Text() != "run 1 of json_ok" {
			t.Errorf("the same key for a call that works: %s", answer.Body)
		}
	}
	g.VerifyLedger(t)
}

// TestResultGone checks that the gateway does not keep the answer of a call if the
// answer is longer than 1 MiB, or if the price is charged when the call starts
// (charge_on started). A call that is sent again with the same idempotency key is still
// neither run nor charged again.
func TestResultGone(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01", "price json_started 0.01 charge_on started"))
	_, key := g.NewAgent(t, "alice", "1.00")
	for i, tool := range []string{"json_long", "events_long", "json_started"} {
		first := withKey(t, g, key.Secret, tool, harness.ToolCall(1, tool, `{}`))
		if first.Result == nil || first.Result.IsError || !strings.HasPrefix(first.Text(), "run 1 of ") {
			t.Fatalf("%s: %d %.300s", tool, first.Status, first.Body)
		}
		if i == 0 {
			g.Kill()
			g.Start(t)
		}
		for range 2 {
			answer := withKey(t, g, key.Secret, tool, harness.ToolCall(2, tool, `{}`))
			if answer.Status != 200 || answer.Code() != "RESULT_GONE" || answer.Result == nil || !answer.Result.IsError || !strings.Contains(answer.Text(), "nothing more was charged") {
				t.Errorf("%s again: %d %.300s", tool, answer.Status, answer.Body)
			}
		}
		if server.ran(tool) != 1 || len(g.Charges(t, "alice")) != i+1 {
			t.Errorf("%s: ran %d times, charges %+v", tool, server.ran(tool), g.Charges(t, "alice"))
		}
	}
	g.VerifyLedger(t)
}

// TestKeysOfCallsAreTheirOwners checks that an idempotency key belongs to the
// lineage of the agent key that used it, and to one server. The idempotency key
// survives a rotation of the agent key. Other callers learn nothing by using the
// idempotency key. No result is replayed to a caller without authorisation.
func TestKeysOfCallsAreTheirOwners(t *testing.T) {
	t.Parallel()
	server, upstream := newCounted(t)
	site := harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01")
	at := strings.Index(site, "\thandle /mcp*")
	end := strings.Index(site, "\thandle {")
	second := strings.NewReplacer("/mcp*", "/other", "server counted", "server second").Replace(site[at:end])
	g := binaries.StartGateway(t, site[:end]+second+site[end:])
	_, key := g.NewAgent(t, "alice", "1.00")
	sibling := g.NewKey(t, "alice")
	_, stranger := g.NewAgent(t, "bob", "1.00")
	call := harness.ToolCall(1, "json_ok", `{}`)
	first := withKey(t, g, key.Secret, "k", call)
	if first.Text() != "run 1 of json_ok" {
		t.Fatalf("%s", first.Body)
	}
	for i, secret := range []string{sibling.Secret, stranger.Secret} {
		if answer := withKey(t, g, secret, "k", call); answer.Text() != fmt.Sprintf("run %d of json_ok", i+2) || answer.Result.Meta.Replayed {
			t.Errorf("another key: %s", answer.Body)
		}
	}
	r, err := http.NewRequest(http.MethodPost, strings.Replace(g.Endpoint(), "/mcp", "/other", 1), strings.NewReader(call))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", "k")
	if answer, err := g.Send(http.DefaultClient, key.Secret, r); err != nil || answer.Text() != "run 4 of json_ok" {
		t.Errorf("at another server: %+v, %v", answer, err)
	}
	var next harness.Key
	g.CLI(t, &next, "key", "rotate", key.ID)
	g.AddSecret(next.Secret)
	if answer := withKey(t, g, next.Secret, "k", call); answer.Text() != first.Text() || !answer.Result.Meta.Replayed {
		t.Errorf("the successor: %s", answer.Body)
	}
	if answer := withKey(t, g, key.Secret, "k", call); answer.Code() != "TOKEN_EXPIRED" {
		t.Errorf("the old key: %s", answer.Body)
	}
	for _, c := range []struct{ key, body string }{
		{strings.Repeat("k", 257), call}, {"k", inMeta(call, "other")}, {"k", inMeta(call, "")},
	} {
		if answer := withKey(t, g, next.Secret, c.key, c.body); answer.Status != 200 || answer.Code() != "PARAMS_INVALID" {
			t.Errorf("key %.5q with %s: %d %s", c.key, c.body, answer.Status, answer.Body)
		}
	}
	if n := server.ran("json_ok"); n != 4 {
		t.Errorf("it ran %d times", n)
	}
	g.VerifyLedger(t)
}

// TestRepeatAfterAKill checks promises 1, 2 and 4 of docs/promises.md for callers that
// send their calls again. The gateway is killed during many calls, each with its own
// idempotency key, and started again. Each caller that repeats its call gets its
// result, and each call was charged exactly once.
func TestRepeatAfterAKill(t *testing.T) {
	const callers = 100
	_, upstream := newCounted(t)
	g := binaries.StartGateway(t, harness.Site(upstream, "server counted", "provider acme", "unpriced 0.01"))
	_, key := g.NewAgent(t, "alice", "100.00")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var group sync.WaitGroup
	received := map[string]string{} // the id of the charge in each result, by idempotency key
	asked := map[string]string{}    // the body of each call, by idempotency key
	enough := make(chan struct{})
	for caller := range callers {
		group.Go(func() {
			for n := range 10 {
				name := fmt.Sprintf("k-%d-%d", caller, n)
				tool := []string{"json_ok", "events_ok"}[n%2]
				body := harness.ToolCall(caller*10+n, tool, fmt.Sprintf(`{"k":%q}`, name))
				mu.Lock()
				asked[name] = body
				mu.Unlock()
				answer, err := postKey(g, client, key.Secret, name, body)
				if err != nil {
					return
				}
				if answer.Result == nil || answer.Result.Meta.Charge == nil {
					t.Errorf("%s: %s", name, answer.Body)
					return
				}
				mu.Lock()
				received[name] = answer.Result.Meta.Charge.ID
				if len(received) == 2*callers {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	ended := make(chan struct{})
	go func() { group.Wait(); close(ended) }()
	select {
	case <-enough:
	case <-ended:
	}
	g.Kill()
	<-ended
	g.Start(t)
	client.CloseIdleConnections()
	if len(asked) == len(received) {
		t.Fatal("no call was in flight at the kill")
	}
	captured := len(g.Charges(t, "alice"))
	t.Logf("%d calls were begun, %d charged, %d received", len(asked), captured, len(received))
	replayed, charges := 0, map[string]bool{}
	for name, body := range asked {
		answer := withKey(t, g, key.Secret, name, body)
		if answer.Result == nil || answer.Result.Meta.Charge == nil {
			t.Fatalf("%s again: %s", name, answer.Body)
		}
		id := answer.Result.Meta.Charge.ID
		charges[id] = true
		if answer.Result.Meta.Replayed {
			replayed++
		}
		if was, ok := received[name]; ok && (was != id || !answer.Result.Meta.Replayed) {
			t.Errorf("%s was charged as %s, and again as %s", name, was, id)
		}
	}
	if replayed != captured {
		t.Errorf("%d calls were charged before the kill, %d were replayed", captured, replayed)
	}
	list := g.Charges(t, "alice")
	if len(list) != len(asked) || len(charges) != len(asked) || slices.ContainsFunc(list, func(c harness.Charge) bool { return !charges[c.ID] }) {
		t.Errorf("%d charges listed, %d told, of %d calls", len(list), len(charges), len(asked))
	}
	g.VerifyLedger(t)
}

// TestPostIsNeverSentTwice checks that the server gets each call once, whatever headers
// the caller sends. Without the gateway's precautions, an HTTP transport would send a
// POST with an Idempotency-Key a second time if a kept connection breaks. The broken
// call is not charged, and its idempotency key stays free.
func TestPostIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	server := &counted{runs: map[string]int{}, ids: map[string]int{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "idempotency") {
				t.Errorf("the server was sent the header %s", name)
			}
		}
		if strings.Contains(string(text), `"breaks"`) { // the server reads the whole call and does not answer it
			var m struct{ ID json.RawMessage }
			_ = json.Unmarshal(text, &m) // a message without an id is counted, too
			server.note("breaks", string(m.ID))
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(text)))
		server.ServeHTTP(w, r)
	}))
	defer upstream.Close()
	g := binaries.StartGateway(t, harness.Site(upstream.URL, "server counted", "provider acme", "free json_ok", "unpriced 0.01"))
	_, key := g.NewAgent(t, "alice", "1.00")
	id := 0
	for _, header := range []string{"Idempotency-Key", "X-Idempotency-Key", "idempotency_key", ""} {
		for range 3 {
			for range 4 { // fill the pool, because a transport repeats a POST only on a kept connection
				if answer := post(t, g, key.Secret, harness.ToolCall(1, "json_ok", `{}`)); answer.Result == nil {
					t.Fatalf("%s", answer.Body)
				}
			}
			id++
			r, err := http.NewRequest(http.MethodPost, g.Endpoint(), strings.NewReader(harness.ToolCall(100+id, "breaks", `{}`)))
			if err != nil {
				t.Fatal(err)
			}
			if header != "" {
				r.Header[header] = []string{"k"}
			}
			answer, err := g.Send(http.DefaultClient, key.Secret, r)
			if err != nil || answer.Status != http.StatusOK || answer.Code() != "UPSTREAM_FAILED" {
				t.Fatalf("%s: %+v, %v", header, answer, err)
			}
			if n := server.asked(strconv.Itoa(100 + id)); n != 1 {
				t.Errorf("%q: the server was sent the call %d times", header, n)
			}
		}
	}
	if n := server.ran("breaks"); n != id {
		t.Errorf("the server was sent %d calls, want %d", n, id)
	}
	if a := g.Account(t, "alice"); a.Balance != amount(t, "1.00") || a.Reserved != 0 || len(g.Charges(t, "alice")) != 0 {
		t.Errorf("balance %s, reserved %s, charges %+v", a.Balance, a.Reserved, g.Charges(t, "alice"))
	}
}
