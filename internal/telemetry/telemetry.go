// Package telemetry holds Farebox's Prometheus collectors. They are created a single
// time per process and registered with the registry of each config, so that a reload
// neither resets nor doubles a count.
//
// Labels are bounded. The label of a tool is its entry in the price book or
// "other". The label of a method is a known method or "other". No label is ever a
// key, an account, a session or a name that a client chose.
package telemetry

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// Source is a running store with its cache, as the gauges see it.
type Source interface {
	OpenReservations() int
	// RefundsOwed returns the number of refunds that could not be made yet.
	RefundsOwed() int
	CacheEntries() int
	StoreUp() bool
	// RevocationLag returns the time since the store last looked for changes of
	// keys by other processes, or 0 if no other process changes keys.
	RevocationLag() time.Duration
	// ExpiringKeys returns, for each duration, the number of usable keys that expire
	// within it, or false if they cannot be counted. ExpiringKeys must be cheap, and
	// take no longer than a scrape may take.
	ExpiringKeys(within []time.Duration) ([]int64, bool)
}

// Metrics are the collectors of one process. All methods are safe for
// concurrent use.
type Metrics struct {
	requests  *prometheus.CounterVec
	lookups   *prometheus.CounterVec
	lookup    prometheus.Histogram
	charges   *prometheus.CounterVec
	charged   *prometheus.CounterVec
	reserve   prometheus.Histogram
	capture   prometheus.Histogram
	overhead  prometheus.Histogram
	abandoned *prometheus.CounterVec
	unjudged  *prometheus.CounterVec
	nearCaps  *prometheus.CounterVec
	shares    *prometheus.CounterVec
	gauges    []prometheus.Collector

	mu      sync.Mutex
	sources map[Source]struct{}
}

// fast lists the buckets, in seconds, for durations from microseconds to seconds.
var fast = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5}

// New returns the collectors. The function held returns the number of bytes that are
// buffered now.
func New(held func() int64) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "farebox", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "farebox", Name: name, Help: help, Buckets: fast})
	}
	m := &Metrics{
		sources:   make(map[Source]struct{}),
		requests:  counter("requests_total", "Requests by server, method and decision.", "server", "method", "decision"),
		lookups:   counter("key_lookups_total", "Key lookups by where the answer came from and what it was.", "source", "result"),
		lookup:    histogram("key_lookup_seconds", "How long key lookups took."),
		charges:   counter("charges_total", "Ended paid calls by server, price book entry, environment of the key and result.", "server", "tool", "environment", "result"),
		charged:   counter("charged_microunits_total", "Captured micro-units of the currency; refunds are not taken off.", "server", "tool", "environment"),
		reserve:   histogram("reserve_seconds", "How long reservations took."),
		capture:   histogram("capture_seconds", "How long durable captures took."),
		overhead:  histogram("overhead_seconds", "Time from a request's arrival to its forwarding."),
		abandoned: counter("abandoned_total", "Paid calls whose client left before the answer.", "server"),
		unjudged:  counter("charge_if_errors_total", "Results that were charged because charge_if could not judge them, by server and price book entry.", "server", "tool"),
		nearCaps:  counter("caps_near_total", "Spending caps of which 80 % were spent, once a period, by whose they are.", "holder", "period"),
		shares:    counter("refused_by_share_total", "Claims on what a process can hold that were refused or cut, by what it is and whose share was used up.", "of", "share"),
	}
	gauge := func(name, help string, value func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "farebox", Name: name, Help: help}, value))
	}
	gauge("reservations_open", "Reservations that are neither settled nor expired.", m.sum(func(s Source) float64 { return float64(s.OpenReservations()) }))
	gauge("refunds_owed", "Refunds of undelivered calls that the store has not taken yet.", m.sum(func(s Source) float64 { return float64(s.RefundsOwed()) }))
	gauge("cache_entries", "Keys in the cache.", m.sum(func(s Source) float64 { return float64(s.CacheEntries()) }))
	gauge("revocation_lag_seconds", "Seconds since the changes of keys that other processes make were last asked for.", m.lag)
	gauge("held_bytes", "Bytes of requests and answers that are held back.", func() float64 { return float64(held()) })
	gauge("store_up", "1 if every open store answers, 0 if one does not.", m.storeUp)
	m.gauges = append(m.gauges, newExpiring(m.watched))
	return m
}

// Register registers all collectors. It skips collectors that are already in the
// registry.
func (m *Metrics) Register(r prometheus.Registerer) error {
	all := append([]prometheus.Collector{
		m.requests, m.lookups, m.lookup, m.charges, m.charged, m.reserve, m.capture, m.overhead, m.abandoned, m.unjudged, m.nearCaps, m.shares,
	}, m.gauges...)
	for _, c := range all {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// Watch includes the source in the gauges until the returned function is called.
func (m *Metrics) Watch(s Source) (unwatch func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[s] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.sources, s)
	}
}

// watched returns the current sources, for slow queries that must not hold the
// mutex. A source may therefore be queried for a moment after it was removed.
func (m *Metrics) watched() []Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.sources))
}

func (m *Metrics) sum(of func(Source) float64) func() float64 {
	return func() (total float64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for s := range m.sources {
			total += of(s)
		}
		return total
	}
}

func (m *Metrics) storeUp() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.sources {
		if !s.StoreUp() {
			return 0
		}
	}
	return 1
}

// lag returns the longest lag of all sources.
func (m *Metrics) lag() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	longest := time.Duration(0)
	for s := range m.sources {
		longest = max(longest, s.RevocationLag())
	}
	return longest.Seconds()
}

// Request counts one request. The method must have one of four values: the name of a
// known method, the HTTP method of a request without a message, "response" or
// "other". The decision is one of those listed in docs/metrics.md, such as
// "allowed", "charged" or a refusal's code.
func (m *Metrics) Request(server, method, decision string) {
	m.requests.WithLabelValues(server, method, decision).Inc()
}

// Lookup counts a key lookup.
func (m *Metrics) Lookup(source, result string, took time.Duration) {
	m.lookups.WithLabelValues(source, result).Inc()
	m.lookup.Observe(took.Seconds())
}

// Overhead observes the time between a request's arrival and its forwarding.
func (m *Metrics) Overhead(took time.Duration) { m.overhead.Observe(took.Seconds()) }

// Abandoned counts a paid call with a client that disconnected before the response.
func (m *Metrics) Abandoned(server string) { m.abandoned.WithLabelValues(server).Inc() }

// NearCap counts a spending cap that is 80 % spent.
func (m *Metrics) NearCap(c ledger.Cap) {
	m.nearCaps.WithLabelValues(string(c.Holder), string(c.Period)).Inc()
}

// ShareRefused counts an allocation of one of the process's resources that was
// refused, or that was cut for another holder.
func (m *Metrics) ShareRefused(of string, share share.Class) {
	m.shares.WithLabelValues(of, string(share)).Inc()
}

// Meter returns the gate's metrics for one server.
func (m *Metrics) Meter(server string) gate.Metrics { return meter{m, server} }

type meter struct {
	*Metrics
	server string
}

func (m meter) Reserved(took time.Duration) { m.reserve.Observe(took.Seconds()) }
func (m meter) Captured(took time.Duration) { m.capture.Observe(took.Seconds()) }

func (m meter) Unjudged(entry string) { m.unjudged.WithLabelValues(m.server, entry).Inc() }

func (m meter) Charge(entry string, result gate.Result, amount ledger.Amount, test bool) {
	environment := "live"
	if test {
		environment = "test"
	}
	m.charges.WithLabelValues(m.server, entry, environment, string(result)).Inc()
	if result == gate.ResultCaptured {
		m.charged.WithLabelValues(m.server, entry, environment).Add(float64(amount))
	}
}
