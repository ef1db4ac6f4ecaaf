// Package telemetry holds Farebox's Prometheus collectors. They are created once per
// process and registered with the registry of each config, so that a reload does not
// reset a counter, or count an event twice.
//
// Labels are bounded. The label of a tool is its entry in the price book or "other".
// The label of a method is a known method or "other". No label contains a key, an
// account, a session, or a name that a client chose.
package telemetry

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
)

// Budget is a resource that the callers of the process share, such as memory for
// request bodies.
type Budget interface {
	Used() int64
	Total() int64
}

// Process has the data about the process that the metrics show. Its stores are not
// included; Metrics.Watch adds them.
type Process struct {
	// Budgets are the shared resources by name: memory, calls, streams, session_ids and
	// connections. A resource that is not in the map has no samples.
	Budgets map[string]Budget
	// Version and Revision identify this build. GoVersion is the version of the
	// compiler.
	Version, Revision, GoVersion string
}

// Metrics are the collectors of one process. All methods are safe for
// concurrent use.
type Metrics struct {
	catalogue

	requests, abandoned    *prometheus.CounterVec
	failures               *prometheus.CounterVec
	overhead, upstream     *prometheus.HistogramVec
	toolUpstream           *prometheus.SummaryVec
	shares                 *prometheus.CounterVec
	lookups                *prometheus.CounterVec
	lookup                 prometheus.Observer
	charges, charged, fees *prometheus.CounterVec
	refunds, refunded      *prometheus.CounterVec
	unjudged, nearCaps     *prometheus.CounterVec
	alerts, deliveries     *prometheus.CounterVec
	signed                 prometheus.Counter
	reserve, capture       prometheus.Observer
	commits                *prometheus.CounterVec
	committed              prometheus.Counter // commits with the label result="ok"
	commitRows, commit     prometheus.Observer
	loads                  *prometheus.CounterVec
	issuerFetches          *prometheus.CounterVec
	issuerTokens           *prometheus.CounterVec
	callRecords            *prometheus.CounterVec
	mu                     sync.Mutex
	sources                map[Source]struct{}
	currency               string // the currency of the newest config; "" before the first config

	// These maps find counters of the vectors above by their labels, without a lock.
	knownLookups  known[lookupLabels, prometheus.Counter]
	knownRequests known[requestLabels, prometheus.Counter]
	knownTools    known[toolLabels, prometheus.Observer]
	knownCharges  known[chargeLabels, prometheus.Counter]
	knownCharged  known[chargedLabels, prometheus.Counter]
}

type (
	lookupLabels  struct{ source, result string }
	requestLabels struct{ server, method, decision string }
	toolLabels    struct{ server, entry string }
	chargeLabels  struct {
		server, entry string
		test          bool
		result        gate.Result
	}
	chargedLabels struct {
		server, entry string
		test          bool
	}
)

// The buckets of histograms, in seconds. Each list suits the durations of one kind of
// work.
var (
	lookupBuckets   = []float64{2.5e-7, 5e-7, 1e-6, 2.5e-6, 1e-5, 1e-4, 1e-3, 1e-2, .1, 1}
	overheadBuckets = []float64{2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 5}
	upstreamBuckets = []float64{1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	reserveBuckets  = []float64{1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, .1, .5, 1, 5}
	commitBuckets   = []float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5}
	rowBuckets      = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

// New returns the collectors of the process.
func New(p *Process) *Metrics {
	m := &Metrics{sources: make(map[Source]struct{})}
	m.defineRequests(p)
	m.defineKeysAndMoney()
	m.defineStore()
	m.defineProcess(p)
	m.begin(p)
	return m
}

// begin creates, with the value 0, the counters of rare events that do not belong to a
// server. If a counter appeared only with its first event, PromQL's increase() would
// not count that event.
func (m *Metrics) begin(p *Process) {
	for _, result := range []string{"ok", "failed"} {
		m.commits.WithLabelValues(result)
		m.loads.WithLabelValues(result)
	}
	m.committed = m.commits.WithLabelValues("ok")
	for _, result := range callrecord.Results() {
		m.callRecords.WithLabelValues(string(result))
	}
	for _, l := range [][2]string{{"cache", "found"}, {"negative", "unknown"}, {"store", "found"}, {"store", "unknown"}, {"store", "limited"}, {"store", "error"}} {
		m.lookups.WithLabelValues(l[0], l[1])
	}
	for _, holder := range []ledger.Holder{ledger.HolderKey, ledger.HolderAccount, ledger.HolderServer} {
		for _, period := range []ledger.Period{ledger.PerDay, ledger.PerMonth} {
			m.nearCaps.WithLabelValues(string(holder), string(period))
		}
	}
	for _, kind := range []string{"keys", "introspection"} {
		for _, outcome := range []string{"ok", "failed"} {
			m.issuerFetches.WithLabelValues(kind, outcome)
		}
	}
	for _, result := range []string{"accepted", "refused", "unavailable", "limited"} {
		m.issuerTokens.WithLabelValues(result)
	}
	for _, kind := range []string{"balance", "cap", "spend", "tool", "network"} {
		m.alerts.WithLabelValues(kind)
	}
	for _, channel := range []string{"webhook", "email"} {
		for _, outcome := range []string{"delivered", "failed", "given_up"} {
			m.deliveries.WithLabelValues(channel, outcome)
		}
	}
	for of := range p.Budgets {
		for _, class := range []share.Class{share.Key, share.Account, share.Address, share.Unpaid, share.All, share.Cut} {
			m.shares.WithLabelValues(of, string(class))
		}
	}
}

func (m *Metrics) defineRequests(p *Process) {
	m.section = "Requests"
	m.requests = m.counter("requests_total", "Requests by server, method and decision.", "server", "method", "decision")
	m.failures = m.counter("failures_total", "Requests that failed although their callers did nothing wrong: by a refusal, or by a response that was broken off. `code` is `UPSTREAM_FAILED` or `UPSTREAM_TIMEOUT` (the server behind), `STORE_UNAVAILABLE`, `CHARGE_FAILED` (the result of a call that could not be charged was withheld) or `MISCONFIGURED`. After its forwarding, such a request is `not_charged` or `allowed` in `farebox_requests_total`.", "server", "code")
	m.overhead = m.histogram("overhead_seconds", "Time that Farebox adds to a request: from its arrival to its forwarding, without the time in which the client sends the body, and the capture of a paid call. Streams that stay open have no capture here.", overheadBuckets, "server")
	m.upstream = m.histogram("upstream_seconds", "Time from the forwarding of a message to the end of its response, without the capture: the server, and a client that reads slowly. Streams that a client opens by GET, and subscriptions, are left out.", upstreamBuckets, "server")
	m.toolUpstream = m.summary("tool_upstream_seconds", "The same by item, for paid calls; all other messages count as `other`.", "server", "tool")
	m.abandoned = m.counter("abandoned_total", "Paid calls whose client left before the answer.", "server")
	m.shares = m.counter("refused_by_share_total", "Claims on one of the resources that callers [share](limits.md) that were refused, or cut for another caller. `of` is the resource; `share` is the share that was used up: `key`, `account`, `address`, `unpaid`, `all`, or `cut`.", "of", "share")
	for _, g := range []struct{ of, name, help string }{
		{"calls", "calls_in_flight", "Requests in flight with a known key, and calls that go on after their client has left."},
		{"streams", "streams_open", "Open streams: those of GET, resumed ones, and subscriptions."},
		{"memory", "held_bytes", "Bytes of requests and answers that are held back."},
	} {
		if b := p.Budgets[g.of]; b != nil {
			m.gauge(g.name, g.help, func() float64 { return float64(b.Used()) })
		}
	}
	shared := &budgets{of: p.Budgets,
		used:  m.read("share_used", "The part in use of a resource that callers share. `of` is `memory` (bytes), `calls`, `streams`, `session_ids` or `connections`.", "of"),
		limit: m.read("share_limit", "How much there is of such a resource.", "of"),
	}
	m.collectors = append(m.collectors, shared)
}

func (m *Metrics) defineKeysAndMoney() {
	m.section = "Keys"
	m.lookups = m.counter("key_lookups_total", "Lookups of keys. `source` is `cache`, `negative` (remembered as unknown) or `store`; `result` is `found`, `unknown`, `limited` (too many unknown tokens from an address) or `error`.", "source", "result")
	m.lookup = m.histogram("key_lookup_seconds", "How long lookups of keys took.", lookupBuckets).WithLabelValues()
	m.issuerTokens = m.counter("issuer_tokens_total", "Tokens of [other issuers](oauth.md#tokens-of-another-issuer) that were verified, or could not be. `result` is `accepted`, `refused`, `unavailable` (the issuer or the store was down) or `limited` (too many invalid tokens from an address). Tokens in the cache do not count.", "result")
	m.issuerFetches = m.counter("issuer_fetches_total", "Requests to other issuers. `kind` is `keys` or `introspection`; `outcome` is `ok` or `failed`.", "kind", "outcome")

	m.section = "Money"
	m.charges = m.counter("charges_total", "Ended paid calls. `result` is `captured`, `waived` (captured at no charge, under a free quota), `released` (nothing was charged), `refunded` (captured, then not delivered), `failed` (the capture failed, the answer was withheld), `replayed` or `suspended` (broke off, and may be resumed).", "server", "tool", "environment", "result")
	m.charged = m.counter("charged_amount_total", "Captured amounts, in units of the currency (1.5 is 1.50 USD). Refunds are not taken off: the books are in the [ledger](money.md).", "server", "tool", "environment")
	m.fees = m.counter("fees_amount_total", "The operator's shares of captured amounts, in units of the currency.", "server", "environment")
	m.refunds = m.counter("refunds_total", "Refunds that were booked. `reason` is `operator` (by a command or the API) or `undelivered` (by the gateway).", "server", "environment", "reason")
	m.refunded = m.counter("refunded_amount_total", "Refunded amounts, in units of the currency.", "server", "environment", "reason")
	m.unjudged = m.counter("charge_if_errors_total", "Results that were charged because `charge_if` could not judge them.", "server", "tool")
	m.nearCaps = m.counter("caps_near_total", "Spending caps of which 80 % were spent, once a period. `holder` is `key`, `account` or `server`; `period` is `day` or `month`.", "holder", "period")
	m.alerts = m.counter("alerts_total", "[Alerts](alerts.md) that this process has raised. `kind` is `balance`, `cap`, `spend`, `tool` or `network`.", "kind")
	m.deliveries = m.counter("alert_deliveries_total", "Attempts of this process to deliver alerts. `channel` is `webhook` or `email`; `outcome` is `delivered`, `failed` (another attempt follows) or `given_up`.", "channel", "outcome")
	m.signed = m.counter("receipts_signed_total", "Receipts that were signed.").WithLabelValues()
	m.reserve = m.histogram("reserve_seconds", "How long reservations took.", reserveBuckets).WithLabelValues()
	m.capture = m.histogram("capture_seconds", "How long captures took, until they were on disk or had failed.", commitBuckets).WithLabelValues()
}

func (m *Metrics) defineStore() {
	m.section = "The store"
	m.commits = m.counter("store_commits_total", "Transactions of the store that this process has written. `result` is `ok` or `failed`. A remote store has none.", "result")
	m.commitRows = m.histogram("store_commit_rows", "Calls and changes that shared one transaction.", rowBuckets).WithLabelValues()
	m.commit = m.histogram("store_commit_seconds", "How long a transaction took, with its commit.", commitBuckets).WithLabelValues()
	m.callRecords = m.counter("call_records_total", "[Records](calls.md) of calls that were refused, failed or are free. `result` is `written`, `limited` (the call is only in the sums, because its key has too many records in this minute) or `lost` (memory was full, or the store has failed).", "result")
	m.collectors = append(m.collectors, newStates(&m.catalogue, m.watched), newSizes(&m.catalogue, m.watched), newVerified(&m.catalogue, m.watched), newUsageSums(&m.catalogue, m.watched))
	m.section = "Keys"
	m.collectors = append(m.collectors, newExpiring(&m.catalogue, m.watched))
}

func (m *Metrics) defineProcess(p *Process) {
	m.section = "The process"
	m.constant("build_info", "The build: always 1.", prometheus.Labels{"version": p.Version, "revision": p.Revision, "goversion": p.GoVersion}, "version", "revision", "goversion")
	m.collectors = append(m.collectors, &currency{m: m, desc: m.read("currency_info", "The currency of all amounts: always 1.", "currency")})
	m.loads = m.counter("config_loads_total", "Starts and reloads of a config with Farebox. `result` is `ok` or `failed`. Caddy's own `caddy_config_last_reload_successful` also sees configs that cannot be read at all.", "result")
	m.gauge("clock_offset_seconds", "How far the wall clock has moved since the start, less the time that has passed: it jumps when somebody sets the clock.", newOffset())
}

// Catalogue returns the descriptions of all metrics.
func (m *Metrics) Catalogue() []Metric { return slices.Clone(m.metrics) }

// Register registers all collectors. It skips collectors that are already in the
// registry.
func (m *Metrics) Register(r prometheus.Registerer) error {
	for _, c := range m.collectors {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// Watch includes the source in the gauges, until unwatch is called.
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

// watched returns the sources that are included at present. A caller may still query
// such a source for a moment after it was removed.
func (m *Metrics) watched() []Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.sources))
}

// Lookup counts a key lookup.
func (m *Metrics) Lookup(source, result string, took time.Duration) {
	labels := lookupLabels{source, result}
	c, ok := m.knownLookups.find(labels)
	if !ok {
		c = m.knownLookups.add(labels, m.lookups.WithLabelValues(source, result))
	}
	c.Inc()
	m.lookup.Observe(took.Seconds())
}

// IssuerFetched implements issuer.Metrics.
func (m *Metrics) IssuerFetched(kind string, ok bool) {
	outcome := "ok"
	if !ok {
		outcome = "failed"
	}
	m.issuerFetches.WithLabelValues(kind, outcome).Inc()
}

// IssuerToken implements issuer.Metrics.
func (m *Metrics) IssuerToken(result string) { m.issuerTokens.WithLabelValues(result).Inc() }

// NearCap counts an event in which the spending of an account or key reached 80 % of a
// cap.
func (m *Metrics) NearCap(c ledger.Cap) {
	m.nearCaps.WithLabelValues(string(c.Holder), string(c.Period)).Inc()
}

// AlertRaised implements alert.Metrics.
func (m *Metrics) AlertRaised(kind string) { m.alerts.WithLabelValues(kind).Inc() }

// AlertDelivered implements alert.Metrics.
func (m *Metrics) AlertDelivered(channel, outcome string) {
	m.deliveries.WithLabelValues(channel, outcome).Inc()
}

// ShareRefused counts a refused allocation of one of the process's resources, and an
// allocation that was ended to make room for another holder.
func (m *Metrics) ShareRefused(of string, share share.Class) {
	m.shares.WithLabelValues(of, string(share)).Inc()
}

// CallRecords implements callrecord.Metrics.
func (m *Metrics) CallRecords(of callrecord.Result, n int) {
	m.callRecords.WithLabelValues(string(of)).Add(float64(n))
}

// Committed counts a transaction of a store. The transaction has the given number of
// calls and changes, and took the given time.
func (m *Metrics) Committed(rows int, took time.Duration, err error) {
	if err != nil {
		m.commits.WithLabelValues("failed").Inc()
		return
	}
	m.committed.Inc()
	m.commitRows.Observe(float64(rows))
	m.commit.Observe(took.Seconds())
}

// The reasons of refunds.
const (
	RefundByOperator  = "operator"
	RefundUndelivered = "undelivered"
)

// Refunded counts a refund that was made. The server is "" if it is unknown.
func (m *Metrics) Refunded(server, reason string, amount ledger.Amount, test bool) {
	if server == "" {
		server = "other"
	}
	m.refunds.WithLabelValues(server, environment(test), reason).Inc()
	m.refunded.WithLabelValues(server, environment(test), reason).Add(units(amount))
}

// ConfigLoaded counts a config that has started or, if err is not nil, failed to start.
// The currency is that of the config.
func (m *Metrics) ConfigLoaded(currency string, err error) {
	if err != nil {
		m.loads.WithLabelValues("failed").Inc()
		return
	}
	m.loads.WithLabelValues("ok").Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.currency = currency
}

func environment(test bool) string {
	if test {
		return "test"
	}
	return "live"
}

// units returns an amount in units of the currency.
func units(a ledger.Amount) float64 { return float64(a) / float64(ledger.Unit) }
