package exchange

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// tracedExchange returns an exchange of a request with a recorded span, and the
// recorder that collects the spans when they end.
func tracedExchange(t *testing.T, body string) (*Exchange, *tracetest.SpanRecorder) {
	t.Helper()
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "get_forecast", Amount: 1}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	x, _ := exchangeFor(t, body)
	x.running = true
	x.site.Gate = gate.New(gate.Policy{Server: "weather", Prices: book}, gate.Deps{})
	spans := tracetest.NewSpanRecorder()
	ctx, _ := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("server").Start(t.Context(), "server")
	x.r = x.r.WithContext(ctx)
	x.beginTrace()
	return x, spans
}

// TestTracingOff checks that an exchange has no spans if the web server does not trace
// requests. The methods that make spans then allocate nothing.
func TestTracingOff(t *testing.T) {
	x, _ := exchangeFor(t, paidCall)
	x.r.Header.Set("Traceparent", "the client's")
	call, refusal, r := new(gate.Call), &gate.Refusal{Code: gate.UpstreamFailed}, x.r
	n := testing.AllocsPerRun(100, func() {
		x.beginTrace()
		x.beginMessage()
		r, span := x.outgoing(r)
		x.endOutgoing(span, r, http.StatusOK, nil)
		gate.EndSpan(span, refusal)
		x.refuseTrace(refusal, 502)
		x.cutTrace(refusal)
		if x.traced(call) != call || r != x.r {
			t.Error("the call or the request is another")
		}
		x.endTrace()
		if x.traceID() != "" {
			t.Error("there is a trace")
		}
	})
	if n != 0 || x.tracing != nil || x.r.Header.Get("Traceparent") != "the client's" {
		t.Errorf("%v allocations, headers %v", n, x.r.Header)
	}
}

// TestSpanOfAnExchange checks the name, the attributes and the status of an exchange's
// span. It does so for each kind of message and for each way in which an exchange can
// end. No span has a name that a client made up.
func TestSpanOfAnExchange(t *testing.T) {
	request := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":"` + "\u00e9" + `","method":"` + method + `","params":` + params + `}`
	}
	long := strings.Repeat("x", 5000)
	for is, c := range map[string]struct {
		body string
		with func(*Exchange)
		name string
		want map[string]string // "-" if the attribute must be absent
		err  string
	}{
		"no message":          {name: "POST", want: map[string]string{"http.request.method": "-", "mcp.method.name": "-"}},
		"a stream":            {with: func(x *Exchange) { x.r.Method = "GET" }, name: "GET"},
		"an end":              {with: func(x *Exchange) { x.r.Method = "DELETE" }, name: "DELETE"},
		"a response":          {body: `{"jsonrpc":"2.0","id":1,"result":{}}`, name: "response", want: map[string]string{"jsonrpc.request.id": "-"}},
		"a notification":      {body: `{"jsonrpc":"2.0","method":"notifications/initialized"}`, name: "notifications/initialized", want: map[string]string{"mcp.method.name": "notifications/initialized", "jsonrpc.request.id": "-"}},
		"an invented method":  {body: request("secret/one", `{}`), name: "POST", want: map[string]string{"mcp.method.name": "_OTHER", "jsonrpc.request.id": "\u00e9"}},
		"a tool":              {body: request("tools/call", `{"name":"get_forecast"}`), name: "tools/call get_forecast", want: map[string]string{"farebox.entry": "get_forecast", "gen_ai.operation.name": "execute_tool"}},
		"an invented tool":    {body: request("tools/call", `{"name":"secret"}`), name: "tools/call", want: map[string]string{"gen_ai.tool.name": "secret", "farebox.entry": "-"}},
		"a tool let through":  {body: request("tools/call", `{"name":"other"}`), with: func(x *Exchange) { x.call = new(gate.Call) }, name: "tools/call other"},
		"a long name":         {body: request("tools/call", `{"name":"`+long+`"}`), name: "tools/call", want: map[string]string{"gen_ai.tool.name": long[:1024]}},
		"a resumed prompt":    {body: request("prompts/get", `{"name":"prompt:hello"}`), with: func(x *Exchange) { x.call = new(gate.Call) }, name: "prompts/get hello", want: map[string]string{"gen_ai.prompt.name": "hello"}},
		"a resource":          {body: request("resources/read", `{"uri":"db://secret"}`), name: "resources/read", want: map[string]string{"mcp.resource.uri": "-"}},
		"a version":           {with: func(x *Exchange) { x.r.Header.Set("Mcp-Protocol-Version", "2025-11-25") }, name: "POST", want: map[string]string{"mcp.protocol.version": "2025-11-25"}},
		"an invented version": {with: func(x *Exchange) { x.r.Header.Set("Mcp-Protocol-Version", "2025-secret") }, name: "POST", want: map[string]string{"mcp.protocol.version": "-"}},
		"a session":           {with: func(x *Exchange) { x.session = "abc" }, name: "POST", want: map[string]string{"mcp.session.id": "6019d028c2972562937e0a5ec3f4d01e"}},

		"an error of the server":  {body: paidCall, with: func(x *Exchange) { x.tracing.status = 503 }, name: "tools/call get_forecast", want: map[string]string{"error.type": "503"}, err: "-"},
		"a broken response":       {body: paidCall, with: func(x *Exchange) { x.cutTrace(&gate.Refusal{Code: gate.UpstreamFailed}) }, name: "tools/call get_forecast", want: map[string]string{"error.type": "UPSTREAM_FAILED"}, err: "-"},
		"an error without a code": {body: paidCall, with: func(x *Exchange) { x.tracing.answered(mcp.OutcomeError, nil) }, name: "tools/call get_forecast", want: map[string]string{"error.type": "_OTHER", "rpc.response.status_code": "-"}, err: "-"},
		"a refusal":               {body: paidCall, with: func(x *Exchange) { x.refuseBody(gate.ToolUnknown) }, name: "tools/call get_forecast", want: map[string]string{"error.type": "-32602", "rpc.response.status_code": "-32602", "farebox.refused": "TOOL_UNKNOWN"}, err: "Unknown tool"},
		"a result":                {body: paidCall, with: func(x *Exchange) { x.tracing.answered(mcp.OutcomeResult, nil); x.leave() }, name: "tools/call get_forecast", want: map[string]string{"error.type": "-"}},
		"a client that left":      {body: paidCall, with: (*Exchange).leave, name: "tools/call get_forecast", want: map[string]string{"error.type": "abandoned"}, err: "-"},
		"a listener that left":    {with: func(x *Exchange) { x.r.Method = "GET"; x.leave() }, name: "GET", want: map[string]string{"error.type": "-"}},
	} {
		t.Run(is, func(t *testing.T) {
			x, spans := tracedExchange(t, c.body)
			if c.with != nil {
				c.with(x)
			}
			x.endTrace()
			ended := spans.Ended()
			if len(ended) != 1 || ended[0].Name() != c.name {
				t.Fatalf("got %d spans, the first is %q; want %q", len(ended), ended[0].Name(), c.name)
			}
			got := make(map[string]string)
			for _, a := range ended[0].Attributes() {
				got[string(a.Key)] = a.Value.String()
			}
			for key, want := range c.want {
				if value, ok := got[key]; value != want && (want != "-" || ok) {
					t.Errorf("%s is %q, want %q", key, value, want)
				}
			}
			status := ended[0].Status()
			if status.Code == codes.Error != (c.err != "") || status.Description != strings.TrimPrefix(c.err, "-") {
				t.Errorf("the status is %v, want %q", status, c.err)
			}
		})
	}
}

func (x *Exchange) refuseBody(code gate.Code) { x.refusalBody(&gate.Refusal{Code: code}, false) }

// leave ends the request's context, as a client that disconnects does.
func (x *Exchange) leave() {
	ctx, cancel := context.WithCancel(x.r.Context())
	cancel()
	x.r = x.r.WithContext(ctx)
}

// TestTraceWithoutAnEngine checks that a request has a span with its method even if it
// is refused because the store is not open yet. The span has no entry, because there is
// no price book at that time.
func TestTraceWithoutAnEngine(t *testing.T) {
	x, spans := tracedExchange(t, paidCall)
	x.site.Gate, x.running = nil, false
	x.refuse(&gate.Refusal{Code: gate.StoreUnavailable})
	x.endTrace()
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "tools/call" || ended[0].Status().Code != codes.Error {
		t.Errorf("spans %v", ended)
	}
}
