package gate

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/pricing"
	"github.com/fareboxhq/farebox/internal/trace"
)

// spansOf returns the names of ended spans with their statuses. It fails the test if a
// span is not a child of the span in ctx, or lacks the attributes of the charge.
func spansOf(t *testing.T, ctx context.Context, spans *tracetest.SpanRecorder) string {
	t.Helper()
	var names []string
	above := tracedBy(ctx)
	for _, span := range spans.Ended() {
		name := span.Name()
		if span.Status().Code == codes.Error {
			name += " failed"
		}
		names = append(names, name)
		attributes := make(map[string]string)
		for _, a := range span.Attributes() {
			attributes[string(a.Key)] = a.Value.String()
		}
		if span.Parent().SpanID().String() != above || attributes["farebox.charge"] == "" || attributes["farebox.entry"] == "" || attributes["farebox.price"] == "" {
			t.Errorf("%s is below %s, with %v", name, span.Parent().SpanID(), attributes)
		}
	}
	return strings.Join(names, ", ")
}

// TestRenewalsKeepTheTrace checks that the renewals of a reservation belong to the
// trace of its call, even after the context of the request has ended.
func TestRenewalsKeepTheTrace(t *testing.T) {
	book, err := pricing.Compile([]pricing.Rule{{Pattern: "slow", Amount: 1}}, pricing.Default{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mcp.Decode([]byte(toolCall("slow")))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		g := New(Policy{Server: "s", Prices: book, MaxCall: time.Hour}, Deps{
			Ledger: new(clockwork), Abandonments: new(leavers), Metrics: new(counts), Logger: slog.New(slog.DiscardHandler),
			Now: clock.Now, NewID: func(p string) string { return p },
		})
		ctx, spans := recorded()
		request, leave := context.WithCancel(ctx)
		call, refusal := g.Admit(request, callerFor(&keys.Key{Kind: keys.Agent}), mcp.EraSession, &m)
		if refusal != nil {
			t.Fatal(refusal)
		}
		leave()
		time.Sleep(2*time.Minute + time.Second) // advances the bubble's clock
		synctest.Wait()
		call.Close(context.WithoutCancel(ctx))
		if got := spansOf(t, ctx, spans); got != "reserve, renew, renew, release" {
			t.Errorf("the spans are %s", got)
		}
	})
}

// brokenCapture is a Ledger that fails every capture.
type brokenCapture struct{ Ledger }

func (brokenCapture) Capture(context.Context, string, []byte) (c ledger.Charge, b ledger.Balance, err error) {
	return c, b, errors.New("the secret of the store")
}

// TestSpansOfACharge checks that the steps of a charge have spans. Only a failure of
// the store marks a span as failed, and no span has the text of the store's error.
func TestSpansOfACharge(t *testing.T) {
	for name, c := range map[string]struct {
		tool   string
		broken bool
		end    func(*testing.T, context.Context, *Call)
		want   string
	}{
		"captured": {"cheap", false, func(t *testing.T, ctx context.Context, call *Call) {
			if _, refusal := call.Settle(ctx, mcp.OutcomeResult, nil); refusal != nil {
				t.Fatal(refusal)
			}
		}, "reserve, capture"},
		"refunded": {"cheap", false, func(_ *testing.T, ctx context.Context, call *Call) {
			_, _ = call.Settle(ctx, mcp.OutcomeResult, nil)
			call.Release(ctx)
		}, "reserve, capture, refund"},
		"released": {"cheap", false, func(_ *testing.T, ctx context.Context, call *Call) { call.Release(ctx) }, "reserve, release"},
		"failed": {"cheap", true, func(t *testing.T, ctx context.Context, call *Call) {
			if _, refusal := call.Settle(ctx, mcp.OutcomeResult, nil); refusal == nil {
				t.Fatal("it was captured")
			}
		}, "reserve, capture failed, release"},
		"refused": {"dear", false, nil, "reserve"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.broken {
				b.deps.Ledger = brokenCapture{b.store}
			}
			m, err := mcp.Decode([]byte(toolCall(c.tool)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, spans := recorded()
			call, refusal := b.Admit(ctx, b.callerOf(t, b.key(t, nil)), mcp.EraSession, &m)
			if (refusal == nil) != (c.end != nil) {
				t.Fatal(refusal)
			}
			if c.end != nil {
				c.end(t, ctx, call)
				call.Close(ctx)
			}
			if got := spansOf(t, ctx, spans); got != c.want {
				t.Errorf("the spans are %s, want %s", got, c.want)
			}
			for _, span := range spans.Ended() {
				if len(span.Events()) > 0 || span.Status().Description != "" {
					t.Errorf("%s has the events %v and the status %v", span.Name(), span.Events(), span.Status())
				}
			}
		})
	}
}

// recorded returns a context with a recorded span, and the recorder that collects the
// spans when they end.
func recorded() (context.Context, *tracetest.SpanRecorder) {
	spans := tracetest.NewSpanRecorder()
	ctx, _ := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test").Start(context.Background(), "request")
	return ctx, spans
}

// tracedBy returns the id of the span in ctx.
func tracedBy(ctx context.Context) string {
	return oteltrace.SpanContextFromContext(ctx).SpanID().String()
}

// TestSpansOff checks that the steps of a charge have no spans, and allocate nothing,
// if the request has no recorded span.
func TestSpansOff(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	call := &Call{id: "chg_1", parent: trace.Keep(ctx)}
	n := testing.AllocsPerRun(100, func() {
		within, span := call.span(ctx, trace.Capture)
		if within != ctx || span.Recording() {
			t.Error("there is a span")
		}
		EndSpan(span, nil)
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
