package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/integration/harness"

	"github.com/fareboxhq/farebox/internal/clock"
)

// limited is an answer with its rate limit headers.
type limited struct {
	status                  int
	limit, remaining, reset int
	header                  http.Header
	code                    string // the code of the refusal, from a tool result or from an HTTP error
	retryMS                 int64
	text                    string // the message for a model or a person
	body                    string
}

// fresh is a client that keeps no connections, because a reload could close a kept
// connection.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask posts a body and reads an answer in one of the two styles of errors. At a reload,
// the kernel resets connections that the old listener had not accepted. The gateway has
// not read a request on such a connection, so ask sends it again.
func ask(g *harness.Gateway, secret, body string) (limited, error) {
	for tries := 1; ; tries++ {
		r, err := http.NewRequest(http.MethodPost, g.Endpoint(), strings.NewReader(body))
		if err != nil {
			return limited{}, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := fresh.Do(r)
		if (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)) && tries < 10 {
			continue
		}
		if err != nil {
			return limited{}, err
		}
		return readLimited(resp)
	}
}

func readLimited(resp *http.Response) (limited, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return limited{}, err
	}
	l := limited{status: resp.StatusCode, header: resp.Header, body: string(text)}
	for name, value := range map[string]*int{"Limit": &l.limit, "Remaining": &l.remaining, "Reset": &l.reset} {
		*value = -1
		if told := resp.Header.Values("X-RateLimit-" + name); len(told) == 1 {
			if *value, err = strconv.Atoi(told[0]); err != nil {
				return l, fmt.Errorf("X-RateLimit-%s is %q", name, told[0])
			}
		}
	}
	if at := bytes.Index(text, []byte("data: {")); at >= 0 {
		text, _, _ = bytes.Cut(text[at+len("data: "):], []byte("\n"))
	}
	var m harness.Message
	if len(text) > 0 {
		if err := json.Unmarshal(text, &m); err != nil {
			return l, fmt.Errorf("%s: %w", text, err)
		}
	}
	l.code, l.text = m.Code(), m.Text()
	switch {
	case m.Result != nil && m.Result.Meta.Error != nil:
		l.retryMS = m.Result.Meta.Error.RetryAfterMS
	case m.Error != nil && m.Error.Data.Meta.Error != nil:
		l.retryMS, l.text = m.Error.Data.Meta.Error.RetryAfterMS, m.Error.Message
	}
	return l, nil
}

// askAtOnce sends n requests at the same time. The answers come in any order.
func askAtOnce(t *testing.T, g *harness.Gateway, n int, secrets ...string) []limited {
	t.Helper()
	answers := make([]limited, n)
	var callers sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		callers.Go(func() {
			<-start
			var err error
			if answers[i], err = ask(g, secrets[i%len(secrets)], harness.ToolCall(i+1, "list_cities", `{}`)); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	close(start)
	callers.Wait()
	return answers
}

// split separates the answers to served requests from the refusals. It returns the
// remaining number of calls in each answer to a served request, the largest first, and
// the refusals. All answers must have the rate limit headers.
func split(t *testing.T, answers []limited, limit int) (served []int, refused []limited) {
	t.Helper()
	for _, a := range answers {
		if a.limit != limit || a.remaining < 0 || a.remaining >= limit || a.reset <= 0 || a.reset > limit*60 {
			t.Errorf("%d: limit %d, remaining %d, reset %d: %s", a.status, a.limit, a.remaining, a.reset, a.body)
		}
		if a.code == "" && a.status == http.StatusOK {
			// The limit regains one call each minute, so n missing calls come back
			// in n minutes.
			if missing := (limit - a.remaining) * 60; a.reset > missing || a.reset < missing-60 {
				t.Errorf("%d remain and all come back in %d seconds; want about %d", a.remaining, a.reset, missing)
			}
			served = append(served, a.remaining)
			continue
		}
		refused = append(refused, a)
	}
	slices.Sort(served)
	slices.Reverse(served)
	return served, refused
}

// countdown returns the integers from the first parameter minus 1 down to the second
// parameter. For example, countdown(4, 1) returns 3, 2, 1.
func countdown(from, to int) (all []int) {
	for i := from - 1; i >= to; i-- {
		all = append(all, i)
	}
	return all
}

// TestRateLimit checks a rate limit when 64 concurrent callers share a burst of 20
// calls. Exactly 20 calls get answers, and each answer has a different value of
// Remaining. The refusals give the time to wait, in both styles of errors. Neither a
// reload nor a rotation of the key resets the limit. Another key has its own limit.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"mcp", "http"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			recorder := harness.Record(t, binaries.StartWeather(t, "-stateless"))
			site := func(free string) string {
				return harness.Site(recorder.URL, "server weather", "provider acme", "free list_cities "+free, "rate_limit 60/1h burst 20", "error_style "+style)
			}
			g := binaries.StartGateway(t, site("read_station"))
			_, key := g.NewAgent(t, "alice", "")

			// Ten callers ask before a reload, and 54 callers ask after it.
			served, refused := split(t, askAtOnce(t, g, 10, key.Secret), 20)
			if !slices.Equal(served, countdown(20, 10)) || len(refused) != 0 {
				t.Errorf("ten callers: served %v, %d refused", served, len(refused))
			}
			if status, answer := reload(t, g, site("climate_report")); status != http.StatusOK {
				t.Fatalf("reload: %d %s", status, answer)
			}
			served, refused = split(t, askAtOnce(t, g, 54, key.Secret), 20)
			if !slices.Equal(served, countdown(10, 0)) || len(refused) != 44 {
				t.Errorf("54 callers: served %v, %d refused; want each of 9 to 0, and 44", served, len(refused))
			}
			for _, a := range refused {
				tooOften(t, a, style)
			}
			if n := recorder.Calls("list_cities"); n != 20 {
				t.Errorf("the server was called %d times; want 20", n)
			}

			// The successor shares the rate of its lineage. Another key has its own
			// rate.
			var successor harness.Key
			g.CLI(t, &successor, "key", "rotate", key.ID, "--grace", "1h")
			g.AddSecret(successor.Secret)
			for _, a := range askAtOnce(t, g, 2, key.Secret, successor.Secret) {
				tooOften(t, a, style)
			}
			other := g.NewKey(t, "alice")
			g.CLI(t, &successor, "key", "rotate", other.ID, "--grace", "1h")
			g.AddSecret(successor.Secret)
			served, refused = split(t, askAtOnce(t, g, 24, other.Secret, successor.Secret), 20)
			if !slices.Equal(served, countdown(20, 0)) || len(refused) != 4 {
				t.Errorf("two keys of one lineage: served %v, %d refused; want each of 19 to 0, and 4", served, len(refused))
			}
		})
	}
}

// tooOften checks the form of a rate limit refusal: a tool result for the model,
// or an HTTP error.
func tooOften(t *testing.T, a limited, style string) {
	t.Helper()
	const minute = 60_000
	status, retryAfter := 200, ""
	if style == "http" {
		status, retryAfter = 429, strconv.FormatInt((a.retryMS+999)/1000, 10)
	}
	if a.status != status || a.code != "RATE_LIMITED" || a.retryMS <= 0 || a.retryMS > minute || a.remaining != 0 || a.header.Get("Retry-After") != retryAfter || !strings.Contains(a.text, "20 requests") {
		t.Errorf("%s: %d %s, %d remain, Retry-After %q: %s", style, a.status, a.code, a.remaining, a.header.Get("Retry-After"), a.body)
	}
	if isResult := strings.Contains(a.body, `"isError"`); isResult != (style == "mcp") {
		t.Errorf("%s: %s", style, a.body)
	}
}

// TestRateIsToldEverywhere checks that each response to a known key has the rate limit
// headers, whatever the outcome of the request. A handshake or a request for a list
// does not lower Remaining, because these requests are counted separately. The gateway
// removes the rate limit headers that the server sent. A response to an unknown token
// has no rate limit headers.
func TestRateIsToldEverywhere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-RateLimit-Remaining", "7000")
		w.Header().Set("X-Farebox-Key-Expires", "never")
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil, bytes.Contains(body, []byte("breaks")):
			panic(http.ErrAbortHandler)
		case r.Method != http.MethodPost:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case bytes.Contains(body, []byte("fails")):
			w.WriteHeader(http.StatusInternalServerError)
		case bytes.Contains(body, []byte("notifications/")):
			w.WriteHeader(http.StatusAccepted)
		case bytes.Contains(body, []byte("streams")):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[],"tools":[]}}`)
		}
	}))
	t.Cleanup(server.Close)
	g := binaries.StartGateway(t, harness.Site(server.URL, "server weather", "provider acme", "price paid* 0.01", "price dear 1000.00", "free free*", "rate_limit 60/1h burst 50"))
	_, key := g.NewAgent(t, "alice", "1.00")
	left := 50
	expect := func(what string, status int, code string, got limited, err error) {
		t.Helper()
		if err != nil || got.status != status || got.code != code || got.limit != 50 || got.remaining != left || got.reset <= 0 {
			t.Errorf("%s: %d %s, limit %d, remaining %d, reset %d, %v: %s; want %d %s and %d", what, got.status, got.code, got.limit, got.remaining, got.reset, err, got.body, status, code, left)
		}
		if v := got.header.Values("X-Farebox-Key-Expires"); len(v) != 0 {
			t.Errorf("%s: X-Farebox-Key-Expires %q for a key that does not expire", what, v)
		}
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{harness.ToolCall(1, "free", `{}`), 200, ""}, {harness.ToolCall(1, "free_streams", `{}`), 200, ""}, {harness.ToolCall(1, "free_fails", `{}`), 500, ""}, {harness.ToolCall(1, "free_breaks", `{}`), 200, "UPSTREAM_FAILED"},
		{harness.ToolCall(1, "paid", `{}`), 200, ""}, {harness.ToolCall(1, "paid_streams", `{}`), 200, ""}, {harness.ToolCall(1, "paid_fails", `{}`), 500, ""}, {harness.ToolCall(1, "paid_breaks", `{}`), 200, "UPSTREAM_FAILED"},
		{harness.ToolCall(1, "dear", `{}`), 200, "INSUFFICIENT_BALANCE"}, {harness.ToolCall(1, "unknown", `{}`), 200, "TOOL_UNKNOWN"},
		{`{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, 200, "METHOD_UNKNOWN"}, {`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`, 200, ""},
		{`{`, 400, "MESSAGE_MALFORMED"}, {`[]`, 400, "MESSAGE_INVALID"},
	} {
		got, err := ask(g, key.Secret, c.body)
		left--
		expect(c.body, c.status, c.code, got, err)
	}
	// Handshakes and lists are counted separately, so they do not lower Remaining.
	for body, status := range map[string]int{
		`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`: 200, `{"jsonrpc":"2.0","method":"notifications/initialized"}`: 202,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`: 200, `{"jsonrpc":"2.0","id":1,"result":{}}`: 200,
	} {
		got, err := ask(g, key.Secret, body)
		expect(body, status, "", got, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Endpoint(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+key.Secret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readLimited(resp)
	expect("GET", 405, "", got, err)

	// Responses show the expiry of a key that ends within 14 days. They do not
	// show a later expiry.
	for expires, told := range map[string]bool{"13d": true, "15d": false} {
		ending := g.NewKey(t, "alice", "--expires", expires)
		for _, body := range []string{harness.ToolCall(1, "free", `{}`), harness.ToolCall(1, "paid", `{}`), harness.ToolCall(1, "unknown", `{}`), `{`} {
			got, err := ask(g, ending.Secret, body)
			at, wrong := http.ParseTime(got.header.Get("X-Farebox-Key-Expires"))
			if left := clock.Until(at); err != nil || (wrong == nil) != told || told && (left > 13*24*time.Hour || left < 13*24*time.Hour-time.Hour) {
				t.Errorf("a key with %s left, %s: %q, %v", expires, body, got.header.Values("X-Farebox-Key-Expires"), err)
			}
		}
	}
	if got, err := ask(g, mistype(key.Secret), harness.ToolCall(1, "free", `{}`)); err != nil || got.status != 401 || got.limit != -1 || got.remaining != -1 {
		t.Errorf("an unknown token: %+v, %v", got, err)
	}
}

// TestHandshakesCountApart checks that a client with a rate of one call a day can
// connect and list the tools again and again, even after its one call. The refusal of a
// second call gives the reason and says that an early retry is useless. Handshakes have
// a limit of their own.
func TestHandshakesCountApart(t *testing.T) {
	t.Parallel()
	recorder := harness.Record(t, binaries.StartWeather(t))
	g := binaries.StartGateway(t, harness.Site(recorder.URL, "server weather", "provider acme", "free list_cities", "rate_limit 1/24h"))
	_, key := g.NewAgent(t, "alice", "")
	served := 0
	for range 4 {
		session := g.Connect(t, key.Secret, nil)
		if tools, err := session.ListTools(t.Context(), nil); err != nil || len(tools.Tools) == 0 {
			t.Fatalf("a list: %v", err)
		}
		if err := session.Ping(t.Context(), nil); err != nil {
			t.Fatalf("a ping: %v", err)
		}
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_cities"})
		if err != nil {
			t.Fatal(err)
		}
		if !result.IsError {
			served++
			continue
		}
		mustContain(t, harness.Text(result), "this key has asked too often. It may ask 1 times in 24h", "Wait 86")
	}
	if n := recorder.Calls("list_cities"); served != 1 || n != 1 {
		t.Errorf("%d calls were served, and the server ran %d; want one", served, n)
	}

	// The limit of handshakes allows a burst of 60, and one more each second.
	began, pinged := clock.Now(), 0
	var refused limited
	for refused.code == "" {
		var err error
		if refused, err = ask(g, key.Secret, `{"jsonrpc":"2.0","id":"p","method":"ping"}`); err != nil {
			t.Fatal(err)
		}
		if pinged++; pinged > 60+int(clock.Since(began).Seconds())+1 {
			t.Fatalf("%d pings were served", pinged)
		}
	}
	if refused.code != "RATE_LIMITED" || refused.status != http.StatusOK || refused.retryMS < 1 || refused.retryMS > 1000 {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	mustContain(t, refused.text, "60 times in 1m")
}

// TestClientsReadTheirRate checks promise 8 of docs/promises.md, for a key over its
// rate. Each client that shows the body of a 429 shows its user the rate and the time
// to wait, in both styles of errors. The session continues.
func TestClientsReadTheirRate(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"mcp", "http"} {
		g := binaries.StartGateway(t, harness.Site(binaries.StartEverything(t), "server everything", "provider acme", "free echo", "rate_limit 1/1h", "error_style "+style))
		for name, open := range map[string]func(*testing.T, *harness.Gateway, string) caller{
			"go-sdk": goSDK, "mcp-go": mcpGo, "typescript": typeScript, "mcp-remote": mcpRemote,
		} {
			t.Run(name+" "+style, func(t *testing.T) {
				t.Parallel()
				_, key := g.NewAgent(t, name, "")
				call := open(t, g, key.Secret)
				if got := call(t, "echo", map[string]any{"message": "hello"}); got.Failed {
					t.Fatalf("the first call: %+v", got)
				}
				rate, wait := "It may ask 1 times in 1h", "seconds, then ask again"
				if name == "go-sdk" && style == "http" { // go-sdk does not read the body of a 429
					rate, wait = "Too Many Requests", "Too Many Requests"
				}
				for range 2 { // the second call shows that the session still works
					got := call(t, "echo", map[string]any{"message": "hello"})
					if !got.Failed || !strings.Contains(got.Text, rate) || !strings.Contains(got.Text, wait) {
						t.Errorf("the user sees %+v", got)
					}
				}
			})
		}
	}
}
