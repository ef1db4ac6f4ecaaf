package callrecord

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// fakeStore is a Store in memory that can fail, be down, and be slow. The store suite
// tests the real stores.
type fakeStore struct {
	mu      sync.Mutex
	batches []int
	records []Record
	counts  map[string]int64 // number of refused and failed calls, by tool
	left    int              // number of records that remain for sweeps to delete
	before  time.Time
	down    error
	broken  error
	slow    time.Duration
}

func (f *fakeStore) Healthy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

func (f *fakeStore) Append(ctx context.Context, list []Record) error {
	if err := clock.Sleep(ctx, f.slow); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	f.batches = append(f.batches, len(list))
	f.records = append(f.records, list...)
	return nil
}

func (f *fakeStore) Count(_ context.Context, counts []ledger.CallCount) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = map[string]int64{}
	}
	for _, c := range counts {
		f.counts[c.Tool] += c.Refused + c.Failed
	}
	return f.broken
}

func (f *fakeStore) Sweep(_ context.Context, before time.Time, _ int64, limit int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
	n := min(f.left, limit)
	f.left -= n
	return int64(n), nil
}

// set changes the settings of the store, under its mutex.
func (f *fakeStore) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// fakeMetrics adds up the numbers of records by result.
type fakeMetrics struct {
	mu sync.Mutex
	of map[Result]int
}

func (f *fakeMetrics) CallRecords(of Result, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[Result]int{}
	}
	f.of[of] += n
}

func (f *fakeMetrics) counted(of Result) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of[of]
}

// recorded runs a test in a synctest bubble, with a Recorder that keeps records for a
// day.
func recorded(t *testing.T, test func(t *testing.T, r *Recorder, store *fakeStore, metrics *fakeMetrics, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, metrics, log := new(fakeStore), new(fakeMetrics), new(bytes.Buffer)
		r := New(store, metrics, slog.New(slog.NewTextHandler(log, nil)))
		defer r.Close()
		r.Configure(Settings{Keep: 24 * time.Hour, Most: 1000})
		test(t, r, store, metrics, log)
	})
}

// refusal returns a record of a refused call.
func refusal(key, tool string) *Record {
	return &Record{At: clock.Now(), Account: "acct_of_" + key, Key: key, Lineage: key, Tool: tool, Outcome: Refused, Code: "RATE_LIMITED"}
}

// pass lets the time of the synctest bubble pass.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if err := clock.Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// TestRecorderWrites checks that records and counts are in the store a second after the
// calls. No transaction is larger than its bound.
func TestRecorderWrites(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, metrics *fakeMetrics, _ *bytes.Buffer) {
		const calls = 3*recordsAtOnce - 1
		for i := range calls {
			r.Record(refusal(fmt.Sprint("key_", i%9), fmt.Sprint("tool_", i%40)))
		}
		pass(t, writeEvery)
		if len(store.records) != calls || len(store.batches) != 3 || len(store.counts) != 40 || metrics.counted(Written) != calls {
			t.Errorf("%d records in %v, %d places, %d are said to be written", len(store.records), store.batches, len(store.counts), metrics.counted(Written))
		}
	})
}

// TestRecorderIsBounded checks that one key gets a bounded number of records in a
// minute, and that the sums nonetheless count all its calls. Other keys still get
// records, and so does the same key in the next minute. While the store hangs, memory
// stays bounded and no call waits.
func TestRecorderIsBounded(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, metrics *fakeMetrics, _ *bytes.Buffer) {
		for range perMinute + 50 {
			r.Record(refusal("key_1", "loop"))
		}
		r.Record(refusal("key_2", "other"))
		pass(t, time.Minute)
		if len(store.records) != perMinute+1 || store.counts["loop"] != perMinute+50 || metrics.counted(Limited) != 50 {
			t.Errorf("%d records, %d counted, %d limited", len(store.records), store.counts["loop"], metrics.counted(Limited))
		}
		r.Record(refusal("key_1", "loop"))
		pass(t, writeEvery)
		if len(store.records) != perMinute+2 {
			t.Errorf("%d records in the next minute, want one more", len(store.records)-perMinute-1)
		}

		store.set(func() { store.slow = time.Hour })
		began := clock.Now()
		for i := range maxQueue + recordsAtOnce + 10 {
			r.Record(refusal(fmt.Sprint("key_", i%1000), "t"))
		}
		for i := range maxPlaces + 10 {
			r.Record(refusal("key_places", fmt.Sprint("tool_", i)))
		}
		if took := clock.Since(began); took != 0 || metrics.counted(Lost) == 0 || len(r.queue) > maxQueue || len(r.counts) > maxPlaces {
			t.Errorf("it took %s; %d are lost, %d and %d in memory", took, metrics.counted(Lost), len(r.queue), len(r.counts))
		}
		store.set(func() { store.slow = 0 })
	})
}

// TestRecorderBoundsAccounts checks that an account with many keys and tools gets a
// bounded number of records in a minute, and of counts in memory. The calls of another
// account are still recorded and counted.
func TestRecorderBoundsAccounts(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, metrics *fakeMetrics, _ *bytes.Buffer) {
		of := func(account, key, tool string) *Record {
			c := refusal(key, tool)
			c.Account = account
			return c
		}
		for i := range accountPlaces + 10 {
			r.Record(of("acct_1", fmt.Sprint("key_", i), fmt.Sprint("tool_", i)))
		}
		r.Record(of("acct_2", "key_other", "other"))
		pass(t, 2*time.Minute)
		if len(store.records) != accountPerMinute+1 || store.counts["other"] != 1 || metrics.counted(Lost) != 10 || metrics.counted(Limited) != accountPlaces-accountPerMinute {
			t.Errorf("%d records, %d of the other account counted, %d lost, %d limited", len(store.records), store.counts["other"], metrics.counted(Lost), metrics.counted(Limited))
		}
	})
}

// TestRecorderKeeps checks that the settings decide which outcomes are stored, and that
// no records are stored before the first call of Configure.
func TestRecorderKeeps(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, _ *fakeMetrics, _ *bytes.Buffer) {
		keeps := func() string { return fmt.Sprint(r.Keeps(Refused), r.Keeps(Failed), r.Keeps(Free)) }
		if got := keeps(); got != "true true false" {
			t.Error(got)
		}
		r.Configure(Settings{Keep: time.Hour, Free: true})
		free := refusal("key_1", "t")
		free.Outcome = Free
		r.Record(free)
		pass(t, writeEvery)
		if got := keeps(); got != "true true true" || len(store.records) != 1 || len(store.counts) != 0 {
			t.Errorf("%s, %d records, %d counts: a free call is not among the refused and failed ones", got, len(store.records), len(store.counts))
		}
		r.Configure(Settings{})
		if got := keeps(); got != "false false false" {
			t.Error(got)
		}
	})
}

// TestRecorderOutlivesFailures checks that records wait while the store is known to be
// down. A failed write is not repeated, because the store may have written the records.
// A failure that lasts is logged once.
func TestRecorderOutlivesFailures(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, metrics *fakeMetrics, log *bytes.Buffer) {
		store.set(func() { store.down = errors.New("down") })
		r.Record(refusal("key_1", "t"))
		pass(t, time.Minute)
		store.set(func() { store.down = nil })
		pass(t, writeEvery)
		if len(store.records) != 1 || store.counts["t"] != 1 {
			t.Errorf("%d records after the store was down, %d counted", len(store.records), store.counts["t"])
		}
		store.set(func() { store.broken = errors.New("broken") })
		for range 3 {
			r.Record(refusal("key_1", "u"))
			pass(t, writeEvery)
		}
		store.set(func() { store.broken = nil })
		r.Record(refusal("key_1", "v"))
		pass(t, writeEvery)
		if len(store.records) != 2 || metrics.counted(Lost) != 3 || strings.Count(log.String(), "cannot be kept") != 1 {
			t.Errorf("%d records, %d lost, the log has %s", len(store.records), metrics.counted(Lost), log)
		}
	})
}

// TestRecorderSweeps checks that records are deleted in small steps when they are older
// than the settings allow. If the settings turn records off, earlier records are
// deleted in time as well.
func TestRecorderSweeps(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, _ *fakeMetrics, _ *bytes.Buffer) {
		store.set(func() { store.left = 3*deleteAtOnce + 7 })
		pass(t, sweepEvery+2*writeEvery)
		if age := clock.Since(store.before); store.left != 0 || age < 24*time.Hour || age > 24*time.Hour+sweepEvery {
			t.Errorf("%d are left; those older than %s were deleted", store.left, age)
		}
		r.Configure(Settings{})
		pass(t, sweepEvery+2*writeEvery)
		if age := clock.Since(store.before); age < DefaultKeep || age > DefaultKeep+sweepEvery {
			t.Errorf("those older than %s were deleted", age)
		}
	})
}

// TestRecorderSweepsUnderLoad checks that records are deleted even if new ones come faster
// than a slow store writes them.
func TestRecorderSweepsUnderLoad(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, _ *fakeMetrics, _ *bytes.Buffer) {
		store.set(func() { store.slow, store.left = 2*time.Second, deleteAtOnce+1 })
		for i := range 3000 {
			r.Record(refusal(fmt.Sprint("key_", i), "t"))
			pass(t, 100*time.Millisecond)
		}
		if store.left != 0 {
			t.Errorf("%d records are left", store.left)
		}
		store.set(func() { store.slow = 0 })
	})
}

// TestRecorderCloses checks that Close writes the remaining records, and gives up if
// the store hangs.
func TestRecorderCloses(t *testing.T) {
	recorded(t, func(t *testing.T, r *Recorder, store *fakeStore, _ *fakeMetrics, _ *bytes.Buffer) {
		for i := range recordsAtOnce + 1 {
			r.Record(refusal(fmt.Sprint("key_", i%9), "t"))
		}
		r.Close()
		if len(store.records) != recordsAtOnce+1 || store.counts["t"] != recordsAtOnce+1 {
			t.Errorf("%d records and %d counts", len(store.records), store.counts["t"])
		}
		store.set(func() { store.slow = time.Hour })
		r.Record(refusal("key_1", "t"))
		began := clock.Now()
		r.Close()
		if took := clock.Since(began); took > closeTime {
			t.Errorf("Close took %s", took)
		}
		(*Recorder)(nil).Close()
	})
}

// TestFilterMatches checks, for each field of a filter, that a record with another
// value of the field does not match.
func TestFilterMatches(t *testing.T) {
	r := Record{Account: "a", Key: "k", Server: "s", Tool: "t", Outcome: Refused, Code: "c"}
	for _, f := range []Filter{{}, {Account: "a", Key: "k", Server: "s", Tool: "t", Outcome: Refused, Code: "c"}} {
		if !f.Matches(&r) {
			t.Errorf("%+v does not match", f)
		}
	}
	for _, f := range []Filter{{Account: "x"}, {Key: "x"}, {Server: "x"}, {Tool: "x"}, {Outcome: Failed}, {Code: "x"}} {
		if f.Matches(&r) {
			t.Errorf("%+v matches", f)
		}
	}
}
