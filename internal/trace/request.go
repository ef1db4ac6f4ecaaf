package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fareboxhq/farebox/internal/clock"
)

// Request is the trace of one HTTP request with at most one message in its body. A nil
// *Request stands for a request that is not traced. Its methods may be called from one
// goroutine at a time.
type Request struct {
	ambient oteltrace.Span // the web server's span; possibly not recorded
	began   time.Time
	early   []*early
}

// FromContext returns the trace of a request that began at the given time, or nil if
// the web server traces nothing. FromContext returns the trace even if the request is
// not sampled, because its message may belong to a trace that is sampled.
func FromContext(ctx context.Context, began time.Time) *Request {
	ambient := oteltrace.SpanFromContext(ctx)
	if !ambient.SpanContext().IsValid() {
		return nil
	}
	return &Request{ambient: ambient, began: began}
}

// Conceal removes secrets from the web server's span: it replaces the name and each
// attribute in which conceal(text) finds a secret. It also replaces bytes that are not
// UTF-8. Because of such bytes, an exporter would lose the whole batch of spans.
func (r *Request) Conceal(conceal func(string) (concealed string, found bool)) {
	if r == nil {
		return
	}
	readable, ok := r.ambient.(interface {
		Name() string
		Attributes() []attribute.KeyValue
	})
	if !ok || !r.ambient.IsRecording() {
		return
	}
	change := func(text string, set func(string)) {
		if concealed, found := conceal(valid(text)); found || !utf8.ValidString(text) {
			set(concealed)
		}
	}
	change(readable.Name(), func(name string) { r.ambient.SetName(name) })
	for _, a := range readable.Attributes() {
		if a.Value.Type() == attribute.STRING {
			change(a.Value.AsString(), func(value string) { r.ambient.SetAttributes(a.Key.String(value)) })
		}
	}
}

// earlyKey is the context key of a span that Early has begun.
type earlyKey struct{}

// Early begins a span that becomes a child of the message's span, although the message
// is not known yet. The later call of Message adds the span if the span has ended by
// then, and drops the span otherwise.
func (r *Request) Early(ctx context.Context, name Name) (context.Context, Span) {
	if r == nil {
		return ctx, Span{}
	}
	e := &early{name: name, began: clock.Now()}
	r.early = append(r.early, e)
	return context.WithValue(ctx, earlyKey{}, e), Span{early: e}
}

// FoundIn records where the caller's key was found, for example in the cache. The
// record is an attribute of the span that Early has begun. FoundIn does nothing if ctx
// has no such span, or if the span has ended.
func FoundIn(ctx context.Context, source string) {
	if e, ok := ctx.Value(earlyKey{}).(*early); ok && e.ended.IsZero() {
		Span{early: e}.Text(KeySource, source)
	}
}

// messageKey is the context key of the message's span.
type messageKey struct{}

// Message begins the span of the request's message. The span's start time is the
// beginning of the request. meta is params._meta, an object that mcp.Decode has
// accepted, or nil.
//
// If _meta has a valid traceparent (W3C Trace Context; SEP-414), the span belongs to
// that trace, is sampled as that trace is, and is linked to the web server's span.
// Otherwise the web server's span is its parent. The span's kind is SERVER.
func (r *Request) Message(ctx context.Context, meta []byte) (context.Context, Span) {
	if r == nil {
		return ctx, Span{}
	}
	options := []oteltrace.SpanStartOption{at(r.began), oteltrace.WithSpanKind(oteltrace.SpanKindServer)}
	caller := read(meta)
	switch {
	case caller.IsValid():
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, caller)
		options = append(options, oteltrace.WithLinks(oteltrace.Link{SpanContext: r.ambient.SpanContext()}))
	case !r.ambient.IsRecording():
		return ctx, Span{}
	}
	tracer := r.ambient.TracerProvider().Tracer(scope)
	ctx, live := tracer.Start(ctx, "message", options...)
	if !live.IsRecording() {
		return ctx, Span{}
	}
	for _, e := range r.early {
		if e.ended.IsZero() {
			continue
		}
		_, span := tracer.Start(ctx, string(e.name), at(e.began), oteltrace.WithAttributes(e.attributes...))
		if e.failed != "" {
			Span{live: span}.Fail(e.failed, "")
		}
		span.End(at(e.ended))
	}
	return context.WithValue(ctx, messageKey{}, live), Span{live: live}
}

// The members of _meta that describe a trace, and the maximum length of each of them in
// bytes. W3C Trace Context (3.3.1.5) asks for at least 512 characters of a tracestate.
const (
	parentName = "traceparent"
	stateName  = "tracestate"
	maxState   = 512
)

// read returns the trace in _meta, or the zero SpanContext for an absent or an
// invalid one.
func read(meta []byte) (none oteltrace.SpanContext) {
	if !bytes.Contains(meta, []byte(`"`+parentName+`"`)) {
		return none
	}
	var members map[string]json.RawMessage // a map, because a struct would also match names that differ in case
	if json.Unmarshal(meta, &members) != nil {
		return none
	}
	carrier := make(propagation.MapCarrier, 2)
	for _, name := range []string{parentName, stateName} {
		var value string
		if json.Unmarshal(members[name], &value) == nil && len(value) <= maxState {
			carrier[name] = value
		}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier)
	return oteltrace.SpanContextFromContext(ctx)
}
