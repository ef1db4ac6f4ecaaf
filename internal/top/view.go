// Package top computes the numbers that an operator watches from scrapes of a gateway's
// metrics. It also makes notices about numbers that need attention. Package screen
// draws the numbers and notices.
//
// An unknown number is nil, and null in JSON, but never 0. Older gateways and some
// stores lack some numbers. Rates are unknown after a single scrape, and durations are
// unknown before anything was timed.
package top

import (
	"time"

	"github.com/fareboxhq/farebox/internal/scrape"
)

// View is the state of a gateway at one moment. The JSON names are stable; they are
// described in docs/top.md. Rates are averages over an interval; its length is in
// Seconds. Totals count from the start of the gateway's process.
type View struct {
	At       time.Time `json:"at"`      // the time of the scrape
	Address  string    `json:"address"` // the admin address of the gateway
	Seconds  *float64  `json:"seconds"` // the length of the interval for which rates, means and quantiles are computed
	Currency *string   `json:"currency"`
	Gateway  Gateway   `json:"gateway"`
	Requests Requests  `json:"requests"`
	Money    Money     `json:"money"`
	Time     Time      `json:"time"`
	Servers  []Server  `json:"servers"` // sorted by name
	Tools    []Tool    `json:"tools"`   // the busiest tool first
	Keys     Keys      `json:"keys"`
	Store    Store     `json:"store"`
	// Attention has the notices for an operator, the most urgent first.
	Attention []Notice `json:"attention"`
}

// Gateway has the properties of the scraped process.
type Gateway struct {
	Version       *string    `json:"version"`
	Revision      *string    `json:"revision"` // the commit that the program was built from
	StartedAt     *time.Time `json:"started_at"`
	UptimeSeconds *float64   `json:"uptime_seconds"`
	Restarted     bool       `json:"restarted"` // whether the process has restarted since the first of the two scrapes
	CPU           *float64   `json:"cpu"`       // number of cores in use; for example, 0.5 is half of a core
	MemoryBytes   *float64   `json:"memory_bytes"`
	CallsInFlight *float64   `json:"calls_in_flight"`
	StreamsOpen   *float64   `json:"streams_open"`
	SessionsOpen  *float64   `json:"sessions_open"`
	HeldBytes     *float64   `json:"held_bytes"` // size of the requests and responses that are held back in memory
	Nodes         *float64   `json:"nodes"`      // number of gateways that share the store
	Shares        []Share    `json:"shares"`     // sorted by name
}

// Share is a resource of the process, with the part of it that is in use.
type Share struct {
	Of    string   `json:"of"` // memory, calls, streams, session_ids or connections
	Used  *float64 `json:"used"`
	Limit *float64 `json:"limit"`
}

// Time has the distributions of durations.
type Time struct {
	Added    Quantiles `json:"added"`    // the time that the gateway added to a request
	Upstream Quantiles `json:"upstream"` // the time that the servers took for a request
	Reserve  Quantiles `json:"reserve"`
	Capture  Quantiles `json:"capture"`
	Lookup   Quantiles `json:"lookup"` // the time for looking up a key in the cache or the store
}

// Quantiles has two quantiles of a duration, in seconds.
type Quantiles struct {
	P50 *float64 `json:"p50_seconds"`
	P99 *float64 `json:"p99_seconds"`
}

// Keys has the numbers about authentication.
type Keys struct {
	LookupsPerSecond *float64 `json:"lookups_per_second"`
	HitRatio         *float64 `json:"hit_ratio"` // the fraction of lookups that did not query the store
	UnknownPerSecond *float64 `json:"unknown_per_second"`
	LimitedPerSecond *float64 `json:"limited_per_second"` // requests per second that were refused because their address has sent too many unknown tokens
	CacheEntries     *float64 `json:"cache_entries"`
	LagSeconds       *float64 `json:"revocation_lag_seconds"`
	LagLimitSeconds  *float64 `json:"revocation_lag_limit_seconds"` // the lag at which calls begin to be refused; 0 if there is no such limit
	// Expiring has the number of keys that expire within a period, by the name of the
	// period, such as "7d".
	Expiring map[string]float64 `json:"expiring"`
}

// Store has the numbers about the store.
type Store struct {
	Kind                   *string            `json:"kind"` // sqlite, postgres or remote
	Up                     *bool              `json:"up"`
	CommitsPerSecond       *float64           `json:"commits_per_second"`
	FailedCommitsPerSecond *float64           `json:"failed_commits_per_second"`
	RowsPerCommit          *float64           `json:"rows_per_commit"`
	Commit                 Quantiles          `json:"commit"`
	QueueLength            *float64           `json:"queue_length"`
	QueueLimit             *float64           `json:"queue_limit"`
	ConnectionsInUse       *float64           `json:"connections_in_use"` // number of connections to PostgreSQL in use
	ConnectionsLimit       *float64           `json:"connections_limit"`
	Bytes                  map[string]float64 `json:"bytes"` // the size of each part of the store, by name: database and wal, or tables and indexes
	DiskFreeBytes          *float64           `json:"disk_free_bytes"`
	DiskBytes              *float64           `json:"disk_bytes"`
	LedgerVerifiedAt       *time.Time         `json:"ledger_verified_at"`
	LedgerDifferences      *float64           `json:"ledger_differences"` // number of differences that the latest verification of the books found
}

// New returns the View for two scrapes of a gateway. The address is the gateway's admin
// address.
func New(address string, interval scrape.Interval) *View {
	r := reader{Interval: interval, complete: interval.To.Has("farebox_build_info")}
	v := &View{
		At: interval.To.At, Address: address, Seconds: optional(interval.Seconds()),
		Currency: r.text("farebox_currency_info", "currency"),
		Gateway:  r.gateway(), Requests: r.requests(), Money: r.money(), Time: r.time(),
		Servers: r.servers(), Tools: r.tools(), Keys: r.keys(), Store: r.store(),
	}
	v.Attention = r.attention(v)
	return v
}

func (r reader) gateway() Gateway {
	g := Gateway{
		Version: r.text("farebox_build_info", "version"), Revision: r.text("farebox_build_info", "revision"),
		Restarted: r.Restarted(), CPU: r.rate("process_cpu_seconds_total", nil), MemoryBytes: r.gauge("process_resident_memory_bytes", nil),
		CallsInFlight: r.gauge("farebox_calls_in_flight", nil), StreamsOpen: r.gauge("farebox_streams_open", nil),
		SessionsOpen: r.gauge("farebox_sessions_open", nil), HeldBytes: r.gauge("farebox_held_bytes", nil), Nodes: r.gauge("farebox_nodes", nil),
		Shares: []Share{},
	}
	if started, ok := r.To.Started(); ok && !started.After(r.To.At) {
		uptime, at := r.To.At.Sub(started).Seconds(), started.UTC()
		g.StartedAt, g.UptimeSeconds = &at, &uptime
	}
	for _, s := range r.To.Series("farebox_share_limit") {
		of := s.Labels["of"]
		g.Shares = append(g.Shares, Share{Of: of, Used: r.gauge("farebox_share_used", scrape.Labels{"of": of}), Limit: optional(s.Value, true)})
	}
	return g
}

func (r reader) time() Time {
	return Time{
		Added: r.quantiles("farebox_overhead_seconds", nil), Upstream: r.quantiles("farebox_upstream_seconds", nil),
		Reserve: r.quantiles("farebox_reserve_seconds", nil), Capture: r.quantiles("farebox_capture_seconds", nil),
		Lookup: r.quantiles("farebox_key_lookup_seconds", nil),
	}
}

func (r reader) keys() Keys {
	const lookups = "farebox_key_lookups_total"
	k := Keys{
		LookupsPerSecond: r.rate(lookups, nil),
		UnknownPerSecond: r.rate(lookups, scrape.Labels{"result": "unknown"}),
		LimitedPerSecond: r.rate(lookups, scrape.Labels{"result": "limited"}),
		CacheEntries:     r.gauge("farebox_cache_entries", nil),
		LagSeconds:       r.gauge("farebox_revocation_lag_seconds", nil),
		LagLimitSeconds:  r.gauge("farebox_revocation_lag_limit_seconds", nil),
	}
	if all, ok := r.Increase(lookups, nil); ok && all > 0 {
		asked, _ := r.Increase(lookups, scrape.Labels{"source": "store"})
		k.HitRatio = optional(1-asked/all, true)
	}
	k.Expiring = r.gaugesBy("farebox_keys_expiring", "within")
	return k
}

func (r reader) store() Store {
	const commits = "farebox_store_commits_total"
	s := Store{
		Kind:                   r.text("farebox_store_info", "kind"),
		CommitsPerSecond:       r.rate(commits, scrape.Labels{"result": "ok"}),
		FailedCommitsPerSecond: r.rate(commits, scrape.Labels{"result": "failed"}),
		RowsPerCommit:          optional(r.Mean("farebox_store_commit_rows", nil)),
		Commit:                 r.quantiles("farebox_store_commit_seconds", nil),
		QueueLength:            r.gauge("farebox_store_queue_length", nil),
		QueueLimit:             r.gauge("farebox_store_queue_limit", nil),
		ConnectionsInUse:       r.gauge("farebox_store_connections", scrape.Labels{"state": "in_use"}),
		ConnectionsLimit:       r.gauge("farebox_store_connections_limit", nil),
		Bytes:                  r.gaugesBy("farebox_store_bytes", "part"),
		DiskFreeBytes:          r.gauge("farebox_store_disk_free_bytes", nil),
		DiskBytes:              r.gauge("farebox_store_disk_bytes", nil),
		LedgerDifferences:      r.gauge("farebox_ledger_differences", nil),
	}
	if up := r.gauge("farebox_store_up", nil); up != nil {
		answers := *up == 1
		s.Up = &answers
	}
	if verified := r.gauge("farebox_ledger_verified_timestamp_seconds", nil); verified != nil && *verified > 0 {
		at := time.UnixMicro(int64(*verified * 1e6)).UTC()
		s.LedgerVerifiedAt = &at
	}
	return s
}
