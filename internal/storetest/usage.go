package storetest

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/rollup"
)

// Summer is a store that sums usage up and reports the sums.
type Summer interface {
	UsageReport(ctx context.Context, q ledger.UsageQuery) (ledger.UsageReport, error)
	KeyUsage(ctx context.Context, lineages []string, since time.Time) (map[string]ledger.UsageSums, error)
	SumUsage(ctx context.Context) (ledger.UsageProgress, error)
}

func runUsage(t *testing.T, open func(t *testing.T) Harness) {
	if _, ok := open(t).Store.(Summer); !ok {
		t.Skip("the store does not sum usage up through this interface")
	}
	each(t, open,
		named{"sums survive the archive", usageArchived},
		named{"a sum stops at the largest amount", usageOverflow},
		named{"sums by hours are kept for more than a year", usageHours},
		named{"a query that is not allowed", usageInvalid},
		named{"calls are counted while charges are summed up", usageCallsRace},
		named{"charges while they are summed up", usageRace},
		named{"an hour ends, and so do a day, a month and a year", usageEdges},
	)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("model ", seed), func(t *testing.T) {
			usageModel(&test{TB: t, Harness: open(t), ctx: t.Context()}, seed)
		})
	}
}

func (t *test) summer() Summer {
	t.Helper()
	s, ok := t.Store.(Summer)
	if !ok {
		t.Fatalf("a %T does not sum usage up", t.Store)
	}
	return s
}

// sumUp sums the whole journal up.
func (t *test) sumUp() {
	t.Helper()
	for {
		p, err := t.summer().SumUsage(t.ctx)
		t.ok(err)
		if !p.More {
			return
		}
	}
}

// usage reads all parts of a report, and checks that no row comes twice.
func (t *test) usage(q ledger.UsageQuery) map[ledger.UsageRow]ledger.UsageSums {
	t.Helper()
	rows := map[ledger.UsageRow]ledger.UsageSums{}
	for {
		r, err := t.summer().UsageReport(t.ctx, q)
		t.ok(err)
		if !r.Complete {
			t.Fatalf("the report of %+v is not complete", q)
		}
		if len(r.Rows) > q.Size() {
			t.Fatalf("a part of %d rows, want %d at most", len(r.Rows), q.Size())
		}
		for _, row := range r.Rows {
			sums := row.UsageSums
			row.UsageSums = ledger.UsageSums{}
			if _, twice := rows[row]; twice {
				t.Fatalf("the report of %+v has the row %+v twice", q, row)
			}
			rows[row] = sums
		}
		if r.Next == "" {
			return rows
		}
		if r.Next == q.After {
			t.Fatalf("the report of %+v does not go on", q)
		}
		q.After = r.Next
	}
}

// usageEvent is a charge or a refund, with the numbers that it adds to the sums of
// usage.
type usageEvent struct {
	at    time.Time
	order ledger.Order
	sums  ledger.UsageSums
}

// expectedUsage computes the expected report for the query from the events.
func expectedUsage(events []usageEvent, q ledger.UsageQuery) map[ledger.UsageRow]ledger.UsageSums {
	rows := map[ledger.UsageRow]ledger.UsageSums{}
	begin := func(t time.Time) time.Time {
		switch t = t.UTC(); q.By {
		case ledger.ByHour:
			return t.Truncate(time.Hour)
		case ledger.ByMonth:
			return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		}
		return t.Truncate(day)
	}
	for i := range events {
		e := &events[i]
		o, at := &e.order, begin(e.at)
		if o.Test != q.Test || q.Account != "" && o.Account != q.Account || q.Provider != "" && o.Provider != q.Provider ||
			q.Key != "" && o.Lineage != q.Key || q.Server != "" && o.Server != q.Server || q.Tool != "" && o.Tool != q.Tool ||
			!q.Since.IsZero() && at.Before(begin(q.Since)) || !q.Until.IsZero() && at.After(begin(q.Until.Add(-time.Microsecond))) {
			continue
		}
		row := ledger.UsageRow{At: at}
		switch q.Group {
		case ledger.GroupAccount:
			row.Account = o.Account
		case ledger.GroupKey:
			row.Account, row.Key = o.Account, o.Lineage
		case ledger.GroupServer:
			row.Server = o.Server
		case ledger.GroupTool:
			row.Server, row.Tool = o.Server, o.Tool
		}
		sums := rows[row]
		sums.Add(&e.sums)
		rows[row] = sums
	}
	return rows
}

// sameUsage checks that the store's report agrees with expectedUsage.
func (t *test) sameUsage(events []usageEvent, q ledger.UsageQuery) {
	t.Helper()
	got, want := t.usage(q), expectedUsage(events, q)
	if maps.Equal(got, want) {
		return
	}
	for row, sums := range want {
		if got[row] != sums {
			t.Errorf("%+v: the row %+v is %+v, want %+v", q, row, got[row], sums)
		}
	}
	for row, sums := range got {
		if _, ok := want[row]; !ok {
			t.Errorf("%+v: the row %+v of %+v is too much", q, row, sums)
		}
	}
	t.Fatalf("the report is wrong")
}

// usageWorld makes random charges and refunds in a store, and remembers them as events.
type usageWorld struct {
	*test
	random    *rand.Rand
	payers    []string
	providers []string
	operator  string
	events    []usageEvent
	charges   []*usageCharge
}

type usageCharge struct {
	id       string
	order    ledger.Order
	refunded ledger.Amount
}

func newUsageWorld(t *test, seed uint64) *usageWorld {
	w := &usageWorld{test: t, random: rand.New(rand.NewPCG(seed, 1)), operator: t.account("operator", 0, 0)}
	for i := range 3 {
		w.payers = append(w.payers, t.account(fmt.Sprint("payer-", i), 1<<40, 0))
		t.credit(w.payers[i], 1<<40, true)
		w.providers = append(w.providers, t.account(fmt.Sprint("provider-", i), 0, 0))
	}
	return w
}

// pick returns one of the texts at random.
func (w *usageWorld) pick(texts ...string) string { return texts[w.random.IntN(len(texts))] }

func (w *usageWorld) charge() {
	w.Helper()
	o := ledger.Order{
		Account: w.pick(w.payers...), Provider: w.pick(w.providers...), Key: "key_new", Lineage: w.pick("key_a", "key_b", "key_c", "key_d"),
		Server: w.pick("weather", "maps", "mail"), Tool: w.pick("get", "put", "weather", "tool \x00\xff", "x'\"%"), Amount: ledger.Amount(1 + w.random.IntN(5000)), Test: w.random.IntN(4) == 0,
	}
	if w.random.IntN(2) == 0 {
		o.FeeTo, o.Fee = w.operator, 1+(o.Amount-1)/3
	}
	c, _, err := w.Store.Charge(w.ctx, newID("chg_"), o, ledger.Terms{FreeCalls: 2}, nil)
	w.ok(err)
	sums := ledger.UsageSums{Calls: 1, Charged: o.Amount, Fee: o.Fee}
	if c.Waived {
		sums = ledger.UsageSums{Calls: 1, Free: 1}
	} else {
		w.charges = append(w.charges, &usageCharge{id: c.ID, order: o})
	}
	w.events = append(w.events, usageEvent{c.At, o, sums})
}

// refund refunds a random charge in part or in whole.
func (w *usageWorld) refund() {
	w.Helper()
	if len(w.charges) == 0 {
		return
	}
	i := w.random.IntN(len(w.charges))
	c := w.charges[i]
	left := c.order.Amount - c.refunded
	amount := left
	if w.random.IntN(2) == 0 {
		amount = 1 + ledger.Amount(w.random.Int64N(int64(left)))
	}
	r, _, err := w.Store.PostTransaction(w.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.id, Amount: amount, Reason: "model"}, w.audit("charge.refund", c.id))
	w.ok(err)
	w.events = append(w.events, usageEvent{r.At, c.order, ledger.UsageSums{
		RefundCount: 1, Refunded: amount, FeeReturned: ledger.FeeReturned(c.order.Fee, c.order.Amount, c.refunded, amount),
	}})
	if c.refunded += amount; c.refunded == c.order.Amount {
		w.charges = slices.Delete(w.charges, i, i+1)
	}
}

// query returns a random query.
func (w *usageWorld) query() ledger.UsageQuery {
	q := ledger.UsageQuery{
		Page:  ledger.Page{Limit: 1 + w.random.IntN(9)},
		By:    []ledger.UsageBy{ledger.ByHour, ledger.ByDay, ledger.ByMonth}[w.random.IntN(3)],
		Group: []ledger.UsageGroup{ledger.GroupNone, ledger.GroupAccount, ledger.GroupKey, ledger.GroupServer, ledger.GroupTool}[w.random.IntN(5)],
		Test:  w.random.IntN(4) == 0,
	}
	filter := func(to *string, texts ...string) {
		if w.random.IntN(4) == 0 {
			*to = w.pick(texts...)
		}
	}
	filter(&q.Account, w.payers...)
	filter(&q.Provider, w.providers...)
	filter(&q.Key, "key_a", "key_b", "key_z")
	filter(&q.Server, "weather", "mail", "none")
	filter(&q.Tool, "get", "tool \x00\xff", "x'\"%", "none")
	if len(w.events) > 0 {
		some := func() time.Time { return w.events[w.random.IntN(len(w.events))].at }
		if w.random.IntN(3) == 0 {
			q.Since = some()
		}
		if w.random.IntN(3) == 0 {
			q.Until = some()
		}
	}
	return q
}

// usageModel makes random charges, refunds and uncharged calls over months, and sums
// them up at random times. Now and then it crashes the store. Each report must agree
// with a report that is computed from the events, whether or not all charges are summed
// up already.
func usageModel(t *test, seed uint64) {
	w := newUsageWorld(t, seed)
	for range 120 {
		switch n := w.random.IntN(23); {
		case n >= 20:
			w.uncharged()
		case n < 10:
			w.charge()
		case n < 13:
			w.refund()
		case n < 15:
			_, err := t.summer().SumUsage(t.ctx)
			t.ok(err)
		case n < 17:
			t.Advance(time.Duration(w.random.IntN(5*24)) * time.Hour)
		case n < 18:
			t.Advance(time.Duration(w.random.IntN(90)) * time.Minute)
		case n < 19:
			t.sameUsage(w.events, w.query())
		case w.random.IntN(4) == 0:
			t.Store = t.Crash()
		}
	}
	compare := func(what string) {
		t.Helper()
		for range 60 {
			t.sameUsage(w.events, w.query())
		}
		for _, by := range []ledger.UsageBy{ledger.ByHour, ledger.ByDay, ledger.ByMonth} {
			for _, group := range []ledger.UsageGroup{ledger.GroupNone, ledger.GroupAccount, ledger.GroupKey, ledger.GroupServer, ledger.GroupTool} {
				t.sameUsage(w.events, ledger.UsageQuery{By: by, Group: group})
			}
		}
		t.sameKeyUsage(w.events)
		t.Logf("%s: %d events", what, len(w.events))
		t.balanced(-1)
	}
	compare("with a tail")
	t.sumUp()
	compare("summed up")
	t.Store = t.Crash()
	compare("after a crash")
}

// usageArchived checks that archiving sums up all transactions before it removes them,
// and that reports still include the archived charges. It also checks that a refund is
// in the right groups after its charge was archived.
func usageArchived(t *test) {
	if _, ok := t.Store.(Archiver); !ok {
		return
	}
	w := newUsageWorld(t, 7)
	for range 40 {
		w.charge()
	}
	first := w.charges[0]
	t.Advance(50 * day)
	w.charges = []*usageCharge{first} // refund this charge only, so that one archived charge has a refund that is still in the journal
	w.refund()
	to := files{}
	if n := t.archive(to, t.Now().Add(-40*day), 13); n < 40 {
		t.Fatalf("%d transactions were archived, want all charges", n)
	}
	if state, err := t.summer().SumUsage(t.ctx); err != nil || state.Summed > 4 {
		t.Fatalf("%+v, %v: what was archived was not summed up before", state, err)
	}
	for range 10 {
		w.charge()
	}
	check := func() {
		t.Helper()
		for range 60 {
			t.sameUsage(w.events, w.query())
		}
		t.follows(to)
		r, err := t.summer().UsageReport(t.ctx, ledger.UsageQuery{})
		t.ok(err)
		if !r.Archived.IsZero() {
			t.Fatalf("the report says that it begins after %s", r.Archived)
		}
	}
	check()
	t.sumUp()
	check()
	t.Store = t.Crash()
	check()
}

// usageOverflow checks that a sum beyond the largest amount becomes the largest amount,
// and that the store continues to work.
func usageOverflow(t *test) {
	a, b, c := t.account("a", math.MaxInt64, 0), t.account("b", 0, 0), t.account("c", 0, 0)
	for _, o := range []ledger.Order{order(a, b, math.MaxInt64), order(b, c, math.MaxInt64), order(c, a, math.MaxInt64)} {
		_, err := t.spend(o, ledger.Terms{})
		t.ok(err)
	}
	check := func() {
		t.Helper()
		for _, group := range []ledger.UsageGroup{ledger.GroupNone, ledger.GroupTool, ledger.GroupServer} {
			for row, sums := range t.usage(ledger.UsageQuery{Group: group}) {
				if sums.Charged != math.MaxInt64 || sums.Calls != 3 {
					t.Fatalf("%+v is %+v", row, sums)
				}
			}
		}
		for row, sums := range t.usage(ledger.UsageQuery{Group: ledger.GroupAccount, Server: "weather"}) {
			if sums.Charged != math.MaxInt64 || sums.Calls != 1 {
				t.Fatalf("%+v is %+v", row, sums)
			}
		}
		t.balanced(-1)
	}
	check()
	t.sumUp()
	check()
	_, err := t.spend(order(a, b, 5), ledger.Terms{})
	t.ok(err)
	t.sumUp()
	t.balanced(-1)
	if rows := t.usage(ledger.UsageQuery{Account: a, Tool: "get_forecast"}); len(rows) != 1 {
		t.Fatalf("%+v, want one row", rows)
	}
}

// usageInvalid checks the errors of invalid queries. It also checks that a query gives
// no rows if it names a key, a server or a tool that was never charged.
func usageInvalid(t *test) {
	for _, q := range []ledger.UsageQuery{
		{By: "week"}, {Group: "provider"}, {Page: ledger.Page{After: "x"}}, {Page: ledger.Page{After: "1.2"}}, {Page: ledger.Page{After: "1.2.3.4"}},
	} {
		_, err := t.summer().UsageReport(t.ctx, q)
		t.want(err, ledger.ErrInvalid)
	}
	for _, q := range []ledger.UsageQuery{{Account: newID("acct_")}, {Provider: newID("acct_")}, {Account: ledger.Funding}} {
		_, err := t.summer().UsageReport(t.ctx, q)
		t.want(err, ledger.ErrNotFound)
	}
	for _, q := range []ledger.UsageQuery{{}, {Key: "key_0"}, {Server: "s"}, {Tool: "t"}, {Group: ledger.GroupKey}, {Group: ledger.GroupAccount, By: ledger.ByHour}} {
		if rows := t.usage(q); len(rows) != 0 {
			t.Fatalf("%+v before the first charge", rows)
		}
	}
	ended, cancel := context.WithCancel(t.ctx)
	cancel()
	_, err := t.summer().UsageReport(ended, ledger.UsageQuery{})
	t.want(err, context.Canceled)
}

// usageRace makes charges while other goroutines sum up and read reports. The reported
// number of calls must never fall or exceed the number of charges, and in the end must
// be equal to it.
func usageRace(t *test) {
	payer, provider := t.account("payer", 1<<40, 0), t.account("provider", 0, 0)
	const callers, calls = 4, 40
	var charging, reading sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for last := int64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				if _, err := t.summer().SumUsage(t.ctx); err != nil {
					t.Errorf("summing up: %v", err)
					return
				}
				r, err := t.summer().UsageReport(t.ctx, ledger.UsageQuery{By: ledger.ByMonth})
				if err != nil {
					t.Errorf("reading: %v", err)
					return
				}
				total := int64(0)
				for _, row := range r.Rows {
					total += row.Calls
				}
				if total < last || total > callers*calls {
					t.Errorf("%d calls after %d", total, last)
					return
				}
				last = total
			}
		})
	}
	for i := range callers {
		charging.Go(func() {
			for j := range calls {
				o := order(payer, provider, 5)
				o.Lineage, o.Tool = fmt.Sprint("key_", j%7), fmt.Sprint("tool_", i)
				if _, _, err := t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil); err != nil {
					t.Errorf("charging: %v", err)
				}
			}
		})
	}
	charging.Wait()
	close(done)
	reading.Wait()
	for range 2 {
		total := int64(0)
		for _, sums := range t.usage(ledger.UsageQuery{Group: ledger.GroupTool}) {
			total += sums.Calls
		}
		if total != callers*calls {
			t.Fatalf("%d calls, want %d", total, callers*calls)
		}
		t.balanced(-1)
		t.sumUp()
	}
}

// usageHours checks that hourly sums are deleted after rollup.HoursKept, and that
// hourly reports then give the time before which the sums are deleted. Daily and
// monthly sums must stay.
func usageHours(t *test) {
	w := newUsageWorld(t, 9)
	for range 30 {
		w.charge()
		t.Advance(time.Hour)
	}
	t.sumUp()
	t.Advance(rollup.HoursKept)
	for range 10 {
		w.charge()
		t.Advance(time.Hour)
	}
	t.Advance(2 * day)
	for range 50 { // enough calls of SumUsage for one walk over all hourly sums
		t.sumUp()
	}
	r, err := t.summer().UsageReport(t.ctx, ledger.UsageQuery{By: ledger.ByHour})
	t.ok(err)
	if r.From.IsZero() || len(r.Rows) == 0 || r.Rows[0].At.Before(r.From) || t.Now().Sub(r.From) < rollup.HoursKept {
		t.Fatalf("the report by hours begins at %s with %+v", r.From, r.Rows)
	}
	young := slices.DeleteFunc(slices.Clone(w.events), func(e usageEvent) bool { return e.at.Before(r.From) })
	if len(young) == len(w.events) || len(young) < 10 {
		t.Fatalf("%d of %d events are young", len(young), len(w.events))
	}
	for _, group := range []ledger.UsageGroup{ledger.GroupNone, ledger.GroupAccount, ledger.GroupKey, ledger.GroupServer, ledger.GroupTool} {
		t.sameUsage(young, ledger.UsageQuery{By: ledger.ByHour, Group: group})
		t.sameUsage(w.events, ledger.UsageQuery{By: ledger.ByDay, Group: group})
		t.sameUsage(w.events, ledger.UsageQuery{By: ledger.ByMonth, Group: group})
	}
	if r, err := t.summer().UsageReport(t.ctx, ledger.UsageQuery{By: ledger.ByDay}); err != nil || !r.From.IsZero() {
		t.Fatalf("the report by days begins at %s, %v", r.From, err)
	}
	t.balanced(-1)
}

// usageEdges makes charges in the last microsecond of a period, and charges and refunds
// in the first microsecond of the next period. The reports must assign each of them to
// its own period.
func usageEdges(t *test) {
	w := newUsageWorld(t, 3)
	for _, edge := range []time.Time{
		time.Date(2030, 1, 31, 23, 0, 0, 0, time.UTC), time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2030, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.at(edge.Add(-time.Microsecond))
		w.charge()
		w.charge()
		t.Advance(time.Microsecond)
		w.charge()
		w.refund()
	}
	for range 2 {
		for range 100 {
			t.sameUsage(w.events, w.query())
		}
		t.sumUp()
	}
	t.balanced(-1)
}
