package callrecord

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of a Recorder.
const (
	writeEvery = time.Second
	sweepEvery = time.Minute
	writeTime  = 10 * time.Second // time limit for one write
	closeTime  = 5 * time.Second  // time limit for the writes of Close

	maxQueue  = 8192 // number of records in memory, about 2 MiB
	maxPlaces = 4096 // number of counts in memory
	// perMinute bounds the records that one lineage of keys gets in a minute, and
	// accountPerMinute those that one account gets. They protect the disk, and the
	// records of other accounts, from an agent that repeats a refused call in a loop,
	// and from a customer with many such agents. The sums of usage still count all
	// calls.
	perMinute        = 60
	accountPerMinute = 200
	// accountPlaces bounds the counts in memory that one account can have, so that
	// there is room for the calls of other accounts.
	accountPlaces = maxPlaces / 8

	recordsAtOnce = 100 // records that one transaction writes; captures may have to wait for the transaction
	placesAtOnce  = 16  // counts that one transaction writes; each of them changes about thirty rows
	deleteAtOnce  = 100 // records that one transaction deletes; captures may have to wait for the transaction
	// rest is the pause between two writes of a Recorder that has more to write, as a
	// multiple of the time that the first write took.
	rest = 3
)

// Store stores records, and sums of usage. A Recorder calls one method at a time.
type Store interface {
	// Append stores records.
	Append(ctx context.Context, list []Record) error
	// Count adds counts to the sums of usage.
	Count(ctx context.Context, counts []ledger.CallCount) error
	// Sweep deletes old records: at most limit records that ended before the given time
	// and, if there are more records than the given maximum, at most limit of the
	// oldest ones. It returns the number of deleted records. If that is less than
	// limit, no more records need to be deleted.
	Sweep(ctx context.Context, before time.Time, most int64, limit int) (deleted int64, err error)
	// Healthy returns nil, or the reason why the store cannot be written at present.
	Healthy() error
}

// Result is the fate of a record.
type Result string

// The possible results.
const (
	Written Result = "written"
	Limited Result = "limited" // not stored, because its key or account has too many records in this minute; the sums still count the call
	Lost    Result = "lost"    // not stored, because memory was full or the store failed; the sums may lack the call, too
)

// Results returns all results.
func Results() []Result { return []Result{Written, Limited, Lost} }

// Metrics counts records. It must be safe for concurrent use.
type Metrics interface {
	CallRecords(of Result, n int)
}

// place identifies calls that are counted together.
type place struct {
	hour                                     int64
	test                                     bool
	account, provider, lineage, server, tool string
}

// Recorder writes records to a store in the background. A crash loses the records of
// about the last second. It is safe for concurrent use.
type Recorder struct {
	store    Store
	metrics  Metrics
	logger   *slog.Logger
	settings atomic.Pointer[Settings] // nil until Configure is called
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex
	queue  []Record
	counts map[place]*ledger.CallCount
	held   map[string]int // number of elements of counts, by account
	minute int64          // the minute to which the numbers in taken apply
	taken  map[string]int // number of records in that minute, by lineage and by account

	// Records and counts that r.collect has moved here from r.queue and r.counts, and
	// that r.take has not returned yet. Only the goroutine of r.run uses them, and
	// r.Close after that goroutine has ended.
	records []Record
	places  []ledger.CallCount
}

// New returns a Recorder. It stores no records until Configure is called.
func New(store Store, metrics Metrics, logger *slog.Logger) *Recorder {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{store: store, metrics: metrics, logger: logger, cancel: cancel, counts: map[place]*ledger.CallCount{}, held: map[string]int{}, taken: map[string]int{}}
	r.running.Go(func() { r.run(ctx) })
	return r
}

// Configure applies the settings of a config.
func (r *Recorder) Configure(s Settings) { r.settings.Store(&s) }

// Keeps reports whether records with the outcome are stored.
func (r *Recorder) Keeps(o Outcome) bool {
	s := r.settings.Load()
	return s != nil && s.Keep > 0 && (o != Free || s.Free)
}

// Record hands a record to the recorder, which writes it later. It never waits for the
// store.
func (r *Recorder) Record(c *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Outcome != Free && !r.count(c) {
		r.metrics.CallRecords(Lost, 1)
		return
	}
	switch {
	case !r.allowed(c):
		r.metrics.CallRecords(Limited, 1)
	case len(r.queue) >= maxQueue:
		r.metrics.CallRecords(Lost, 1)
	default:
		r.queue = append(r.queue, *c)
	}
}

// count adds a refused or failed call to the counts. It returns false if the counts are
// full, or if the account already has its share of them. The caller holds r.mu.
func (r *Recorder) count(c *Record) bool {
	of := place{c.At.Unix() / 3600, c.Test, c.Account, c.Provider, c.Lineage, c.Server, c.Tool}
	n := r.counts[of]
	if n == nil {
		if len(r.counts) >= maxPlaces || r.held[c.Account] >= accountPlaces {
			return false
		}
		r.held[c.Account]++
		n = &ledger.CallCount{At: c.At, Test: c.Test, Account: c.Account, Provider: c.Provider, Lineage: c.Lineage, Server: c.Server, Tool: c.Tool}
		r.counts[of] = n
	}
	if c.Outcome == Refused {
		n.Refused++
	} else {
		n.Failed++
	}
	return true
}

// allowed reports whether the lineage and the account may have another record in this
// minute. If so, it counts the record for both. One map has the numbers for lineages
// and accounts, because their ids have different prefixes. The caller holds r.mu.
func (r *Recorder) allowed(c *Record) bool {
	if minute := c.At.Unix() / 60; minute != r.minute { // not "<", because the clock may have been set back
		r.minute = minute
		clear(r.taken)
	}
	if r.taken[c.Lineage] >= perMinute || r.taken[c.Account] >= accountPerMinute {
		return false
	}
	r.taken[c.Lineage]++
	r.taken[c.Account]++
	return true
}

// run writes records at intervals of writeEvery until ctx ends.
func (r *Recorder) run(ctx context.Context) {
	failing, next := false, clock.Now() // the first sweep follows the first write
	for clock.Sleep(ctx, writeEvery) == nil {
		err := r.write(ctx)
		if s := r.settings.Load(); err == nil && s != nil && clock.Until(next) <= 0 {
			next = clock.Now().Add(sweepEvery)
			err = r.sweep(ctx, *s)
		}
		if err != nil && !failing && ctx.Err() == nil {
			r.logger.Warn("records of calls cannot be kept", "error", err)
		}
		failing = err != nil
	}
}

// write writes the records and counts that are in memory when it begins. It stops as
// soon as the store is known to be down. Records that arrive meanwhile wait for the
// next call of write, so that sweeps take place under any load.
func (r *Recorder) write(ctx context.Context) error {
	r.collect()
	for r.store.Healthy() == nil {
		records, counts := r.take()
		if len(records)+len(counts) == 0 {
			return nil
		}
		began := clock.Now()
		if err := r.writeBatch(context.WithoutCancel(ctx), records, counts); err != nil { // a write that has begun is not cancelled
			return err
		}
		if err := clock.Sleep(ctx, rest*clock.Since(began)); err != nil {
			return nil // Close writes the rest
		}
	}
	return nil
}

// collect moves the records and counts in memory to the fields from which r.take
// returns them. It moves nothing while these fields still have something to write.
func (r *Recorder) collect() {
	if len(r.records)+len(r.places) > 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records, r.queue = r.queue, nil
	for _, c := range r.counts {
		r.places = append(r.places, *c)
	}
	clear(r.counts)
	clear(r.held)
}

// take returns the next records and counts to write.
func (r *Recorder) take() (records []Record, counts []ledger.CallCount) {
	n, m := min(len(r.records), recordsAtOnce), min(len(r.places), placesAtOnce)
	records, r.records = r.records[:n], r.records[n:]
	counts, r.places = r.places[:m], r.places[m:]
	return records, counts
}

// writeBatch writes records and counts. After an error, it does not write them again,
// because the store may have written them nonetheless.
func (r *Recorder) writeBatch(ctx context.Context, records []Record, counts []ledger.CallCount) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	var err error
	if len(records) > 0 {
		result := Written
		if err = r.store.Append(ctx, records); err != nil {
			result = Lost
		}
		r.metrics.CallRecords(result, len(records))
	}
	if len(counts) > 0 {
		err = errors.Join(err, r.store.Count(ctx, counts))
	}
	return err
}

// sweep deletes records that are too old. If there are too many records, it also
// deletes the oldest ones.
func (r *Recorder) sweep(ctx context.Context, s Settings) error {
	if s.Keep <= 0 { // records are no longer kept, but earlier ones must be deleted in time
		s.Keep, s.Most = DefaultKeep, DefaultMost
	}
	for r.store.Healthy() == nil {
		began := clock.Now()
		timed, cancel := context.WithTimeout(ctx, writeTime)
		n, err := r.store.Sweep(timed, began.Add(-s.Keep), s.Most, deleteAtOnce)
		cancel()
		if err != nil || n < deleteAtOnce {
			return err
		}
		if err := clock.Sleep(ctx, rest*clock.Since(began)); err != nil {
			return nil
		}
	}
	return nil
}

// Close ends the background task and writes the remaining records and counts. It gives
// up after closeTime. Close of a nil Recorder does nothing.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.cancel()
	r.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for ctx.Err() == nil && r.store.Healthy() == nil {
		r.collect()
		records, counts := r.take()
		if len(records)+len(counts) == 0 {
			return
		}
		if err := r.writeBatch(ctx, records, counts); err != nil {
			r.logger.Warn("records of calls cannot be kept", "error", err)
			return
		}
	}
}
