package exchange

import (
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
)

// timing holds the moments and durations of an exchange.
type timing struct {
	began     time.Time     // when the request arrived
	body      time.Duration // how long the client took to send the body
	forwarded time.Time     // when the request was sent to the server; zero if it never was
	// upstream is the time from forwarded to the end of the server's response. It does
	// not include captures, during which an event stream waits.
	upstream time.Duration
}

// added returns the part of a duration since began that Farebox took itself.
func (t *timing) added(total time.Duration) time.Duration { return max(total-t.body-t.upstream, 0) }

// observe records in the metrics how long it took to carry out the plan. For a listener
// or a subscription it records only the time before the server was asked, because the
// client decides how long the stream then stays open.
func (x *Exchange) observe(p *plan) {
	t, traceID := &x.timing, x.traceID()
	if p.kind == listener || p.kind == subscription {
		x.site.Metrics.Overhead(t.forwarded.Sub(t.began)-t.body, traceID)
		return
	}
	entry := ""
	if p.call != nil {
		entry = p.call.Entry()
	}
	x.site.Metrics.Overhead(t.added(clock.Since(t.began)), traceID)
	x.site.Metrics.Upstream(entry, t.upstream, traceID)
}

// ask sends the plan's request to the server and returns the failure as a refusal. It
// measures how long the server takes, even if the next handler panics.
func (x *Exchange) ask(p *plan, w http.ResponseWriter, r *http.Request) *gate.Refusal {
	capturing := p.capturing()
	x.timing.forwarded = clock.Now()
	defer func() {
		x.timing.upstream = max(clock.Since(x.timing.forwarded)-(p.capturing()-capturing), 0)
	}()
	return x.runNext(w, r)
}

// capturing returns how long captures of the plan's call have taken so far.
func (p *plan) capturing() time.Duration {
	if p.call == nil {
		return 0
	}
	_, capturing := p.call.Took()
	return capturing
}
