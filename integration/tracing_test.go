package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// The trace contexts of callers, in the form of W3C Trace Context. Each has %s for its
// flags.
const (
	headerTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	headerParent = "00-" + headerTrace + "-00f067aa0ba902b7-%s"
	metaTrace    = "0af7651916cd43dd8448eb211c80319c"
	metaParent   = "00-" + metaTrace + "-b7ad6b7169203331-%s"
)

// argumentText is a part of the arguments of all calls. No trace may contain it.
const argumentText = "the argument of the call"

// traced is a gateway that exports its spans to a collector.
type traced struct {
	*harness.Gateway
	t         *testing.T
	server    *tracedServer
	collector *harness.Collector
	secret    string
	calls     int
}

func newTraced(t *testing.T, site func(string, ...string) string) *traced {
	t.Helper()
	server, collector := startTracedServer(t), binaries.StartCollector(t)
	caddyfile := site(server.url, "server weather", "provider acme", "price paid 0.01", "price dear 5.00", "price late 0.01 charge_on success abandoned",
		"price streamed 0.01", "price errs 0.01", "price unwell 0.01", "price fails 0.01", "price breaks 0.01", "price polled 0.01", "price prompt:paid 0.01",
		"free free", `upstream_authorization "Bearer upstream-secret"`)
	caddyfile = strings.Replace(caddyfile, "\tlog\n\thandle", "\tlog\n\ttracing {\n\t\tspan mcp\n\t}\n\thandle", 1)
	g := binaries.StartGateway(t, caddyfile, collector.Environment()...)
	_, key := g.NewAgent(t, "alice", "1.00")
	return &traced{Gateway: g, t: t, server: server, collector: collector, secret: key.Secret}
}

// message is a call that a test sends through a traced gateway.
type message struct {
	method string // the method of the message; "" stands for tools/call
	name   string
	meta   string // members of _meta, each followed by a comma
	header http.Header
	secret string // the key; "" stands for alice's key, "-" for no key
}

// send sends a message and returns its id and the answer.
func (g *traced) send(m message) (id string, answer *harness.Answer) {
	g.t.Helper()
	g.calls++
	id = fmt.Sprint(1000 + g.calls)
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":%q,"uri":"db://%s","arguments":{"text":%q},"_meta":{%s"x":1}}}`,
		id, cmp.Or(m.method, "tools/call"), m.name, strings.ReplaceAll(argumentText, " ", "-"), argumentText, m.meta)
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.Endpoint(), strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range m.header {
		req.Header[name] = values
	}
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	secret := cmp.Or(m.secret, g.secret)
	answer, err = g.Send(http.DefaultClient, strings.TrimPrefix(secret, "-"), req)
	if err != nil && m.name != "fails" { // the server's answer to this tool is not a message
		g.t.Fatal(err)
	}
	if seen, ok := g.server.request(id); ok && seen.body != body {
		g.t.Errorf("the server received %s in place of %s", seen.body, body)
	}
	return id, answer
}

// await waits for a span for which is(span) returns true.
func (g *traced) await(what string, is func(*harness.CollectedSpan) bool) (found harness.CollectedSpan) {
	g.t.Helper()
	harness.Eventually(g.t, "the span of "+what, func() error {
		spans := g.collector.Spans(g.t)
		if i := slices.IndexFunc(spans, func(s harness.CollectedSpan) bool { return is(&s) }); i >= 0 {
			found = spans[i]
			return nil
		}
		return errors.New("there is none")
	})
	return found
}

// awaitMessage waits for the span of the message with that id.
func (g *traced) awaitMessage(id string) harness.CollectedSpan {
	g.t.Helper()
	return g.await("message "+id, func(s *harness.CollectedSpan) bool { return s.Attributes["jsonrpc.request.id"] == id && s.Kind == 2 })
}

// tree returns the names of a span and of all spans below it, in the form name(name,
// name(name)). Siblings are in the order in which they began.
func tree(spans []harness.CollectedSpan, root *harness.CollectedSpan) string {
	var below []harness.CollectedSpan
	for _, s := range spans {
		if s.Parent == root.ID && s.Trace == root.Trace {
			below = append(below, s)
		}
	}
	if len(below) == 0 {
		return root.Name
	}
	slices.SortStableFunc(below, func(a, b harness.CollectedSpan) int { return a.Began.Compare(b.Began) })
	var names []string
	for i := range below {
		names = append(names, tree(spans, &below[i]))
	}
	return root.Name + "(" + strings.Join(names, ", ") + ")"
}

// has compares attributes of a span with the wanted values. "*" stands for any value,
// and "" for an attribute that is missing.
func (g *traced) has(s *harness.CollectedSpan, want map[string]string) {
	g.t.Helper()
	for key, value := range want {
		if got := s.Attributes[key]; got != value && (value != "*" || got == "") {
			g.t.Errorf("%s has %s %q, want %q", s.Name, key, got, value)
		}
	}
}

// child returns the only span with this name below another span.
func (g *traced) child(of *harness.CollectedSpan, name string) *harness.CollectedSpan {
	g.t.Helper()
	for _, s := range g.collector.Spans(g.t) {
		if s.Trace == of.Trace && s.Parent == of.ID && s.Name == name {
			return &s
		}
	}
	g.t.Fatalf("there is no span %s below %s", name, of.Name)
	return nil
}

// TestTraces checks that each call has a span with spans for its steps, with the
// names of OpenTelemetry's conventions for MCP. The spans are exported to a real
// collector. The server gets the context of the span "upstream", and the message as the
// client sent it. No span has a secret, an argument or a result.
func TestTraces(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]func(string, ...string) string{"upstream": harness.Site, "reverse_proxy": harness.SiteWithProxy} {
		t.Run(name, func(t *testing.T) {
			g := newTraced(t, site)
			for _, c := range tracedCalls {
				t.Run(c.is, func(t *testing.T) {
					g.t = t
					id, _ := g.send(c.message)
					span := g.awaitMessage(id)
					if got := tree(g.collector.Spans(t), &span); got != c.tree {
						t.Errorf("the spans are %s, want %s", got, c.tree)
					}
					g.has(&span, c.attributes)
					g.has(&span, map[string]string{"farebox.server": "weather", "mcp.protocol.version": "2025-11-25"})
					if span.Error != (span.Attributes["error.type"] != "") || span.Status != c.status {
						t.Errorf("the status is %v %q, want %q", span.Error, span.Status, c.status)
					}
					g.toldServer(id, &span)
				})
			}
			g.t = t
			g.has(g.child(new(g.awaitMessage("1001")), "authenticate"), map[string]string{"farebox.source": "store", "farebox.account": "*", "farebox.key": "*"})
			g.keepsSecrets()
			g.documented()
		})
	}
}

// documented checks that docs/tracing.md names each attribute of Farebox's spans, with the
// spans that may have it.
func (g *traced) documented() {
	g.t.Helper()
	page, err := os.ReadFile(filepath.Join(binaries.Root, "docs", "tracing.md"))
	if err != nil {
		g.t.Fatal(err)
	}
	listed := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([a-z, ]+) \\| [^|]*\\|$").FindAllStringSubmatch(string(page), -1) {
		listed[m[1]] = " " + strings.ReplaceAll(m[2], ",", "") + " "
	}
	for _, s := range g.collector.Spans(g.t) {
		if s.Scope != "github.com/fareboxhq/farebox" {
			continue
		}
		kind := s.Name
		switch {
		case s.Kind == 2:
			kind = "message"
		case slices.Contains([]string{"reserve", "renew", "capture", "release", "refund"}, kind):
			kind = "charge"
		}
		for key := range s.Attributes {
			if spans := listed[key]; spans != " all " && !strings.Contains(spans, " "+kind+" ") {
				g.t.Errorf("the span %s has the attribute %s, which the page has for %q", s.Name, key, spans)
			}
		}
	}
}

// toldServer checks that the server received the context of the span "upstream".
func (g *traced) toldServer(id string, span *harness.CollectedSpan) {
	g.t.Helper()
	seen, ok := g.server.request(id)
	if !ok {
		return
	}
	up := g.child(span, "upstream")
	if want := "00-" + up.Trace + "-" + up.ID + "-01"; len(seen.traceparent) != 1 || seen.traceparent[0] != want || up.Kind != 3 {
		g.t.Errorf("the server received %q, want %q; the kind is %d", seen.traceparent, want, up.Kind)
	}
	g.has(up, map[string]string{"http.request.method": "POST", "server.address": "127.0.0.1", "server.port": "*", "http.response.status_code": "*"})
}

// keepsSecrets checks that nothing that the collector has received contains a secret,
// an argument or a result.
func (g *traced) keepsSecrets() {
	g.t.Helper()
	secrets := []string{g.secret, "upstream-secret", argumentText, strings.ReplaceAll(argumentText, " ", "-"), resultText, "session-of-the-server"}
	for _, finding := range harness.Findings(map[string][]byte{"the collector": g.collector.Received(g.t)}, secrets) {
		g.t.Error(finding)
	}
}

// tracedCalls lists calls that end in different ways, with the spans that each call
// must have. The clients send no trace context.
var tracedCalls = []struct {
	is         string
	message    message
	tree       string
	attributes map[string]string
	status     string
}{
	{"free", message{name: "free"}, "tools/call free(authenticate, admit, upstream)", map[string]string{
		"mcp.method.name": "tools/call", "gen_ai.tool.name": "free", "gen_ai.operation.name": "execute_tool", "farebox.decision": "allowed",
		"farebox.entry": "free", "farebox.account": "*", "farebox.key": "*", "farebox.charge": "", "farebox.price": "", "error.type": "",
	}, ""},
	{"paid", message{name: "paid"}, "tools/call paid(authenticate, admit(reserve), upstream, capture)", map[string]string{
		"farebox.decision": "charged", "farebox.charge": "*", "farebox.entry": "paid", "farebox.price": "0.01", "error.type": "",
	}, ""},
	{"streamed", message{name: "streamed"}, "tools/call streamed(authenticate, admit(reserve), upstream, capture)", map[string]string{"farebox.decision": "charged", "error.type": ""}, ""},
	{"insufficient balance", message{name: "dear"}, "tools/call dear(authenticate, admit(reserve))", map[string]string{
		"farebox.decision": "INSUFFICIENT_BALANCE", "farebox.refused": "INSUFFICIENT_BALANCE", "error.type": "tool_error", "rpc.response.status_code": "",
	}, "Insufficient balance"},
	{"unknown tool", message{name: "anything"}, "tools/call(authenticate, admit)", map[string]string{
		"gen_ai.tool.name": "anything", "farebox.refused": "TOOL_UNKNOWN", "error.type": "-32602", "rpc.response.status_code": "-32602", "farebox.entry": "",
	}, "Unknown tool"},
	{"unknown method", message{method: "shop/buy", name: "x"}, "POST(authenticate, admit)", map[string]string{
		"mcp.method.name": "_OTHER", "farebox.refused": "METHOD_UNKNOWN", "gen_ai.tool.name": "",
	}, "Method not found"},
	{"no key", message{name: "paid", secret: "-"}, "tools/call paid(authenticate)", map[string]string{
		"farebox.refused": "TOKEN_MISSING", "farebox.account": "", "error.type": "401", "rpc.response.status_code": "401",
	}, "Token missing"},
	{"unknown key", message{name: "paid", secret: "sk_live_unknown"}, "tools/call paid(authenticate)", map[string]string{"farebox.refused": "TOKEN_INVALID"}, "Invalid agent token"},
	{"the server fails", message{name: "fails"}, "tools/call fails(authenticate, admit(reserve), upstream, release)", map[string]string{
		"farebox.decision": "not_charged", "farebox.refused": "", "error.type": "500", "rpc.response.status_code": "",
	}, ""},
	{"the server breaks off", message{name: "breaks"}, "tools/call breaks(authenticate, admit(reserve), upstream, release)", map[string]string{
		"farebox.decision": "not_charged", "farebox.refused": "UPSTREAM_FAILED", "error.type": "502", "rpc.response.status_code": "502",
	}, "The MCP server gave no usable answer; nothing was charged"},
	{"an error", message{name: "errs"}, "tools/call errs(authenticate, admit(reserve), upstream, release)", map[string]string{
		"farebox.decision": "not_charged", "farebox.refused": "", "error.type": "-32603", "rpc.response.status_code": "-32603",
	}, ""},
	{"a result that is an error", message{name: "unwell"}, "tools/call unwell(authenticate, admit(reserve), upstream, release)", map[string]string{
		"farebox.decision": "not_charged", "error.type": "tool_error", "rpc.response.status_code": "",
	}, ""},
	{"a call that may be repeated", message{name: "paid", header: http.Header{"Idempotency-Key": {"once"}}}, "tools/call paid(authenticate, admit(reserve), upstream, capture)",
		map[string]string{"farebox.decision": "charged"}, ""},
	{"its repetition", message{name: "paid", header: http.Header{"Idempotency-Key": {"once"}}}, "tools/call paid(authenticate, admit(reserve))",
		map[string]string{"farebox.decision": "replayed", "farebox.charge": "*", "error.type": ""}, ""},
	{"a prompt", message{method: "prompts/get", name: "paid"}, "prompts/get paid(authenticate, admit(reserve), upstream, capture)",
		map[string]string{"gen_ai.prompt.name": "paid", "gen_ai.tool.name": "", "gen_ai.operation.name": "", "farebox.entry": "prompt:paid"}, ""},
	{"a resource", message{method: "resources/read"}, "resources/read(authenticate, admit, upstream)", map[string]string{"mcp.resource.uri": ""}, ""},
	{"a session", message{method: "initialize"}, "initialize(authenticate, admit, upstream)", map[string]string{"mcp.session.id": "*"}, ""},
	{"a key in a name", message{name: "sk_live_" + strings.Repeat("0", 64)}, "tools/call(authenticate, admit)", map[string]string{"gen_ai.tool.name": "*"}, "Unknown tool"},
}

// TestTraceOfTheCaller checks that a traceparent in the header or in _meta puts a call
// into the caller's trace and decides whether the call is sampled. If both places have
// a traceparent, the one in _meta counts. An invalid traceparent is ignored. In each
// case the server gets the trace of the call.
func TestTraceOfTheCaller(t *testing.T) {
	t.Parallel()
	g := newTraced(t, harness.Site)
	header := func(flags string) http.Header {
		return http.Header{"Traceparent": {fmt.Sprintf(headerParent, flags)}, "Tracestate": {"vendor=header"}}
	}
	meta := func(flags string) string {
		return fmt.Sprintf(`"traceparent":%q,"tracestate":"vendor=meta",`, fmt.Sprintf(metaParent, flags))
	}
	for _, c := range []struct {
		is      string
		message message
		trace   string // the id of the expected trace; "" if the gateway begins a new trace
		state   string
		sampled bool
		linked  bool
	}{
		{"neither", message{}, "", "", true, false},
		{"header", message{header: header("01")}, headerTrace, "vendor=header", true, false},
		{"header, not sampled", message{header: header("00")}, headerTrace, "vendor=header", false, false},
		{"header, invalid", message{header: header("zz")}, "", "", true, false},
		{"meta", message{meta: meta("01")}, metaTrace, "vendor=meta", true, true},
		{"meta, not sampled", message{meta: meta("00")}, metaTrace, "vendor=meta", false, false},
		{"meta, invalid", message{meta: meta("zz")}, "", "", true, false},
		{"both", message{header: header("01"), meta: meta("01")}, metaTrace, "vendor=meta", true, true},
		{"both, header not sampled", message{header: header("00"), meta: meta("01")}, metaTrace, "vendor=meta", true, true},
		{"both, meta not sampled", message{header: header("01"), meta: meta("00")}, metaTrace, "vendor=meta", false, false},
		{"both, meta invalid", message{header: header("01"), meta: meta("zz")}, headerTrace, "vendor=header", true, false},
	} {
		t.Run(c.is, func(t *testing.T) {
			g.t = t
			c.message.name = "paid"
			id, _ := g.send(c.message)
			seen, _ := g.server.request(id)
			flags := "-00"
			if c.sampled {
				flags = "-01"
			}
			if told := strings.Join(seen.traceparent, " "); !strings.HasPrefix(told, "00-"+c.trace) || !strings.HasSuffix(told, flags) || strings.Join(seen.tracestate, " ") != c.state {
				t.Errorf("the server received %q, %q", told, seen.tracestate)
			}
			if !c.sampled {
				g.lacks(id)
				return
			}
			span := g.awaitMessage(id)
			if got := tree(g.collector.Spans(t), &span); got != "tools/call paid(authenticate, admit(reserve), upstream, capture)" {
				t.Errorf("the spans are %s", got)
			}
			g.toldServer(id, &span)
			http := g.ambient(&span, c.linked)
			if c.trace != "" && span.Trace != c.trace || http.Trace == metaTrace || c.linked && span.Parent != "b7ad6b7169203331" {
				t.Errorf("the message is in %s below %s, the request in %s", span.Trace, span.Parent, http.Trace)
			}
		})
	}
}

// lacks checks that no span of the message was exported. It waits for the spans of a
// later message, because the gateway exports spans in order.
func (g *traced) lacks(id string) {
	g.t.Helper()
	later, _ := g.send(message{name: "free"})
	g.awaitMessage(later)
	for _, s := range g.collector.Spans(g.t) {
		if s.Attributes["jsonrpc.request.id"] == id {
			g.t.Errorf("message %s has the span %s", id, s.Name)
		}
	}
}

// ambient returns the span of the HTTP request of a message. It is the parent of the
// message's span or, if linked is true, a span to which the message's span has a link.
// There is no such span for a request that is not sampled.
func (g *traced) ambient(span *harness.CollectedSpan, linked bool) harness.CollectedSpan {
	g.t.Helper()
	if linked != (len(span.Links) == 1) || len(span.Links) > 1 {
		g.t.Fatalf("the message has the links %q", span.Links)
	}
	if linked && strings.HasPrefix(span.Links[0], headerTrace) {
		return harness.CollectedSpan{Trace: headerTrace}
	}
	return g.await("the request", func(s *harness.CollectedSpan) bool {
		return s.Name == "mcp" && (linked && span.Links[0] == s.Trace+"/"+s.ID || !linked && s.ID == span.Parent && s.Trace == span.Trace)
	})
}

// TestTraceOfAResumedStream checks that the request that resumes a call has spans in
// its own trace, and that they have the call's name and charge.
func TestTraceOfAResumedStream(t *testing.T) {
	t.Parallel()
	g := newTraced(t, harness.Site)
	v := &visitor{t: t, g: g.Gateway, secret: g.secret}
	event, _ := v.read(v.send(http.MethodPost, strings.Replace(harness.ToolCall(2000, "polled", `{}`), "{}", `{"text":"`+argumentText+`"}`, 1), ""))
	begun := g.awaitMessage("2000")
	if got := tree(g.collector.Spans(t), &begun); got != "tools/call polled(authenticate, admit(reserve), upstream)" || begun.Error {
		t.Errorf("the spans are %s, and the status is %v", got, begun.Error)
	}
	if answer := v.comeBack(event); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("the rest of the stream is %q", answer.Body)
	}
	rest := g.await("the rest", func(s *harness.CollectedSpan) bool {
		return s.Attributes["jsonrpc.request.id"] == "2000" && s.ID != begun.ID
	})
	if got := tree(g.collector.Spans(t), &rest); got != "tools/call polled(authenticate, renew, upstream, capture)" {
		t.Errorf("the spans are %s", got)
	}
	g.has(&rest, map[string]string{"farebox.charge": begun.Attributes["farebox.charge"], "farebox.decision": "charged", "farebox.price": "0.01", "gen_ai.tool.name": "polled"})
	g.keepsSecrets()
}

// TestTraceOutlivesTheClient checks that a call that is captured after its client has
// left stays in the caller's trace.
func TestTraceOutlivesTheClient(t *testing.T) {
	t.Parallel()
	g := newTraced(t, harness.Site)
	ctx, leave := context.WithCancel(t.Context())
	body := strings.Replace(harness.ToolCall(3000, "late", `{}`), `"params":{`, fmt.Sprintf(`"params":{"_meta":{"traceparent":%q},`, fmt.Sprintf(metaParent, "01")), 1)
	left := make(chan error)
	go func() {
		_, err := g.Post(ctx, http.DefaultClient, g.secret, body)
		left <- err
	}()
	harness.Eventually(t, "the call at the server", func() error {
		if _, ok := g.server.request("3000"); !ok {
			return errors.New("it is not there")
		}
		return nil
	})
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(g.server.late)
	span := g.awaitMessage("3000")
	if got := tree(g.collector.Spans(t), &span); got != "tools/call late(authenticate, admit(reserve), upstream, capture)" || span.Trace != metaTrace {
		t.Errorf("the spans are %s in %s", got, span.Trace)
	}
	g.has(&span, map[string]string{"farebox.decision": "charged", "error.type": ""})
}

// TestTraceOfAKeyInTheURL checks that no span contains a key that a client has put into
// a URL or into the name of the client program.
func TestTraceOfAKeyInTheURL(t *testing.T) {
	t.Parallel()
	g := newTraced(t, harness.Site)
	for _, place := range []string{"/" + g.secret, "?key=" + g.secret, "/%ff"} { // exporters do not accept the last path unchanged, because it is not UTF-8
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint()+place, strings.NewReader(harness.ToolCall(4000, "free", `{}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "agent "+g.secret)
		if _, err := g.Send(http.DefaultClient, g.secret, req); err != nil {
			t.Fatal(err)
		}
	}
	id, _ := g.send(message{name: "free"})
	span := g.awaitMessage(id)
	g.ambient(&span, false)
	if !strings.Contains(string(g.collector.Received(t)), "/mcp/sk_live_") {
		t.Error("the path is missing")
	}
	g.keepsSecrets()
}
