package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// reading is a gauge that is computed from the states of all sources. A function
// computes its value, and returns false if the gauge must have no sample.
type reading struct {
	desc  *prometheus.Desc
	value func([]State) (float64, bool)
}

// states is a collector for the gauges that are computed from the states of the
// sources. It reads the state of each source once per scrape, so that the gauges are
// consistent with each other.
type states struct {
	sources  func() []Source
	readings []reading

	kind, connections, waited *prometheus.Desc
}

func newStates(c *catalogue, sources func() []Source) *states {
	s := &states{sources: sources}
	add := func(name, help string, value func([]State) (float64, bool)) {
		s.readings = append(s.readings, reading{c.read(name, help), value})
	}
	c.section = "Money"
	add("reservations_open", "Reservations that are neither settled nor expired.", sum(func(s *State) int { return s.OpenReservations }))
	add("refunds_owed", "Refunds of undelivered calls that the store has not taken yet. Calls that the store does not know are not counted: nobody has paid for them.", sum(func(s *State) int { return s.RefundsOwed }))
	c.section = "Keys"
	add("cache_entries", "Keys in the cache.", sum(func(s *State) int { return s.CacheEntries }))
	add("revocation_lag_seconds", "Time since the changes of keys that other processes make were last asked for; 0 on SQLite.", longest(func(s *State) time.Duration { return s.RevocationLag }))
	add("revocation_lag_limit_seconds", "The lag at which the cache is not believed any more; 0 on SQLite.", longest(func(s *State) time.Duration { return s.RevocationLimit }))
	c.section = "Requests"
	add("sessions_open", "Sessions with ids of requests in memory. The gateway keeps nothing else of a session.", sum(func(s *State) int { return s.Sessions }))
	c.section = "The store"
	add("store_up", "1 if every open store answers, else 0.", up)
	add("store_queue_length", "Writes that wait for the store. A remote store has no queue.", queued(func(s *State) int { return s.Queue }))
	add("store_queue_limit", "The length of the queue at which further calls wait for room in it.", queued(func(s *State) int { return s.QueueLimit }))
	add("store_connections_limit", "The most connections to PostgreSQL at a time, without the four at most that write charges.", pooled(func(s *State) int { return s.Connections.Limit }))
	add("ledger_verify_interval_seconds", "The pause between two verifications of the books by this process, 0 for never. Absent on a gateway of a platform.", verifies)
	s.kind = c.read("store_info", "An open store: always 1. `kind` is `sqlite`, `postgres` or `remote`.", "kind")
	s.connections = c.read("store_connections", "Those connections by `state`: `in_use` or `idle`.", "state")
	s.waited = c.readCounter("store_connection_wait_seconds_total", "Time for which callers have waited for one of them.")
	return s
}

// Describe implements prometheus.Collector.
func (s *states) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.kind, s.connections, s.waited} {
		descs <- d
	}
	for _, r := range s.readings {
		descs <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (s *states) Collect(samples chan<- prometheus.Metric) {
	var now []State
	for _, source := range s.sources() {
		now = append(now, source.State())
	}
	for _, r := range s.readings {
		if value, ok := r.value(now); ok {
			samples <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, value)
		}
	}
	s.collectConnections(now, samples)
	kinds := map[string]bool{}
	for i := range now {
		if kind := now[i].Kind; kind != "" && !kinds[kind] {
			kinds[kind] = true
			samples <- prometheus.MustNewConstMetric(s.kind, prometheus.GaugeValue, 1, kind)
		}
	}
}

// collectConnections sends the sums over the connections of all stores, unless no store
// has connections.
func (s *states) collectConnections(now []State, samples chan<- prometheus.Metric) {
	var all Connections
	for i := range now {
		c := &now[i].Connections
		all = Connections{all.InUse + c.InUse, all.Idle + c.Idle, all.Limit + c.Limit, all.Waited + c.Waited}
	}
	if all.Limit == 0 {
		return
	}
	samples <- prometheus.MustNewConstMetric(s.connections, prometheus.GaugeValue, float64(all.InUse), "in_use")
	samples <- prometheus.MustNewConstMetric(s.connections, prometheus.GaugeValue, float64(all.Idle), "idle")
	samples <- prometheus.MustNewConstMetric(s.waited, prometheus.CounterValue, all.Waited.Seconds())
}

func sum(of func(*State) int) func([]State) (float64, bool) {
	return func(all []State) (float64, bool) {
		total := 0
		for i := range all {
			total += of(&all[i])
		}
		return float64(total), true
	}
}

func longest(of func(*State) time.Duration) func([]State) (float64, bool) {
	return func(all []State) (float64, bool) {
		most := time.Duration(0)
		for i := range all {
			most = max(most, of(&all[i]))
		}
		return most.Seconds(), true
	}
}

// queued returns a function that adds up a number over all stores. That function
// returns false if no store has a queue.
func queued(of func(*State) int) func([]State) (float64, bool) {
	return func(all []State) (float64, bool) {
		total, any := 0, false
		for i := range all {
			total, any = total+of(&all[i]), any || all[i].QueueLimit > 0
		}
		return float64(total), any
	}
}

// pooled returns a function that adds up a number over all stores. That function
// returns false if the sum is 0, because then no store has connections.
func pooled(of func(*State) int) func([]State) (float64, bool) {
	return func(all []State) (float64, bool) {
		total, _ := sum(of)(all)
		return total, total > 0
	}
}

// verifies returns the longest pause between verifications among the stores that verify
// their books, or false if no store does.
func verifies(all []State) (float64, bool) {
	interval, any := time.Duration(0), false
	for i := range all {
		if all[i].Verifies {
			interval, any = max(interval, all[i].VerifyEvery), true
		}
	}
	return interval.Seconds(), any
}

func up(all []State) (float64, bool) {
	for i := range all {
		if !all[i].Up {
			return 0, true
		}
	}
	return 1, true
}

// sizes is a collector of the sizes of all stores. It has no samples if any store was
// not measured, because the sum over the other stores would look complete.
type sizes struct {
	sources                          func() []Source
	bytes, rows, free, diskOf, nodes *prometheus.Desc
}

func newSizes(c *catalogue, sources func() []Source) *sizes {
	return &sizes{
		sources: sources,
		bytes:   c.read("store_bytes", "Bytes of the store. `part` is `database` and `wal` for the files of SQLite, `tables` and `indexes` in PostgreSQL.", "part"),
		rows:    c.read("store_rows", "Rows that the store keeps: `accounts`, `keys`, `transactions` (without archived ones), `idempotency_keys`, `audit` and `call_records`. PostgreSQL estimates them.", "table"),
		free:    c.read("store_disk_free_bytes", "Free bytes of the file system of a SQLite store."),
		diskOf:  c.read("store_disk_bytes", "All bytes of that file system."),
		nodes:   c.read("nodes", "Processes that use the store now: the gateways at one PostgreSQL database, or this process and the gateways that ask it as their platform. Absent on a gateway of a platform."),
	}
}

// Describe implements prometheus.Collector.
func (s *sizes) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.bytes, s.rows, s.free, s.diskOf, s.nodes} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (s *sizes) Collect(samples chan<- prometheus.Metric) {
	bytes, rows, nodes := map[string]int64{}, map[string]int64{}, 0
	var smallest *ledger.Sizes
	for _, source := range s.sources() {
		of, ok := source.Sizes()
		if !ok {
			return
		}
		nodes += of.Nodes
		for part, n := range of.Bytes {
			bytes[part] += n
		}
		for table, n := range of.Rows {
			rows[table] += n
		}
		if of.Disk > 0 && (smallest == nil || of.DiskFree < smallest.DiskFree) {
			smallest = &of
		}
	}
	send := func(d *prometheus.Desc, n int64, labels ...string) {
		samples <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	if nodes > 0 {
		send(s.nodes, int64(nodes))
	}
	for part, n := range bytes {
		send(s.bytes, n, part)
	}
	for table, n := range rows {
		send(s.rows, n, table)
	}
	if smallest != nil {
		send(s.free, smallest.DiskFree)
		send(s.diskOf, smallest.Disk)
	}
}

// verified is a collector of the results of verifications of the books.
type verified struct {
	sources               func() []Source
	at, took, differences *prometheus.Desc
}

func newVerified(c *catalogue, sources func() []Source) *verified {
	return &verified{
		sources:     sources,
		at:          c.read("ledger_verified_timestamp_seconds", "When this process last [verified the books](money.md), in seconds since 1970. Absent before the first time."),
		took:        c.read("ledger_verify_seconds", "How long that took."),
		differences: c.read("ledger_differences", "Differences that it found. Anything but 0 needs a person at once."),
	}
}

// Describe implements prometheus.Collector.
func (v *verified) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{v.at, v.took, v.differences} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. If several stores are open, it reports the
// time of the oldest verification, and the number of differences in all stores
// together.
func (v *verified) Collect(samples chan<- prometheus.Metric) {
	var oldest Verified
	differences, any := 0, false
	for _, source := range v.sources() {
		of, ok := source.Verified()
		if !ok {
			continue
		}
		if differences += of.Differences; !any || of.At.Before(oldest.At) {
			oldest = of
		}
		any = true
	}
	if !any {
		return
	}
	for _, s := range []struct {
		desc  *prometheus.Desc
		value float64
	}{{v.at, float64(oldest.At.UnixMilli()) / 1e3}, {v.took, oldest.Took.Seconds()}, {v.differences, float64(differences)}} {
		samples <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, s.value)
	}
}
