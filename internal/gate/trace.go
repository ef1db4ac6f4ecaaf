package gate

import (
	"context"

	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/trace"
)

// EntryOf returns the entry of the price book for the item that a request asks for. It
// returns "" if no entry names the item.
func (g *Gate) EntryOf(m *mcp.Message) string {
	item := ItemOf(m)
	if m.Kind != mcp.KindRequest || len(item.Name) > items.MaxName { // the name is too long to be matched against patterns
		return ""
	}
	return g.policy.Prices.EntryOf(item, false)
}

// span begins the span of a step of the charge. If the call has no parent span, span
// returns ctx and an empty Span at once. It does not search ctx for a parent, because a
// search in a context made by context.WithoutCancel allocates.
func (c *Call) span(ctx context.Context, name trace.Name) (context.Context, trace.Span) {
	if c.parent == (trace.Parent{}) {
		return ctx, trace.Span{}
	}
	ctx, span := trace.Start(ctx, name)
	if span.Recording() {
		span.Text(trace.KeyCharge, c.id)
		span.Text(trace.KeyEntry, c.entry)
		span.Text(trace.KeyPrice, c.order.Amount.String())
	}
	return ctx, span
}

// EndSpan ends the span of a step. The refusal is nil if the step has not refused
// anything.
func EndSpan(span trace.Span, r *Refusal) {
	refuse(span, r)
	span.End()
}

// refuse records the refusal of a step in the step's span; a nil refusal records
// nothing. Only a fault marks the span as failed, because a step that refuses for
// another reason has worked as intended.
func refuse(span trace.Span, r *Refusal) {
	if r == nil {
		return
	}
	span.Text(trace.KeyRefused, string(r.Code))
	if r.Code.IsFault() {
		span.Fail(string(r.Code), "")
	}
}

// storeRefusal returns the refusal for an error of the store, or nil if the error is
// nil or leaves the books certainly unchanged; see inDoubt.
func storeRefusal(err error) *Refusal {
	if !inDoubt(err) {
		return nil
	}
	return &Refusal{Code: StoreUnavailable, Cause: err}
}
