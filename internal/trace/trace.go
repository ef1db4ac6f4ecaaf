// Package trace makes the spans of calls (OpenTelemetry). It continues the trace that
// the web server has begun for a request: the spans come from the provider of the web
// server's span. That provider also samples and exports them. If the web server does
// not trace a request, the functions of this package do nothing for it and do not
// allocate.
//
// Spans carry ids, names and codes, and never a secret, an argument or a result.
package trace

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fareboxhq/farebox/internal/clock"
)

// scope names the instrumentation in exported spans.
const scope = "github.com/fareboxhq/farebox"

// ID returns the id of the trace that ctx belongs to, as 32 hexadecimal digits, or "" if
// the trace is not sampled.
func ID(ctx context.Context) string {
	if c := oteltrace.SpanContextFromContext(ctx); c.IsValid() && c.IsSampled() {
		return c.TraceID().String()
	}
	return ""
}

// Span is a part of the work on a call. The zero Span records nothing. A Span must be
// ended once. Its methods may be called from one goroutine at a time.
type Span struct {
	live  oteltrace.Span // nil for a Span that records nothing, or is early
	early *early         // nil unless the span was begun before its parent
}

// early is a span that was begun before its parent; see Request.Early.
type early struct {
	name         Name
	began, ended time.Time // ended is the zero time until the span ends
	attributes   []attribute.KeyValue
	failed       string // the type of the error; "" without an error
}

// Start begins a span as a child of the span in ctx. It returns the zero Span if the
// span in ctx is not recorded.
func Start(ctx context.Context, name Name) (context.Context, Span) {
	return start(ctx, name, oteltrace.SpanKindInternal)
}

func start(ctx context.Context, name Name, kind oteltrace.SpanKind) (context.Context, Span) {
	parent := oteltrace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, live := parent.TracerProvider().Tracer(scope).Start(ctx, string(name), at(clock.Now()), oteltrace.WithSpanKind(kind))
	return ctx, Span{live: live}
}

func at(t time.Time) oteltrace.SpanEventOption { return oteltrace.WithTimestamp(t) }

// Recording reports whether the span records anything. If not, callers can skip
// computing attributes.
func (s Span) Recording() bool { return s.live != nil || s.early != nil }

// Text sets an attribute, unless the value is "".
func (s Span) Text(key Key, value string) {
	if s.Recording() && value != "" {
		s.set(attribute.String(string(key), valid(value)))
	}
}

// valid replaces the bytes of a text that are not UTF-8. Because of such bytes in one
// text, an exporter would refuse the whole batch of spans.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// Number sets an attribute, unless the value is 0.
func (s Span) Number(key Key, value int) {
	if s.Recording() && value != 0 {
		s.set(attribute.Int(string(key), value))
	}
}

func (s Span) set(a attribute.KeyValue) {
	if s.early != nil {
		s.early.attributes = append(s.early.attributes, a)
		return
	}
	s.live.SetAttributes(a)
}

// Rename replaces the name of the span. An early span keeps its name.
func (s Span) Rename(name string) {
	if s.live != nil {
		s.live.SetName(valid(name))
	}
}

// Fail gives the span the status ERROR. kind is a code, which becomes the type of the
// error. description is a fixed text or "".
func (s Span) Fail(kind, description string) {
	if !s.Recording() {
		return
	}
	s.Text(KeyErrorType, kind)
	if s.early != nil {
		s.early.failed = kind
		return
	}
	s.live.SetStatus(codes.Error, description)
}

// End ends the span now.
func (s Span) End() {
	switch {
	case s.early != nil:
		s.early.ended = clock.Now()
	case s.live != nil:
		s.live.End(at(clock.Now()))
	}
}

// Parent identifies a span to which spans can be added after the context of the request
// has ended. The zero Parent identifies no span.
type Parent struct{ span oteltrace.Span }

// Keep returns the message's span, which ctx carries, as a Parent. It returns the zero
// Parent if ctx has no recorded span.
func Keep(ctx context.Context) Parent {
	if span := oteltrace.SpanFromContext(ctx); !span.IsRecording() {
		return Parent{}
	}
	if message, ok := ctx.Value(messageKey{}).(oteltrace.Span); ok {
		return Parent{message}
	}
	return Parent{oteltrace.SpanFromContext(ctx)}
}

// Context returns a context without a deadline. Spans that Start begins in this context
// are children of the parent's span.
func (p Parent) Context() context.Context {
	if p.span == nil {
		return context.Background()
	}
	return oteltrace.ContextWithSpan(context.Background(), p.span)
}

// propagators returns the propagators that OTEL_PROPAGATORS names, as the web server uses
// them.
var propagators = sync.OnceValue(func() propagation.TextMapPropagator { return autoprop.NewTextMapPropagator() })

// Outgoing begins the span of a request to the server. It sets the headers that carry the
// trace, such as traceparent, in place of the client's own.
func (r *Request) Outgoing(ctx context.Context, method string, header http.Header) (context.Context, Span) {
	if r == nil {
		return ctx, Span{}
	}
	ctx, span := start(ctx, Upstream, oteltrace.SpanKindClient)
	span.Text(KeyHTTPMethod, method)
	p := propagators()
	for _, name := range p.Fields() {
		if name != "baggage" { // baggage belongs to the client and is passed on unchanged, even if it is not valid
			header.Del(name)
		}
	}
	p.Inject(ctx, propagation.HeaderCarrier(header))
	return ctx, span
}

// Answered records the address to which the request was sent, and the status of the
// response, which is 0 without a response. A status of 400 or more is an error.
func (s Span) Answered(address string, status int) {
	if !s.Recording() {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	s.Text(KeyAddress, host)
	if n, err := strconv.Atoi(port); err == nil {
		s.Number(KeyPort, n)
	}
	s.Number(KeyHTTPStatus, status)
	if status >= http.StatusBadRequest {
		s.Fail(strconv.Itoa(status), "")
	}
}
