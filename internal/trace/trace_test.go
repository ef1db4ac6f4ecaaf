package trace

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fareboxhq/farebox/internal/clock"
)

// The traces of callers in these tests.
const (
	traceA = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanA  = "00f067aa0ba902b7"
	traceB = "0af7651916cd43dd8448eb211c80319c"
	spanB  = "b7ad6b7169203331"
)

// server takes the place of the web server in a test. It records the spans that its
// provider makes.
type server struct {
	spans    *tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

func newServer() *server {
	s := &server{spans: tracetest.NewSpanRecorder()}
	s.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	return s
}

// serve returns the context of a request with the given traceparent, and the server's
// span.
func (s *server) serve(traceparent string) (context.Context, oteltrace.Span) {
	ctx := oteltrace.ContextWithRemoteSpanContext(context.Background(), read([]byte(`{"traceparent":"`+traceparent+`"}`)))
	return s.provider.Tracer("server").Start(ctx, "POST /mcp", oteltrace.WithSpanKind(oteltrace.SpanKindServer))
}

// named returns the only ended span with the given name.
func (s *server) named(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found sdktrace.ReadOnlySpan
	for _, span := range s.spans.Ended() {
		if span.Name() == name {
			if found != nil {
				t.Fatalf("there are two spans %q", name)
			}
			found = span
		}
	}
	if found == nil {
		t.Fatalf("there is no span %q", name)
	}
	return found
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, a := range span.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// TestOffCostsNothing checks that no function allocates or makes a span if the web
// server does not trace requests. The context is as deeply nested as a request's
// context in Caddy.
func TestOffCostsNothing(t *testing.T) {
	ctx := context.Background()
	for range 12 {
		type key struct{ *int }
		ctx = context.WithValue(ctx, key{new(int)}, 1)
	}
	header, began := http.Header{"Traceparent": {"kept"}}, clock.Now()
	meta := []byte(`{"traceparent":"00-` + traceA + "-" + spanA + `-01"}`)
	n := testing.AllocsPerRun(100, func() {
		r := FromContext(ctx, began)
		r.Conceal(nil)
		ctx, early := r.Early(ctx, Authenticate)
		FoundIn(ctx, "cache")
		ctx, message := r.Message(ctx, meta)
		ctx, step := Start(ctx, Reserve)
		step.Text(KeyCharge, "chg_1")
		step.Number(KeyPort, 1)
		step.Fail("code", "text")
		ctx, out := r.Outgoing(ctx, "POST", header)
		out.Answered("localhost:1", 200)
		message.Rename("tools/call")
		for _, span := range []Span{early, message, step, out} {
			if span.Recording() {
				t.Error("a span is recorded")
			}
			span.End()
		}
		if ID(Keep(ctx).Context()) != "" || header.Get("Traceparent") != "kept" {
			t.Error("there is a trace")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// TestTraceOfTheMessage checks that a valid traceparent in _meta decides to which trace
// a message belongs, and whether the message is sampled. The message's span is then
// linked to the request's own span. Anything else in _meta is ignored.
func TestTraceOfTheMessage(t *testing.T) {
	inMeta := func(value string) string { return `{"progressToken":7,"traceparent":` + value + `}` }
	valid := `"00-` + traceB + `-` + spanB + `-01"`
	for name, c := range map[string]struct {
		header, meta string
		trace        string // the expected trace id of the message's span; "" for the trace in the header or, without a header, that of the server
		parent       string // the expected id of the parent of the message's span; "" for the server's span
		sampled      bool
	}{
		"neither":                 {meta: "", sampled: true},
		"header":                  {header: "00-" + traceA + "-" + spanA + "-01", sampled: true},
		"header, not sampled":     {header: "00-" + traceA + "-" + spanA + "-00"},
		"meta":                    {meta: inMeta(valid), trace: traceB, parent: spanB, sampled: true},
		"meta, not sampled":       {meta: inMeta(strings.Replace(valid, `-01"`, `-00"`, 1)), trace: traceB, parent: spanB},
		"both":                    {header: "00-" + traceA + "-" + spanA + "-01", meta: inMeta(valid), trace: traceB, parent: spanB, sampled: true},
		"both, only meta sampled": {header: "00-" + traceA + "-" + spanA + "-00", meta: inMeta(valid), trace: traceB, parent: spanB, sampled: true},
		"random flag":             {meta: inMeta(strings.Replace(valid, `-01"`, `-03"`, 1)), trace: traceB, parent: spanB, sampled: true},

		"upper case":        {meta: inMeta(strings.Replace(valid, "c8031", "C8031", 1)), sampled: true},
		"too short":         {meta: inMeta(strings.Replace(valid, "-01", "-1", 1)), sampled: true},
		"a tail":            {meta: inMeta(strings.Replace(valid, "-01", "-01-x", 1)), sampled: true},
		"unknown flags":     {meta: inMeta(strings.Replace(valid, "-01", "-09", 1)), sampled: true},
		"version ff":        {meta: inMeta(strings.Replace(valid, `"00-`, `"ff-`, 1)), sampled: true},
		"no trace id":       {meta: inMeta(strings.Replace(valid, traceB, strings.Repeat("0", 32), 1)), sampled: true},
		"no span id":        {meta: inMeta(strings.Replace(valid, spanB, strings.Repeat("0", 16), 1)), sampled: true},
		"a number":          {meta: inMeta("1"), sampled: true},
		"a list":            {meta: inMeta("[" + valid + "]"), sampled: true},
		"null":              {meta: inMeta("null"), sampled: true},
		"empty":             {meta: inMeta(`""`), sampled: true},
		"another case":      {meta: `{"Traceparent":` + valid + `}`, sampled: true},
		"a level below":     {meta: `{"x":{"traceparent":` + valid + `}}`, sampled: true},
		"very long":         {meta: inMeta(`"00-` + strings.Repeat("a", 1<<16) + `"`), sampled: true},
		"only a tracestate": {meta: `{"tracestate":"a=b"}`, sampled: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			ctx, ambient := s.serve(c.header)
			ctx, span := FromContext(ctx, clock.Now()).Message(ctx, []byte(c.meta))
			if span.Recording() != c.sampled {
				t.Fatalf("recorded: %v, want %v", span.Recording(), c.sampled)
			}
			trace, parent := c.trace, c.parent
			if trace == "" {
				trace, parent = ambient.SpanContext().TraceID().String(), ambient.SpanContext().SpanID().String()
			}
			if got := oteltrace.SpanContextFromContext(ctx); got.TraceID().String() != trace || got.IsSampled() != c.sampled {
				t.Errorf("the message has the trace %s, sampled %v", got.TraceID(), got.IsSampled())
			}
			if id := ID(ctx); (id == "") == c.sampled || id != "" && id != trace {
				t.Errorf("ID says %q", id)
			}
			if !c.sampled {
				return
			}
			span.End()
			got := s.named(t, "message")
			if got.Parent().SpanID().String() != parent || got.SpanKind() != oteltrace.SpanKindServer {
				t.Errorf("it is a %v below %s, want one below %s", got.SpanKind(), got.Parent().SpanID(), parent)
			}
			links := got.Links()
			if c.trace == "" && len(links) != 0 || c.trace != "" && (len(links) != 1 || !links[0].SpanContext.Equal(ambient.SpanContext())) {
				t.Errorf("it has the links %v", links)
			}
		})
	}
}

// TestStateOfTheTrace checks that tracestate is taken from _meta together with
// traceparent, if it is valid and has at most 512 bytes. An invalid tracestate is
// ignored, and traceparent still counts.
func TestStateOfTheTrace(t *testing.T) {
	for state, want := range map[string]string{
		`"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"`: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
		`"a=` + strings.Repeat("x", 200) + `"`:      "a=" + strings.Repeat("x", 200),
		`"a=` + strings.Repeat("x,b=y", 200) + `"`:  "",
		`"no state"`: "",
		`7`:          "",
		`"a=` + strings.Repeat("x", 250) + `,b=` + strings.Repeat("y", 250) + `,c=z` + `"`: "a=" + strings.Repeat("x", 250) + ",b=" + strings.Repeat("y", 250) + ",c=z",
		`"a=` + strings.Repeat("x", 250) + `,b=` + strings.Repeat("y", 254) + `,c=z` + `"`: "",
	} {
		got := read([]byte(`{"tracestate":` + state + `,"traceparent":"00-` + traceA + `-` + spanA + `-01"}`))
		if got.TraceID().String() != traceA || got.TraceState().String() != want {
			t.Errorf("%s: %v %q", state, got.TraceID(), got.TraceState())
		}
	}
}

// TestEarlySpans checks that a span that ended before the message was known is a
// child of the message's span, with its own times.
func TestEarlySpans(t *testing.T) {
	s := newServer()
	ctx, _ := s.serve("")
	began := clock.Now()
	r := FromContext(ctx, began)
	ctx, span := r.Early(ctx, Authenticate)
	FoundIn(ctx, "store")
	span.Text(KeyAccount, "acct_1")
	span.Text(KeyKey, "")
	span.Fail("STORE_UNAVAILABLE", "")
	span.End()
	ended := clock.Now()
	FoundIn(ctx, "cache")      // a lookup after authentication; the span "authenticate" must not record it
	_, _ = r.Early(ctx, Admit) // this span is dropped, because it never ends
	ctx, message := r.Message(ctx, []byte(`{"traceparent":"00-`+traceB+`-`+spanB+`-01"}`))
	_, step := Start(ctx, Reserve)
	step.End()
	message.Rename("tools/call x")
	message.End()
	got, above := s.named(t, "authenticate"), s.named(t, "tools/call x")
	if len(s.spans.Ended()) != 3 || got.Parent().SpanID() != above.SpanContext().SpanID() || got.SpanContext().TraceID().String() != traceB {
		t.Errorf("authenticate is below %v", got.Parent().SpanID())
	}
	if got.StartTime().Before(began) || got.EndTime().After(ended) || !above.StartTime().Equal(began) || above.EndTime().Before(ended) {
		t.Errorf("authenticate lasted from %v to %v, the message from %v to %v", got.StartTime(), got.EndTime(), above.StartTime(), above.EndTime())
	}
	if a := attributesOf(got); len(a) != 3 || a["farebox.source"] != "store" || a["farebox.account"] != "acct_1" || a["error.type"] != "STORE_UNAVAILABLE" {
		t.Errorf("it has the attributes %v", a)
	}
	if got.Status().Code != codes.Error || above.Status().Code != codes.Unset || s.named(t, "reserve").Parent().SpanID() != above.SpanContext().SpanID() {
		t.Errorf("the statuses are %v and %v", got.Status(), above.Status())
	}
}

// TestOutgoing checks the headers that the server gets in place of the client's. They
// have the id of the span "upstream" or, if the message is not sampled, only the id of
// the message's trace. The client's baggage is kept.
func TestOutgoing(t *testing.T) {
	for name, c := range map[string]struct{ header, meta, want string }{
		"sampled":              {"00-" + traceA + "-" + spanA + "-01", `{}`, "00-" + traceA + "-*-01"},
		"not sampled":          {"00-" + traceA + "-" + spanA + "-00", `{}`, "00-" + traceA + "-*-00"},
		"in meta":              {"00-" + traceA + "-" + spanA + "-01", `{"traceparent":"00-` + traceB + `-` + spanB + `-01"}`, "00-" + traceB + "-*-01"},
		"in meta, not sampled": {"00-" + traceA + "-" + spanA + "-01", `{"traceparent":"00-` + traceB + `-` + spanB + `-00"}`, "00-" + traceB + "-*-00"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			ctx, _ := s.serve(c.header)
			bag, err := baggage.Parse("user=alice")
			if err != nil {
				t.Fatal(err)
			}
			ctx = baggage.ContextWithBaggage(ctx, bag)
			r := FromContext(ctx, clock.Now())
			ctx, message := r.Message(ctx, []byte(c.meta))
			header := http.Header{"Traceparent": {c.header, "another"}, "Tracestate": {"stale=1"}, "Baggage": {"user=alice"}}
			ctx, span := r.Outgoing(ctx, http.MethodPost, header)
			if oteltrace.SpanContextFromContext(ctx).IsSampled() != span.Recording() {
				t.Error("the context has another span")
			}
			span.Answered("[::1]:3001", http.StatusBadGateway)
			span.End()
			message.End()
			got := header["Traceparent"]
			before, after, _ := strings.Cut(c.want, "*")
			if len(got) != 1 || !strings.HasPrefix(got[0], before) || !strings.HasSuffix(got[0], after) || header.Get("Tracestate") != "" || header.Get("Baggage") != "user=alice" {
				t.Fatalf("the server gets %v", header)
			}
			if !span.Recording() {
				return
			}
			up := s.named(t, "upstream")
			if got[0] != before+up.SpanContext().SpanID().String()+after || up.SpanKind() != oteltrace.SpanKindClient {
				t.Errorf("the server gets %s, the span is %s", got[0], up.SpanContext().SpanID())
			}
			if a := attributesOf(up); a["server.address"] != "::1" || a["server.port"] != "3001" || a["http.response.status_code"] != "502" || a["error.type"] != "502" || up.Status().Code != codes.Error {
				t.Errorf("it has the attributes %v and the status %v", a, up.Status())
			}
		})
	}
}

// TestKeep checks that spans of work that outlives a request are children of the
// span of the request's message.
func TestKeep(t *testing.T) {
	s := newServer()
	ctx, ambient := s.serve("")
	if got := oteltrace.SpanContextFromContext(Keep(ctx).Context()); !got.Equal(ambient.SpanContext()) {
		t.Errorf("without a message, %v is kept", got.SpanID())
	}
	ctx, cancel := context.WithCancel(ctx)
	ctx, message := FromContext(ctx, clock.Now()).Message(ctx, nil)
	within, step := Start(ctx, Admit)
	parent := Keep(within)
	step.End()
	cancel()
	later := parent.Context()
	_, renewal := Start(later, Renew)
	renewal.End()
	message.End()
	if got := s.named(t, "renew").Parent().SpanID(); later.Err() != nil || got != s.named(t, "message").SpanContext().SpanID() {
		t.Errorf("the renewal is below %v", got)
	}
}

// TestConceal checks that the name and the attributes of the web server's span are
// replaced if they contain a secret or are not UTF-8, and stay unchanged otherwise.
func TestConceal(t *testing.T) {
	s := newServer()
	ctx, ambient := s.serve("")
	ambient.SetName("POST /secret")
	ambient.SetAttributes(attribute.String("url.path", "/secret"), attribute.String("client.address", "\xff"), attribute.String("user_agent.original", "agent"), attribute.Int("server.port", 80))
	FromContext(ctx, clock.Now()).Conceal(func(text string) (string, bool) {
		concealed := strings.ReplaceAll(text, "secret", "REDACTED")
		return concealed, concealed != text
	})
	ambient.End()
	a := attributesOf(s.named(t, "POST /REDACTED"))
	if len(a) != 4 || a["url.path"] != "/REDACTED" || a["client.address"] != "\uFFFD" || a["user_agent.original"] != "agent" || a["server.port"] != "80" {
		t.Errorf("it has the attributes %v", a)
	}
}

// TestTextIsUTF8 checks that no text of a client can make an export fail, because that
// would lose the spans of other requests, too.
func TestTextIsUTF8(t *testing.T) {
	s := newServer()
	ctx, _ := s.serve("")
	_, span := Start(ctx, Admit)
	span.Text(KeyTool, "a\xffb")
	span.Rename("tools/call a\xffb")
	span.End()
	got := s.named(t, "tools/call a\uFFFDb")
	if a := attributesOf(got); a["gen_ai.tool.name"] != "a\uFFFDb" {
		t.Errorf("the name is %q", a)
	}
	if d := got.EndTime().Sub(got.StartTime()); d < 0 || d > time.Minute {
		t.Errorf("it took %v", d)
	}
}
