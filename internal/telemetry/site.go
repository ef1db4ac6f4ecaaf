package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/gate"
)

// Site counts the requests and paid calls of one server. It is safe for concurrent
// use.
type Site struct {
	m                  *Metrics
	server             string
	overhead, upstream prometheus.Observer
}

// Site returns the counters of a server. The counters of failures and refunds exist
// with the value 0 from the beginning, so that alert rules of Prometheus notice the
// first event.
func (m *Metrics) Site(server string) *Site {
	for _, code := range gate.Faults() {
		m.failures.WithLabelValues(server, string(code))
	}
	m.abandoned.WithLabelValues(server)
	for _, test := range []bool{false, true} {
		for _, reason := range []string{RefundByOperator, RefundUndelivered} {
			m.refunds.WithLabelValues(server, environment(test), reason)
			m.refunded.WithLabelValues(server, environment(test), reason)
		}
	}
	return &Site{m: m, server: server, overhead: m.overhead.WithLabelValues(server), upstream: m.upstream.WithLabelValues(server)}
}

// Request counts one request. The method must have one of four values: the name of a
// known method, the HTTP method of a request without a message, "response" or "other".
// The decision must be one of those listed in docs/metrics.md, such as "allowed",
// "charged" or a refusal's code.
func (s *Site) Request(method, decision string) {
	labels := requestLabels{s.server, method, decision}
	c, ok := s.m.knownRequests.find(labels)
	if !ok {
		c = s.m.knownRequests.add(labels, s.m.requests.WithLabelValues(s.server, method, decision))
	}
	c.Inc()
}

// Failed counts a request that failed by a fault of the gateway, its store or the
// server.
func (s *Site) Failed(code gate.Code) { s.m.failures.WithLabelValues(s.server, string(code)).Inc() }

// Overhead observes the time that the gateway added to a request. A trace id
// becomes an exemplar.
func (s *Site) Overhead(took time.Duration, traceID string) { observe(s.overhead, took, traceID) }

// Upstream observes the time that the server needed for a message about an item. The
// item is given by its entry in the price book; "" is counted as "other". A trace id
// becomes an exemplar.
func (s *Site) Upstream(entry string, took time.Duration, traceID string) {
	if entry == "" {
		entry = "other"
	}
	observe(s.upstream, took, traceID)
	labels := toolLabels{s.server, entry}
	o, ok := s.m.knownTools.find(labels)
	if !ok {
		o = s.m.knownTools.add(labels, s.m.toolUpstream.WithLabelValues(s.server, entry))
	}
	o.Observe(took.Seconds())
}

// observe adds a duration to a histogram, with the trace id as its exemplar.
func observe(o prometheus.Observer, took time.Duration, traceID string) {
	if traceID == "" {
		o.Observe(took.Seconds())
		return
	}
	o.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": traceID})
}

// Abandoned counts a paid call that the client abandoned by disconnecting before the
// response.
func (s *Site) Abandoned() { s.m.abandoned.WithLabelValues(s.server).Inc() }

// Reserved implements gate.Metrics.
func (s *Site) Reserved(took time.Duration) { s.m.reserve.Observe(took.Seconds()) }

// Captured implements gate.Metrics.
func (s *Site) Captured(took time.Duration) { s.m.capture.Observe(took.Seconds()) }

// Signed implements gate.Metrics.
func (s *Site) Signed() { s.m.signed.Inc() }

// Unjudged implements gate.Metrics.
func (s *Site) Unjudged(entry string) { s.m.unjudged.WithLabelValues(s.server, entry).Inc() }

// Charge implements gate.Metrics.
func (s *Site) Charge(e gate.Ended) { s.m.Charge(s.server, e) }

// Charge counts a paid call at a server, when the call has ended.
func (m *Metrics) Charge(server string, e gate.Ended) {
	environment := environment(e.Test)
	labels := chargeLabels{server, e.Entry, e.Test, e.Result}
	c, ok := m.knownCharges.find(labels)
	if !ok {
		c = m.knownCharges.add(labels, m.charges.WithLabelValues(server, e.Entry, environment, string(e.Result)))
	}
	c.Inc()
	switch {
	case e.Result == gate.ResultCaptured:
		labels := chargedLabels{server, e.Entry, e.Test}
		c, ok := m.knownCharged.find(labels)
		if !ok {
			c = m.knownCharged.add(labels, m.charged.WithLabelValues(server, e.Entry, environment))
		}
		c.Add(units(e.Amount))
		if e.Fee > 0 {
			m.fees.WithLabelValues(server, environment).Add(units(e.Fee))
		}
	case e.Result == gate.ResultRefunded && e.Amount > 0:
		m.Refunded(server, RefundUndelivered, e.Amount, e.Test)
	}
}
