package storetest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/callstore"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// CallCounter is a store that adds calls that charged nothing to the sums of usage.
type CallCounter interface {
	CountCalls(ctx context.Context, calls []ledger.CallCount) error
}

// uncharged counts some calls that were refused or failed. With a store that does not
// implement CallCounter, it does nothing.
func (w *usageWorld) uncharged() {
	w.Helper()
	store, ok := w.Store.(CallCounter)
	if !ok {
		return
	}
	var counts []ledger.CallCount
	for range 1 + w.random.IntN(3) {
		c := ledger.CallCount{
			At: w.Now(), Account: w.pick(w.payers...), Provider: w.pick(w.providers...), Lineage: w.pick("key_a", "key_b", "key_e"),
			Server: w.pick("weather", "maps", "refusing"), Tool: w.pick("", "get", "get_*", "other"), Test: w.random.IntN(4) == 0,
			Refused: w.random.Int64N(3), Failed: 1 + w.random.Int64N(3),
		}
		counts = append(counts, c)
		w.events = append(w.events, usageEvent{c.At, ledger.Order{
			Account: c.Account, Provider: c.Provider, Lineage: c.Lineage, Server: c.Server, Tool: c.Tool, Test: c.Test,
		}, ledger.UsageSums{Refused: c.Refused, Failed: c.Failed}})
	}
	counts = append(counts, ledger.CallCount{At: w.Now(), Account: "acct_none", Provider: w.providers[0], Refused: 1}) // not in any sum
	w.ok(store.CountCalls(w.ctx, counts))
}

// sameKeyUsage compares the sums of several lineages, since the day of some event, with
// their recomputation.
func (t *test) sameKeyUsage(events []usageEvent) {
	t.Helper()
	for i := 0; i < len(events); i += 1 + len(events)/5 {
		since := events[i].at
		want := map[string]ledger.UsageSums{}
		for j := range events {
			if e := &events[j]; e.order.Lineage != "key_b" && !e.at.UTC().Before(since.UTC().Truncate(day)) {
				sums := want[e.order.Lineage]
				sums.Add(&e.sums)
				want[e.order.Lineage] = sums
			}
		}
		got, err := t.summer().KeyUsage(t.ctx, []string{"key_a", "key_c", "key_d", "key_e", "key_z"}, since)
		t.ok(err)
		if !maps.Equal(got, want) {
			t.Fatalf("since %s the keys have %+v, want %+v", since, got, want)
		}
	}
}

// usageCallsRace checks that no call is lost or counted twice while the journal is
// summed up, although the counting of calls and the summing of the journal both give
// numbers to new names.
func usageCallsRace(t *test) {
	store, ok := t.Store.(CallCounter)
	if !ok {
		return
	}
	payer, provider := t.account("payer", 1<<40, 0), t.account("provider", 0, 0)
	const rounds = 30
	var running sync.WaitGroup
	for i := range 2 {
		running.Go(func() {
			for j := range rounds {
				err := store.CountCalls(t.ctx, []ledger.CallCount{{
					At: t.Now(), Account: payer, Provider: provider, Lineage: fmt.Sprint("key_", i, j), Server: "s", Tool: fmt.Sprint("tool_", j), Refused: 1, Failed: 2,
				}})
				if err != nil {
					t.Errorf("counting: %v", err)
				}
			}
		})
	}
	running.Go(func() {
		for j := range rounds {
			o := order(payer, provider, 5)
			o.Lineage, o.Server, o.Tool = fmt.Sprint("key_0", j), "s", fmt.Sprint("tool_", rounds-j)
			if _, _, err := t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil); err != nil {
				t.Errorf("charging: %v", err)
			}
			if _, err := t.summer().SumUsage(t.ctx); err != nil {
				t.Errorf("summing up: %v", err)
			}
		}
	})
	running.Wait()
	for range 2 {
		for _, group := range []ledger.UsageGroup{ledger.GroupNone, ledger.GroupKey, ledger.GroupTool} {
			var all ledger.UsageSums
			for _, sums := range t.usage(ledger.UsageQuery{Group: group, By: ledger.ByMonth}) {
				all.Add(&sums)
			}
			if all.Calls != rounds || all.Refused != 2*rounds || all.Failed != 4*rounds {
				t.Fatalf("by %s: %+v", group, all)
			}
		}
		t.balanced(-1)
		t.sumUp()
	}
}

func runCalls(t *testing.T, open func(t *testing.T) Harness) {
	if _, ok := open(t).Store.(callstore.Backend); !ok {
		t.Skip("the store keeps no records of calls")
	}
	each(t, open,
		named{"records are listed newest first, by each filter and in pages", callsListed},
		named{"records survive a crash", callsSurvive},
		named{"old records are deleted, and those beyond a number", callsSwept},
		named{"a cursor that is none", callsCursor},
	)
}

// calls returns the records of the store.
func (t *test) calls() *callstore.Store { return callstore.New(t.Store.(callstore.Backend)) }

// pick returns one of its further arguments: the one at index n, modulo their number.
func pick[T any](n int, of ...T) T { return of[n%len(of)] }

// someCalls returns n different records, oldest first, with several at the same time.
func someCalls(begin time.Time, n int) (list []callrecord.Record) {
	for i := range n {
		r := callrecord.Record{
			At: begin.Add(time.Duration(i/3) * time.Second), Account: pick(i, "acct_a", "acct_b"), Key: pick(i, "key_a", "key_b", "key_c", "key_d"),
			Server: pick(i/2, "weather", "maps"), Method: "tools/call", Tool: pick(i/3, "get", "put", "x\u2028'%"),
			Outcome: pick(i/5, callrecord.Outcomes()...), Code: pick(i/7, "RATE_LIMITED", "TOOL_ERROR"), Test: i%11 == 0,
			Status: pick(i, 0, 429), Duration: time.Duration(i) * time.Microsecond, Trace: pick(i, "", fmt.Sprintf("%032x", i)),
		}
		if i%4 == 0 {
			r.Price = new(ledger.Amount(i))
		}
		list = append(list, r)
	}
	return list
}

// listedCalls reads all pages of a list.
func (t *test) listedCalls(f callrecord.Filter) (all []callrecord.Record) {
	t.Helper()
	for {
		list, next, err := t.calls().Calls(t.ctx, &f)
		t.ok(err)
		if len(list) > f.Size() {
			t.Fatalf("a page of %d has %d records", f.Size(), len(list))
		}
		all = append(all, list...)
		if f.After = next; next == "" {
			return all
		}
	}
}

// callsListed compares lists with the records that match, for all filters.
func callsListed(t *test) {
	list := someCalls(t.Now().UTC().Truncate(time.Second), 137)
	t.ok(t.calls().Append(t.ctx, list[:100]))
	t.ok(t.calls().Append(t.ctx, list[100:]))
	for _, f := range []callrecord.Filter{
		{}, {Account: "acct_a"}, {Key: "key_c"}, {Account: "acct_a", Key: "key_b"}, {Account: "acct_b", Key: "key_b"}, {Server: "maps"}, {Tool: "x\u2028'%"},
		{Outcome: callrecord.Failed}, {Code: "TOOL_ERROR"}, {Since: list[30].At}, {Until: list[30].At}, {Since: list[30].At, Until: list[90].At, Account: "acct_b", Server: "weather"},
		{Key: "none"}, {Account: "\x00\xff"},
	} {
		var want []callrecord.Record
		for i := range list {
			if r := &list[i]; f.Matches(r) && !r.At.Before(f.Since) && (f.Until.IsZero() || r.At.Before(f.Until)) {
				want = append(want, *r)
			}
		}
		slices.Reverse(want)
		for _, limit := range []int{1, 7, 0} {
			f.Limit = limit
			if got := t.listedCalls(f); !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v lists %d records, want %d\n%+v\n%+v", f, len(got), len(want), got, want)
			}
		}
	}
}

// callsSurvive checks that records are durable when Append has returned.
func callsSurvive(t *test) {
	list := someCalls(t.Now().UTC(), 5)
	t.ok(t.calls().Append(t.ctx, list))
	t.Store = t.Crash()
	if got := t.listedCalls(callrecord.Filter{}); len(got) != len(list) {
		t.Fatalf("%d records after a crash, want %d", len(got), len(list))
	}
}

// callsSwept checks that a sweep deletes the oldest records and no others.
func callsSwept(t *test) {
	list := someCalls(t.Now().UTC().Truncate(time.Second), 90)
	t.ok(t.calls().Append(t.ctx, list))
	sweep := func(before time.Time, most int64, limit int, deleted int64, oldest int) {
		t.Helper()
		n, err := t.calls().Sweep(t.ctx, before, most, limit)
		t.ok(err)
		left := t.listedCalls(callrecord.Filter{})
		if n != deleted || len(left) != len(list)-oldest || !left[len(left)-1].At.Equal(list[oldest].At) {
			t.Fatalf("%d were deleted and %d are left, want %d and %d", n, len(left), deleted, len(list)-oldest)
		}
	}
	sweep(list[0].At, 1000, 50, 0, 0)
	sweep(list[30].At, 1000, 12, 12, 12)
	sweep(list[30].At, 1000, 50, 18, 30)
	sweep(list[30].At, 20, 25, 25, 55)
	sweep(list[30].At, 20, 25, 15, 70)
	sweep(list[30].At, 20, 25, 0, 70)
	more := someCalls(t.Now().UTC().Add(time.Hour), 10)
	t.ok(t.calls().Append(t.ctx, more))
	if got := t.listedCalls(callrecord.Filter{Since: more[0].At}); len(got) != len(more) {
		t.Fatalf("%d of %d new records are listed", len(got), len(more))
	}
}

// callsCursor checks that a cursor of another list is refused.
func callsCursor(t *test) {
	for _, cursor := range []string{"1", "x", "1.x", "x.1", ".", "1.2.3"} {
		if _, _, err := t.calls().Calls(t.ctx, &callrecord.Filter{Page: ledger.Page{After: cursor}}); err == nil {
			t.Errorf("the cursor %q is accepted", cursor)
		}
	}
}
