package intercept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/mcp"
)

// wire is the client's end of the connection. It records the bytes that were sent and
// how many of them were flushed.
type wire struct {
	*httptest.ResponseRecorder
	flushed int   // the number of bytes of the body that were flushed
	fail    error // if not nil, the error that writes return
	bounded bool  // a write deadline was set at least once
	armed   bool  // a write deadline is set now
}

func newWire() *wire { return &wire{ResponseRecorder: httptest.NewRecorder()} }

func (w *wire) Write(p []byte) (int, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	return w.ResponseRecorder.Write(p)
}

// WriteHeader records only the final head. A ResponseRecorder would record the first
// head.
func (w *wire) WriteHeader(status int) {
	if status >= 200 {
		w.ResponseRecorder.WriteHeader(status)
	}
}

func (w *wire) FlushError() error {
	w.flushed = w.Body.Len()
	return w.fail
}

func (w *wire) SetWriteDeadline(at time.Time) error {
	w.armed = !at.IsZero()
	w.bounded = w.bounded || w.armed
	return nil
}

func (w *wire) Unwrap() http.ResponseWriter { return nil }

// books is a Call that records how it was settled and the bytes that had been sent at
// the capture.
type books struct {
	wire      *wire
	outcomes  []mcp.Outcome
	captured  bool
	released  int
	suspended int
	before    string        // the part of the body that had been sent before the capture
	flushed   int           // how many bytes of that part had been flushed
	refusal   *gate.Refusal // if not nil, Settle returns this refusal instead of capturing
	during    func()        // if not nil, runs during the capture

	charges   map[mcp.Outcome]bool // the outcomes to charge; if nil, only OutcomeResult
	abandoned bool                 // charge although the client has left
	reads     bool                 // Settle inspects the response
	keeps     bool                 // Settle stores the response for a client that comes back
	kept      []string             // the responses passed to Settle
	given     [][]byte             // the slices passed to Settle, not copied
	started   bool                 // the call was charged when it started, and is never refunded
}

func (b *books) Charges(o mcp.Outcome) bool {
	return b.started || b.charges == nil && o == mcp.OutcomeResult || b.charges[o]
}

func (b *books) ChargesAbandoned() bool { return b.abandoned || b.started }

func (b *books) Settle(_ context.Context, o mcp.Outcome, answer []byte) ([]mcp.Field, *gate.Refusal) {
	b.outcomes = append(b.outcomes, o)
	b.kept, b.given = append(b.kept, string(answer)), append(b.given, answer)
	if !b.Charges(o) {
		b.Release(context.Background())
		return nil, nil
	}
	if b.captured && !b.started {
		return nil, nil
	}
	b.before, b.flushed = b.wire.Body.String(), b.wire.flushed
	if b.during != nil {
		b.during()
	}
	if b.refusal != nil {
		return nil, b.refusal
	}
	b.captured = true
	if o == mcp.OutcomeError {
		return nil, nil
	}
	return []mcp.Field{{Name: "dev.farebox/receipt", Value: []byte(`"R"`)}}, nil
}

func (b *books) Keeps() bool { return b.keeps }
func (b *books) Reads() bool { return b.reads }

func (b *books) Release(context.Context) {
	b.captured = b.started
	b.released++
}

func (b *books) Suspend() { b.suspended++ }

// plain is a Refuser that writes refusals in a form that no other output has.
type plain struct{}

func (plain) Refuse(w http.ResponseWriter, r *gate.Refusal) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, "refused %s", r.Code)
}

func (plain) Event(r *gate.Refusal) []byte { return fmt.Appendf(nil, "data: refused %s\n\n", r.Code) }

// rig is an Interceptor with a fake client, a fake call and a fake budget.
type rig struct {
	*Interceptor
	t      *testing.T
	wire   *wire
	books  *books
	budget *bytesBudget
	leave  context.CancelFunc // makes the client leave
	cut    int                // number of times the upstream was cancelled
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	client, leave := context.WithCancel(context.Background())
	t.Cleanup(leave)
	r := &rig{t: t, wire: newWire(), budget: NewBudget(1 << 20), leave: leave}
	r.books = &books{wire: r.wire}
	message, err := mcp.Decode([]byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}`))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		ID: message.ID, Call: r.books, Refuser: plain{}, Budget: r.budget, Client: client,
		Cancel: func() { r.cut++ },
	}
	if change != nil {
		change(&o)
	}
	r.Interceptor = New(r.wire, o)
	return r
}

// upstream plays an upstream's whole response in the given pieces.
func (r *rig) upstream(status int, header map[string]string, pieces ...string) (complete bool) {
	r.t.Helper()
	for name, value := range header {
		r.Header().Set(name, value)
	}
	r.WriteHeader(status)
	for _, piece := range pieces {
		if n, err := r.Write([]byte(piece)); err != nil || n != len(piece) {
			break // a proxy, too, stops at the first write that fails
		}
		r.Flush()
		if r.wire.armed { // when a deadline passes, HTTP/2 resets even a stream on which nothing is being written
			r.t.Error("a deadline is set while nothing is written")
		}
	}
	return r.end(nil)
}

// end ends the response and checks that all held bytes were returned to the budget.
func (r *rig) end(failure *gate.Refusal) (complete bool) {
	r.t.Helper()
	complete = r.Finish(failure)
	if n := r.budget.Used(); n != 0 {
		r.t.Errorf("%d bytes are still held after the end", n)
	}
	return complete
}

func (r *rig) out() string { return r.wire.Body.String() }

// free checks that the call cost nothing.
func (r *rig) free() {
	r.t.Helper()
	if r.books.captured {
		r.t.Error("the call was charged")
	}
	if r.books.released == 0 {
		r.t.Error("the call was never released")
	}
}

var (
	asJSON   = map[string]string{"Content-Type": "application/json"}
	asEvents = map[string]string{"Content-Type": "text/event-stream"}
)

const (
	result    = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	stamped   = `{"jsonrpc":"2.0","id":7,"result":{"_meta":{"dev.farebox/receipt":"R"},"content":[]}}`
	toolError = `{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":true}}`
	rpcError  = `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}`
	asking    = `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","requestState":"s"}}`
	progress  = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}`
	foreign   = `{"jsonrpc":"2.0","id":8,"result":{"content":[]}}`
)

func event(data string) string { return "event: message\ndata: " + data + "\n\n" }

func long(n int) string { return string(bytes.Repeat([]byte("x"), n)) }

// bytesBudget is a Budget with a limit in bytes.
type bytesBudget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget with the given limit in bytes.
func NewBudget(limit int64) *bytesBudget { return &bytesBudget{limit: limit} }

func (b *bytesBudget) Take(n int64) error {
	if b.used.Add(n) <= b.limit {
		return nil
	}
	b.used.Add(-n)
	return errors.New("too many bytes are held back")
}

func (b *bytesBudget) Give(n int64) { b.used.Add(-n) }

func (b *bytesBudget) Used() int64 { return b.used.Load() }
