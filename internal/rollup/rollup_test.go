package rollup

import (
	"math"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestPeriods checks that the period of a time begins at or before the time and ends
// after it. This must hold before 1970 and around the ends of months and years, too.
func TestPeriods(t *testing.T) {
	next := map[period]func(time.Time) time.Time{
		hours:  func(t time.Time) time.Time { return t.Add(time.Hour) },
		days:   func(t time.Time) time.Time { return t.AddDate(0, 0, 1) },
		months: func(t time.Time) time.Time { return t.AddDate(0, 1, 0) },
	}
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 0).Add(-time.Microsecond), time.Date(1969, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 2, 29, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		for p, after := range next {
			bucket := p.bucketOf(at.UnixMicro())
			begin := p.begin(bucket)
			if begin.After(at) || !after(begin).After(at) {
				t.Errorf("period %d: %s is in the one that begins %s", p, at, begin)
			}
			if p.bucketOf(begin.UnixMicro()) != bucket || p.bucketOf(begin.UnixMicro()-1) != bucket-1 {
				t.Errorf("period %d: %s is not its beginning", p, begin)
			}
		}
	}
}

// TestViews checks that each view has a different number, and that projectionOf finds
// the view's projection by this number.
func TestViews(t *testing.T) {
	seen := map[int64]bool{}
	for _, view := range Views() {
		if seen[view] || projectionOf(view) == nil {
			t.Errorf("view %d comes twice, or has no projection", view)
		}
		seen[view] = true
	}
	if len(seen) != 2*rowsPerCharge {
		t.Errorf("%d views, and a charge changes %d rows", len(seen), rowsPerCharge)
	}
}

// TestVerifierIsExact checks that a Verifier accepts the rows of a batch, and reports a
// difference after a single figure, or a single part of a row's key, is changed.
func TestVerifierIsExact(t *testing.T) {
	list := []Transaction{
		{Seq: 1, At: 1e15, Kind: Charge, Amount: 10, Fee: 1, Account: 3, Provider: 4, Lineage: "key_1", Server: "s", Tool: "a"},
		{Seq: 2, At: 1e15, Kind: Charge, Free: true, Account: 4, Provider: 3, Lineage: "key_1", Server: "s", Tool: "b", Test: true},
		{Seq: 3, At: 2e15, Kind: Refund, Amount: 4, Account: 3, Provider: 4, Lineage: "key_1", Server: "s", Tool: "a"},
		{Seq: 4, At: 2e15, Kind: FeeReturned, Amount: 1, Account: 3, Provider: 4, Lineage: "key_1", Server: "s", Tool: "a"},
		{Seq: 5, At: 2e15},
	}
	differences := func(change func(*Row, int)) int {
		b := NewBatch(new(State), math.MaxInt32)
		for i := range list {
			b.add(&list[i])
		}
		v := NewVerifier()
		for _, view := range Views() {
			v.Begin(view, State{Cursor: 5})
		}
		for _, k := range b.Numbers.NewKeys {
			v.AddKey(k)
		}
		for _, n := range b.Numbers.NewNames {
			v.AddName(n)
		}
		for i, r := range b.Rows() {
			change(&r, i)
			v.Stored(&r)
		}
		for i := range list {
			v.Transaction(&list[i])
		}
		return len(v.Differences())
	}
	if n := differences(func(*Row, int) {}); n != 0 {
		t.Fatalf("%d differences in right rows", n)
	}
	for i, change := range []func(*Row){
		func(r *Row) { r.Calls++ }, func(r *Row) { r.Free++ }, func(r *Row) { r.Charged-- }, func(r *Row) { r.RefundCount++ }, func(r *Row) { r.Refunded++ },
		func(r *Row) { r.Fee++ }, func(r *Row) { r.FeeReturned++ }, func(r *Row) { r.Charged, r.Refunded = r.Charged+1, r.Refunded-1 },
		func(r *Row) { r.Bucket++ }, func(r *Row) { r.Subject++ }, func(r *Row) { r.UsageSums = ledger.UsageSums{} },
	} {
		for row := range 7 {
			changed := false
			n := differences(func(r *Row, at int) {
				if at == 10*row {
					before := *r
					change(r)
					changed = before != *r && !(before.Subject != r.Subject && projectionOf(r.View).subject == unused)
				}
			})
			if changed && n == 0 {
				t.Errorf("change %d of row %d is not found", i, 10*row)
			}
		}
	}
}

// TestBatchesAddUp checks that the rows add up to the same sums, however many batches
// the transactions are divided into.
func TestBatchesAddUp(t *testing.T) {
	sums := func(most int) map[Key]ledger.UsageSums {
		all, state := map[Key]ledger.UsageSums{}, State{}
		numbers := NewNumbers(0, 0)
		for seq := int64(1); seq <= 50; {
			b := NewBatch(&state, most)
			b.Numbers = numbers
			for ; seq <= 50 && !b.full(); seq++ {
				b.add(&Transaction{Seq: seq, At: seq * 1e12, Kind: Charge, Amount: ledger.Amount(seq), Account: seq % 3, Provider: 4, Lineage: "k", Server: "s", Tool: "t"})
			}
			if b.Last != seq-1 || b.Count == 0 {
				t.Fatalf("a batch of %d transactions up to %d", b.Count, b.Last)
			}
			for _, r := range b.Rows() {
				s := all[r.Key]
				s.Add(&r.UsageSums)
				all[r.Key] = s
			}
			state.Cursor = b.Last
		}
		return all
	}
	whole := sums(1 << 20)
	for _, most := range []int{1, 100, 1000} {
		parts := sums(most)
		if len(parts) != len(whole) {
			t.Fatalf("%d rows in batches of %d, want %d", len(parts), most, len(whole))
		}
		for k, s := range whole {
			if parts[k] != s {
				t.Fatalf("row %+v is %+v in batches of %d, want %+v", k, parts[k], most, s)
			}
		}
	}
}
