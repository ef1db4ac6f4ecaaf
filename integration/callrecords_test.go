package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// record is a record of the call log.
type record map[string]any

// text returns a field of the record as a text, in the form that row.want uses.
func (r record) text(field string) string {
	switch v := r[field].(type) {
	case float64:
		return fmt.Sprintf("%g", v)
	default:
		return fmt.Sprint(v)
	}
}

// recordedSite is a gateway with a call log. The tool that is called decides how the
// server behind it behaves.
type recordedSite struct {
	*harness.Gateway
	key     harness.Key
	seen    int           // the number of records that the test has read so far
	release chan struct{} // ends the calls of the tools "hold" and "storm"
	arrived chan string   // the server sends the name of a tool when a call of that tool has arrived and waits for release
}

const recordedConfig = `{
	admin {$CADDY_ADMIN}
	grace_period 1s
	log default {
		level DEBUG
		exclude http.handlers.farebox.calls
	}
	log calls {
		include http.handlers.farebox.calls
		output file calls.jsonl
		format json
	}
	metrics
	farebox {
		store sqlite {$FAREBOX_DATA}/farebox.db
		scopes {
			billing.write "Create invoices"
		}
	}
}

http://localhost:{$FAREBOX_PORT} {
	bind 127.0.0.1
	log
	handle /mcp* {
		farebox {
			server weather
			provider acme
			upstream UPSTREAM
			environments live test
			free list_* vendor
			price get_forecast 0.01
			price "search_*" 0.02
			price storm 0.05
			price hold 0.05
			price fails 0.01
			price broken 0.01
			price cut 0.01
			price pricey 50
			price capped 1000
			price formula cel "args.n" max 1
			price admin_delete 0.01
			scope admin_delete billing.write
			cap call 100
			max_body 64KiB
			call_log on
		}
	}
	handle_path /quota* {
		tracing
		farebox {
			server quota
			provider acme
			upstream UPSTREAM
			price get_forecast 0.01
			price hold 0.05 charge_on started
			free_quota 1/day
			max_call 1s
			call_log on
		}
	}
	handle {
		error 404
	}
}
`

// No record may contain these texts, which are in arguments, in results and in names
// that a client chose.
const (
	ownArgument = "ARGUMENT-7f3a"
	ownResult   = "RESULT-7f3a"
	ownName     = "NAME-7f3a"
)

func startRecorded(t *testing.T) *recordedSite {
	t.Helper()
	s := &recordedSite{release: make(chan struct{}), arrived: make(chan string, 10)}
	upstream := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(upstream.Close)
	t.Cleanup(func() { close(s.release) })
	s.Gateway = binaries.StartGateway(t, strings.ReplaceAll(recordedConfig, "UPSTREAM", strings.TrimPrefix(upstream.URL, "http://")))
	_, s.key = s.NewAgent(t, "alice", "5.00")
	s.CLI(t, nil, "credit", "alice", "5.00", "--reason", "play", "--test")
	return s
}

// serve handles the requests of the MCP server behind the gateway.
func (s *recordedSite) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	rc := http.NewResponseController(w)
	wait := func(tool string) {
		s.arrived <- tool
		select {
		case <-r.Context().Done():
		case <-s.release:
		}
	}
	event := func(text string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text+"\n\n")
		_ = rc.Flush()
	}
	const progress = `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	answer := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + ownResult + `"}]}}`
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet:
		event(progress)
		wait("GET")
	case r.Method == http.MethodDelete:
	case bytes.Contains(body, []byte(`"notifications/`)):
		w.WriteHeader(http.StatusAccepted)
	case bytes.Contains(body, []byte(`"tools/list"`)):
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`)
	case bytes.Contains(body, []byte(`"fails"`)):
		_, _ = io.WriteString(w, strings.Replace(answer, `"result":{`, `"result":{"isError":true,`, 1))
	case bytes.Contains(body, []byte(`"broken"`)):
		panic(http.ErrAbortHandler)
	case bytes.Contains(body, []byte(`"cut"`)):
		event(progress)
		panic(http.ErrAbortHandler)
	case bytes.Contains(body, []byte(`"hold"`)):
		wait("hold")
		_, _ = io.WriteString(w, answer)
	case bytes.Contains(body, []byte(`"storm"`)):
		event("id: 1\n" + progress)
		if !bytes.Contains(body, []byte(`"ends"`)) {
			wait("storm")
		}
	case bytes.Contains(body, []byte(`"search_long"`)):
		event(progress)
		event("data: " + strings.Replace(answer, ownResult, strings.Repeat(ownResult, 1000), 1))
	default:
		_, _ = io.WriteString(w, answer)
	}
}

// records reads the call log.
func (s *recordedSite) records(t *testing.T) []record {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "calls.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	for _, own := range []string{ownArgument, ownResult, ownName} {
		if bytes.Contains(text, []byte(own)) {
			t.Fatalf("%s is in the records: %s", own, text)
		}
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // the last line is still being written
		}
		r := record{}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// next waits for the record of the next request.
func (s *recordedSite) next(t *testing.T) record {
	t.Helper()
	var all []record
	harness.Eventually(t, "a record", func() error {
		if all = s.records(t); len(all) <= s.seen {
			return fmt.Errorf("there are %d", len(all))
		}
		return nil
	})
	s.seen++
	return all[s.seen-1]
}

// request is a request to the gateway.
type request struct {
	method string // the HTTP method; POST if empty
	path   string // the path of the URL; /mcp if empty
	secret string
	body   string
	header map[string]string
}

// send sends a request and reads the response to its end, or until the client leaves.
func (s *recordedSite) send(ctx context.Context, q request, leaves bool) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.path == "" {
		q.path = "/mcp"
	}
	r, err := http.NewRequestWithContext(ctx, q.method, "http://localhost:"+s.Port+q.path, strings.NewReader(q.body))
	if err != nil {
		panic(err) // cannot happen, because the test made the URL
	}
	if q.method != http.MethodPost {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + q.secret} {
		r.Header.Set(name, value)
	}
	if q.secret == "" {
		r.Header.Del("Authorization")
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	if leaves {
		go func() {
			if <-s.arrived == "hold" {
				leave()
			}
		}()
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return // the error does not matter, because the record shows how the request ended
	}
	defer resp.Body.Close()
	if leaves {
		_, _ = io.ReadFull(resp.Body, make([]byte, 5))
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}

func toolCall(tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":{"x":%q}}}`, tool, ownArgument)
}

// row is a request and fields of its record; "*" stands for any value.
type row struct {
	name string
	request
	want map[string]string
	// leaves says that the client leaves: after the first bytes of a stream, or as soon
	// as the server has the request.
	leaves bool
}

// TestCallRecords checks that each request has exactly one record, with exactly the
// documented fields, for every outcome. The decisions in the records agree with those
// in the metrics. The amounts of all records add up to the money that was charged. No
// record has an argument, a result or a name that a client chose.
func TestCallRecords(t *testing.T) {
	t.Parallel()
	s := startRecorded(t)
	documented := documentedFields(t)
	account := s.Account(t, "alice")
	charged := ledger.Amount(0)
	counts := map[string]float64{}
	for _, c := range s.rows(t) {
		s.send(t.Context(), c.request, c.leaves)
		got := s.next(t)
		if fields := slices.Sorted(maps.Keys(got)); !slices.Equal(fields, documented) {
			t.Fatalf("%s: the record has the fields %v, documented are %v", c.name, fields, documented)
		}
		if got["msg"] != "handled MCP request" || got["level"] != "info" || got["logger"] != "http.handlers.farebox.calls" {
			t.Errorf("%s: %v", c.name, got)
		}
		want := map[string]string{
			"server": "weather", "method": "tools/call", "code": "", "status": "200", "ended": "complete", "account": account.ID, "key": s.key.ID, "test": "false",
			"amount": "", "tool": "", "replayed": "false", "client_ip": "127.0.0.1", "protocol_version": "", "trace_id": "",
		}
		maps.Copy(want, c.want)
		for field, value := range want {
			if got.text(field) != value && value != "*" {
				t.Errorf("%s: %s is %q, want %q", c.name, field, got.text(field), value)
			}
		}
		s.consistent(t, c.name, got)
		counts[fmt.Sprintf(`farebox_requests_total{decision=%q,method=%q,server=%q}`, got["decision"], got["method"], got["server"])]++
		if amount := got.text("amount"); amount != "" && got["test"] == false {
			a, err := ledger.ParseAmount(amount)
			if err != nil {
				t.Fatal(err)
			}
			charged += a
		}
	}
	for name, n := range s.Metrics(t) {
		if strings.HasPrefix(name, "farebox_requests_total") && n != counts[name] {
			t.Errorf("%s is %v, and %v records have it", name, n, counts[name])
		}
	}
	if left := s.Account(t, "alice").Balance; left != account.Balance-charged {
		t.Errorf("%s is left of %s, and the records have charged %s", left, account.Balance, charged)
	}
	if n := len(s.records(t)); n != s.seen {
		t.Errorf("%d records of %d requests", n, s.seen)
	}
}

// consistent checks the rules that every record must follow.
func (s *recordedSite) consistent(t *testing.T, name string, r record) {
	t.Helper()
	number := func(field string) float64 {
		n, ok := r[field].(float64)
		if !ok || n < 0 {
			t.Errorf("%s: %s is %v", name, field, r[field])
		}
		return n
	}
	total, added, upstream := number("duration"), number("added_duration"), number("upstream_duration")
	if added+upstream > total+1e-6 || number("reserve_duration")+number("capture_duration") > total { // the rest of the total is the time in which the client sent its body
		t.Errorf("%s: the durations do not add up: %v", name, r)
	}
	if (r["amount"] == "") != (r["currency"] == "") || r["amount"] != "" && (r["charge"] == "" || r["capture_duration"] == 0.0 || r["reserve_duration"] == 0.0) {
		t.Errorf("%s: an amount without a charge: %v", name, r)
	}
	if (r["tool"] == "") != (r["charge"] == "") {
		t.Errorf("%s: a tool without a charge: %v", name, r)
	}
}

// rows returns requests of each kind, with the fields that their records must have.
func (s *recordedSite) rows(t *testing.T) []row {
	t.Helper()
	test := s.NewKey(t, "alice", "--test")
	slow := s.NewKey(t, "alice", "--rate", "1/1h")
	anyone := map[string]string{"account": "", "key": ""}
	refused := func(code, status, entry string) map[string]string {
		return map[string]string{"decision": code, "code": code, "status": status, "entry": entry}
	}
	anonymous := func(w map[string]string) map[string]string { maps.Copy(w, anyone); return w }
	with := func(w map[string]string, more ...string) map[string]string {
		for i := 0; i < len(more); i += 2 {
			w[more[i]] = more[i+1]
		}
		return w
	}
	call := func(tool string) request { return request{secret: s.key.Secret, body: toolCall(tool)} }
	message := func(body string) request { return request{secret: s.key.Secret, body: body} }
	again := call("get_forecast")
	again.header = map[string]string{"Idempotency-Key": ownName}
	other := call("search_x")
	other.header = again.header
	paid := func(tool, amount string) map[string]string {
		return map[string]string{"decision": "charged", "entry": tool, "tool": tool, "amount": amount, "currency": "USD"}
	}
	return []row{
		{name: "free", request: call("list_cities"), want: map[string]string{"decision": "allowed", "entry": "list_*", "charge": ""}},
		{name: "a list", request: message(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), want: map[string]string{"method": "tools/list", "decision": "allowed", "entry": ""}},
		{name: "charged", request: call("get_forecast"), want: with(paid("get_forecast", "0.01"), "bytes_read", fmt.Sprint(len(toolCall("get_forecast"))))},
		{name: "a pattern, as a stream", request: call("search_long"), want: with(paid("search_long", "0.02"), "entry", "search_*")},
		{name: "a test key", request: request{secret: test.Secret, body: toolCall("get_forecast")}, want: with(paid("get_forecast", "0.01"), "key", test.ID, "test", "true")},
		{name: "with an idempotency key", request: again, want: paid("get_forecast", "0.01")},
		{name: "replayed", request: again, want: map[string]string{"decision": "replayed", "entry": "get_forecast", "tool": "get_forecast", "replayed": "true"}},
		{name: "the idempotency key for another call", request: other, want: refused("IDEMPOTENCY_KEY_REUSED", "200", "search_*")},
		{name: "a version in the header", request: request{secret: s.key.Secret, body: toolCall("list_cities"), header: map[string]string{"Mcp-Protocol-Version": "2025-06-18"}},
			want: map[string]string{"decision": "allowed", "entry": "list_*", "protocol_version": "2025-06-18"}},
		{name: "an unknown version", request: request{secret: s.key.Secret, body: toolCall("list_cities"), header: map[string]string{"Mcp-Protocol-Version": ownName}},
			want: map[string]string{"decision": "allowed", "entry": "list_*", "protocol_version": "other"}},

		{name: "no key", request: request{body: toolCall("get_forecast")}, want: anonymous(with(refused("TOKEN_MISSING", "401", "get_forecast"), "method", "other"))},
		{name: "a key that is none", request: request{secret: "sk_live_x", body: toolCall(ownName)}, want: anonymous(with(refused("TOKEN_INVALID", "401", "other"), "method", "other"))},
		{name: "too dear", request: call("pricey"), want: refused("INSUFFICIENT_BALANCE", "200", "pricey")},
		{name: "above a cap", request: call("capped"), want: refused("SPENDING_CAP", "200", "capped")},
		{name: "above the caller's maximum", request: message(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"storm","_meta":{"dev.farebox/max-price":"0.01"}}}`), want: refused("PRICE_ABOVE_MAX", "200", "storm")},
		{name: "no price", request: call("formula"), want: refused("PRICE_REFUSED", "200", "formula")},
		{name: "without the scope", request: call("admin_delete"), want: refused("SCOPE_INSUFFICIENT", "200", "admin_delete")},
		{name: "an unknown tool", request: call(ownName), want: refused("TOOL_UNKNOWN", "200", "other")},
		{name: "an unknown method", request: message(`{"jsonrpc":"2.0","id":1,"method":"` + ownName + `"}`), want: with(refused("METHOD_UNKNOWN", "200", ""), "method", "other")},
		{name: "no JSON", request: message(`{"` + ownArgument), want: with(refused("MESSAGE_MALFORMED", "400", ""), "method", "other")},
		{name: "a batch", request: message(`[` + toolCall("get_forecast") + `]`), want: with(refused("MESSAGE_INVALID", "400", ""), "method", "other")},
		{name: "headers that contradict the body", request: request{secret: s.key.Secret, header: map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "ping"},
			body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`},
			want: with(refused("HEADER_MISMATCH", "400", ""), "method", "other", "protocol_version", "2026-07-28")},
		{name: "too large", request: message(`{"x":"` + strings.Repeat("x", 70<<10) + `"}`), want: with(refused("MESSAGE_TOO_LARGE", "413", ""), "method", "other", "bytes_read", "0")},
		{name: "encoded", request: request{secret: s.key.Secret, body: toolCall("list_cities"), header: map[string]string{"Content-Encoding": "gzip"}}, want: anonymous(with(refused("ENCODING_UNSUPPORTED", "400", "list_*"), "method", "other"))},
		{name: "another media type", request: request{secret: s.key.Secret, body: "x", header: map[string]string{"Content-Type": "text/plain"}}, want: anonymous(with(refused("MEDIA_UNSUPPORTED", "415", ""), "method", "other"))},
		{name: "a foreign page", request: request{secret: s.key.Secret, body: toolCall("list_cities"), header: map[string]string{"Origin": "https://" + ownName}}, want: anonymous(with(refused("ORIGIN_FORBIDDEN", "403", "list_*"), "method", "other"))},
		{name: "a foreign session", request: request{secret: s.key.Secret, body: toolCall("list_cities"), header: map[string]string{"Mcp-Session-Id": ownName}}, want: refused("SESSION_UNKNOWN", "404", "list_*")},
		{name: "a task of a server without tasks", request: message(`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"` + ownName + `"}}`), want: with(refused("METHOD_UNKNOWN", "200", ""), "method", "tasks/get")},
		{name: "within the rate", request: request{secret: slow.Secret, body: toolCall("list_cities")}, want: map[string]string{"decision": "allowed", "entry": "list_*", "key": slow.ID}},
		{name: "above the rate", request: request{secret: slow.Secret, body: toolCall("list_cities")}, want: with(refused("RATE_LIMITED", "200", "list_*"), "key", slow.ID)},
		{name: "PUT", request: request{method: "PUT", secret: s.key.Secret}, want: anonymous(with(refused("METHOD_NOT_ALLOWED", "405", ""), "method", "other"))},
		{name: "GET of a page", request: request{method: "GET", secret: s.key.Secret, header: map[string]string{"Accept": "text/html"}}, want: anonymous(with(refused("REQUEST_UNSUPPORTED", "400", ""), "method", "GET"))},
		{name: "a client that looks for OAuth", request: request{method: "GET", path: "/quota/.well-known/oauth-protected-resource"},
			want: map[string]string{"server": "quota", "method": "GET", "decision": "not_found", "status": "404", "account": "", "key": "", "trace_id": "*"}},
		{name: "a preflight", request: request{method: "OPTIONS"}, want: map[string]string{"method": "OPTIONS", "decision": "allowed", "status": "204", "account": "", "key": "", "entry": ""}},

		{name: "a notification", request: message(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), want: map[string]string{"method": "notifications/initialized", "decision": "allowed", "status": "202", "entry": ""}},
		{name: "the end of a session without its id", request: request{method: "DELETE", secret: s.key.Secret, header: map[string]string{"Mcp-Session-Id": "x"}}, want: with(refused("SESSION_UNKNOWN", "404", ""), "method", "DELETE")},
		{name: "an error of the tool", request: call("fails"), want: map[string]string{"decision": "not_charged", "entry": "fails", "tool": "fails"}},
		{name: "a server that breaks off", request: call("broken"), want: map[string]string{"decision": "not_charged", "entry": "broken", "tool": "broken", "code": "UPSTREAM_FAILED"}},
		{name: "a stream that breaks off", request: call("cut"), want: map[string]string{"decision": "not_charged", "entry": "cut", "tool": "cut", "code": "UPSTREAM_FAILED"}},
		{name: "a stream that ends before its response", request: message(strings.Replace(toolCall("storm"), ownArgument, "ends", 1)), want: map[string]string{"decision": "not_charged", "entry": "storm", "tool": "storm", "ended": "suspended"}},
		{name: "a client that leaves its stream", request: request{method: "GET", secret: s.key.Secret}, leaves: true,
			want: map[string]string{"method": "GET", "decision": "allowed", "entry": "", "ended": "client_left"}},
		{name: "a client that leaves a call that can be resumed", request: call("storm"), leaves: true,
			want: map[string]string{"decision": "not_charged", "entry": "storm", "tool": "storm", "ended": "abandoned"}},
		{name: "a client that leaves, in 2026-07-28", request: stateless(s.key.Secret, "hold"), leaves: true,
			want: map[string]string{"decision": "not_charged", "entry": "hold", "tool": "hold", "ended": "abandoned", "status": "499", "size": "0", "protocol_version": "2026-07-28"}},

		{name: "within the free quota", request: request{path: "/quota", secret: s.key.Secret, body: toolCall("get_forecast"), header: map[string]string{"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
			want: with(paid("get_forecast", "0.00"), "server", "quota", "trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")},
		{name: "charged at the start, and too slow", request: request{path: "/quota", secret: s.key.Secret, body: toolCall("hold"), header: map[string]string{"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01"}},
			want: with(paid("hold", "0.05"), "server", "quota", "code", "UPSTREAM_TIMEOUT", "trace_id", "4bf92f3577b34da6a3ce929d0e0e4737")},
	}
}

// stateless returns a call in MCP 2026-07-28.
func stateless(secret, tool string) request {
	return request{
		secret: secret, header: map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool},
		body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
	}
}

// documentedFields returns the fields of records, as docs/logs.md lists them, and those
// that Caddy adds to each line.
func documentedFields(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(binaries.Root, "docs", "logs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## One record for each request\n")
	_, table, _ := strings.Cut(section, "| field | meaning |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	fields := []string{"level", "ts", "logger", "msg"}
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cell, -1) {
			fields = append(fields, m[1])
		}
	}
	slices.Sort(fields)
	if len(fields) < 25 {
		t.Fatalf("only %v were read", fields)
	}
	return fields
}

// TestCallRecordsOfLongRequests checks that a long-lived request has its record when it
// ends, and that the record says how it ended. After a reload, the record is in the
// same file as the records before.
func TestCallRecordsOfLongRequests(t *testing.T) {
	t.Parallel()
	s := startRecorded(t)
	config, err := os.ReadFile(filepath.Join(s.Dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(name string, want map[string]string) {
		t.Helper()
		got := s.next(t)
		for field, value := range want {
			if got.text(field) != value {
				t.Errorf("%s: %s is %q, want %q", name, field, got.text(field), value)
			}
		}
		s.consistent(t, name, got)
	}

	// In a session, a call goes on after its client has left.
	s.send(t.Context(), request{secret: s.key.Secret, body: toolCall("hold")}, true)
	s.send(t.Context(), request{secret: s.key.Secret, body: toolCall("list_cities")}, false)
	expect("a call beside it", map[string]string{"entry": "list_*"})
	s.release <- struct{}{}
	expect("a call that went on", map[string]string{"entry": "hold", "decision": "not_charged", "ended": "abandoned", "status": "0", "amount": ""})

	// A stream that was opened under one config ends after a reload, under the next
	// config.
	opened := func(key harness.Key) {
		t.Helper()
		go s.send(t.Context(), request{method: http.MethodGet, secret: key.Secret}, false)
		<-s.arrived
	}
	opened(s.key)
	if status, answer := reload(t, s.Gateway, strings.Replace(string(config), "grace_period 1s", "grace_period 2s", 1)); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	s.CLI(t, nil, "key", "delete", s.key.ID)
	expect("a stream whose key was deleted", map[string]string{"method": "GET", "decision": "allowed", "ended": "withdrawn", "status": "200"})

	// A config without the option call_log records no new requests. A request that
	// began under the previous config still has its record.
	other := s.NewKey(t, "alice")
	opened(other)
	if status, answer := reload(t, s.Gateway, strings.ReplaceAll(string(config), "call_log on", "")); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	for range 3 {
		postAfterReload(t, s.Gateway, other.Secret, toolCall("list_cities"))
	}
	s.CLI(t, nil, "key", "disable", other.ID)
	expect("a stream of the old config", map[string]string{"method": "GET", "key": other.ID, "ended": "withdrawn"})
	if n := len(s.records(t)); n != s.seen {
		t.Errorf("%d records were written without call_log", n-s.seen)
	}
}

// TestCallRecordsRotate checks that no record is lost when Caddy rotates the file of
// the records.
func TestCallRecordsRotate(t *testing.T) {
	t.Parallel()
	config := strings.Replace(harness.Site("http://127.0.0.1:1", "server weather", "provider acme", "free *", "call_log on"), "\tlog {\n\t\tlevel DEBUG\n\t}\n", `	log calls {
		include http.handlers.farebox.calls
		output file calls.jsonl {
			roll_size 1MiB
			roll_uncompressed
		}
	}
	log default {
		exclude http.log.access http.handlers.farebox.calls
	}
`, 1)
	g := binaries.StartGateway(t, config)
	const requests = 2500
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for range requests / 4 {
				if answer, err := g.Post(t.Context(), client, "", harness.ToolCall(i, "x", `{}`)); err != nil || answer.Status != http.StatusUnauthorized {
					t.Errorf("%+v, %v", answer, err)
					return
				}
			}
		})
	}
	callers.Wait()
	harness.Eventually(t, "all records, in several files", func() error {
		files, err := filepath.Glob(filepath.Join(g.Dir, "calls*.jsonl"))
		if err != nil {
			return err
		}
		lines := 0
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for line := range bytes.Lines(text) {
				if !json.Valid(line) {
					return fmt.Errorf("%s has %q", file, line)
				}
				lines++
			}
		}
		if lines != requests || len(files) < 2 {
			return fmt.Errorf("%d lines in %v", lines, files)
		}
		return nil
	})
}
