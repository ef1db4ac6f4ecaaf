package storetest

import (
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runCaps(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"64 callers on a cap for 10 calls a day get exactly 10, whichever holder the cap has", capRace},
		named{"64 callers on a free quota of 10 get exactly 10 free", freeRace},
		named{"a refusal says whose cap it is, and the figures", capFigures},
		named{"a rotated key has the cap of its lineage", capLineage},
		named{"released credits can be spent again under a cap, refunded ones cannot", capGivenBack},
		named{"a call counts for the day and month of its reservation", capMidnight},
		named{"a cap for a month resets when the next month begins", capMonth},
		named{"live and test credits count towards the same caps separately", capTest},
		named{"an operator is warned of a cap once a period", capWarning},
		named{"the free calls of a day cost nothing", freeCalls},
		named{"limits of an account change with their audit row, or not at all", limitChange},
		named{"a lowered limit leaves open reservations alone", limitLowered},
		named{"limits and spending survive a crash", capCrash},
		named{"invalid terms are refused", termsInvalid},
		named{"caps at the edge of the range do not overflow", capOverflow},
	)
}

// capped returns terms and account caps in which c bounds the spending of the holder,
// and nothing else is bounded.
func capped(holder ledger.Holder, c ledger.Caps) (ledger.Terms, ledger.Caps) {
	switch holder {
	case ledger.HolderKey:
		return ledger.Terms{Key: c}, ledger.Caps{}
	case ledger.HolderServer:
		return ledger.Terms{Server: c}, ledger.Caps{}
	default:
		return ledger.Terms{}, c
	}
}

var holders = []ledger.Holder{ledger.HolderKey, ledger.HolderAccount, ledger.HolderServer}

func (t *test) setCaps(account string, c ledger.Caps) {
	t.Helper()
	_, err := t.Store.UpdateAccount(t.ctx, account, func(a *ledger.Account) error { a.Caps = c; return nil }, t.audit("account.update", account))
	t.ok(err)
}

// spend reserves and captures a call.
func (t *test) spend(o ledger.Order, terms ledger.Terms) (ledger.Charge, error) {
	id := newID("chg_")
	if _, err := t.Store.Reserve(t.ctx, id, o, terms); err != nil {
		return ledger.Charge{}, err
	}
	c, _, err := t.Store.Capture(t.ctx, id, nil)
	return c, err
}

// at moves the clock to the given time.
func (t *test) at(when time.Time) { t.Advance(when.Sub(t.Now())) }

// midnight returns the beginning of the next day, UTC.
func (t *test) midnight() time.Time {
	return t.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
}

func capRace(t *test) {
	payee := t.account("payee", 0, 0)
	for i, holder := range holders {
		payer := t.account(string(holder), 100*price, 0)
		terms, caps := capped(holder, ledger.Caps{Day: 10 * price})
		t.setCaps(payer, caps)
		o := order(payer, payee, price)
		o.Lineage = "key_" + string(holder)
		var y tally
		together(64, func(n int) {
			var err error
			if n%2 == 0 {
				_, err = t.spend(o, terms)
			} else {
				_, _, err = t.Store.Charge(t.ctx, newID("chg_"), o, terms, nil)
			}
			y.add(err, ledger.ErrCapped)
		})
		y.check(t, 10, 54)
		t.holds(payer, 90*price, 0)
		t.balanced(int64(11 * (i + 1)))
	}
}

func freeRace(t *test) {
	payer, payee := t.account("payer", 3*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), ledger.Terms{FreeCalls: 10}
	var waived atomic.Int64
	var y tally
	together(64, func(int) {
		c, err := t.spend(o, terms)
		if c.Waived {
			waived.Add(1)
		}
		y.add(err, ledger.ErrInsufficient)
	})
	y.check(t, 13, 51)
	if n := waived.Load(); n != 10 {
		t.Fatalf("%d calls were free, want 10", n)
	}
	t.holds(payer, 0, 0)
	t.holds(payee, 3*price, 0)
	t.balanced(14)
}

func capFigures(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	o := order(payer, payee, 3*price)
	day := t.midnight()
	month := time.Date(day.AddDate(0, 0, -1).Year(), day.AddDate(0, 0, -1).Month()+1, 1, 0, 0, 0, 0, time.UTC)
	_, err := t.spend(o, ledger.Terms{})
	t.ok(err)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
	t.ok(err)
	for _, holder := range holders {
		for _, want := range []ledger.Cap{
			{Period: ledger.PerCall, Amount: 3*price - 1},
			{Period: ledger.PerDay, Amount: 9*price - 1, Spent: 3 * price, Held: 3 * price, Resets: day},
			{Period: ledger.PerMonth, Amount: 9*price - 1, Spent: 3 * price, Held: 3 * price, Resets: month},
		} {
			var c ledger.Caps
			switch want.Period {
			case ledger.PerCall:
				c.Call = want.Amount
			case ledger.PerDay:
				c.Day = want.Amount
			default:
				c.Month = want.Amount
			}
			terms, caps := capped(holder, c)
			t.setCaps(payer, caps)
			want.Holder, want.Account, want.Lineage, want.Server = holder, payer, o.Lineage, o.Server
			_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
			t.want(err, ledger.ErrCapped)
			var e *ledger.CapError
			if !errors.As(err, &e) || e.Cap != want || e.Needed != 3*price {
				t.Fatalf("refused by %+v, want %+v", err, want)
			}
			_, _, err = t.Store.Charge(t.ctx, newID("chg_"), o, terms, nil)
			t.want(err, ledger.ErrCapped)
			t.setCaps(payer, ledger.Caps{})
		}
	}
	t.holds(payer, 97*price, 3*price)
	t.balanced(2)
}

func capLineage(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	terms := ledger.Terms{Key: ledger.Caps{Day: 2 * price}}
	o := order(payer, payee, price)
	_, err := t.spend(o, terms)
	t.ok(err)
	o.Key, o.Server = "key_2", "maps" // another key of the same lineage, at another server
	_, err = t.spend(o, terms)
	t.ok(err)
	_, err = t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	o.Lineage = "key_2"
	_, err = t.spend(o, terms)
	t.ok(err)
}

func capGivenBack(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	terms, o := ledger.Terms{Server: ledger.Caps{Day: price, Month: 2 * price}}, order(payer, payee, price)
	for range 3 {
		id := newID("chg_")
		_, err := t.Store.Reserve(t.ctx, id, o, terms)
		t.ok(err)
		_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
		t.want(err, ledger.ErrCapped)
		t.ok(t.Store.Release(t.ctx, id))
	}
	late := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, late, o, terms)
	t.ok(err)
	t.Advance(2 * ledger.ReservationLife)
	c, err := t.spend(o, terms)
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, late, nil)
	t.want(err, ledger.ErrCapped) // the expired reservation no longer holds its amount under the cap, and the call above has used this amount
	_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: c.ID}, t.audit("refund", c.ID))
	t.ok(err)
	_, err = t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	t.holds(payer, 100*price, 0)
	t.balanced(3)
}

func capMidnight(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), ledger.Terms{Key: ledger.Caps{Day: 2 * price}}
	midnight := t.midnight()
	t.at(midnight.Add(-time.Minute))
	ids := []string{newID("chg_"), newID("chg_")}
	for _, id := range ids {
		_, err := t.Store.Reserve(t.ctx, id, o, terms)
		t.ok(err)
	}
	t.at(midnight.Add(20 * time.Second))
	_, err := t.spend(o, terms)
	t.ok(err)
	for _, id := range ids { // these charges are captured on the new day, but count towards the old one
		_, _, err := t.Store.Capture(t.ctx, id, nil)
		t.ok(err)
	}
	_, err = t.spend(o, terms)
	t.ok(err)
	_, err = t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	t.Store = t.Crash()
	_, err = t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	t.at(midnight.AddDate(0, 0, 1).Add(time.Minute))
	_, err = t.spend(o, terms)
	t.ok(err)
	t.balanced(6)
}

func capMonth(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	o, terms := order(payer, payee, price), ledger.Terms{Server: ledger.Caps{Month: 3 * price}}
	now := t.Now().UTC()
	first := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	t.at(first.Add(time.Hour))
	for range 2 { // the first month and the next one
		for _, day := range []int{0, 5} {
			t.at(first.AddDate(0, 0, day).Add(2 * time.Hour))
			_, err := t.spend(o, terms)
			t.ok(err)
		}
		first = first.AddDate(0, 1, 0)
		t.at(first.Add(-time.Minute))
		held := newID("chg_")
		_, err := t.Store.Reserve(t.ctx, held, o, terms)
		t.ok(err)
		_, err = t.spend(o, terms)
		t.want(err, ledger.ErrCapped)
		t.Store.Release(t.ctx, held) //nolint:errcheck // checked by the next line
		_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
		t.ok(err)
		t.at(first.Add(time.Second)) // the open reservations now count towards the past month
	}
	t.balanced(5)
}

func capTest(t *test) {
	payer, payee := t.account("payer", 10*price, 0), t.account("payee", 0, 0)
	t.credit(payer, 10*price, true)
	t.setCaps(payer, ledger.Caps{Day: 2 * price})
	for _, test := range []bool{false, true} {
		o := order(payer, payee, price)
		if o.Test = test; test {
			o.Lineage = "key_test"
		}
		terms := ledger.Terms{FreeCalls: 1}
		c, err := t.spend(o, terms)
		t.ok(err)
		if !c.Waived {
			t.Fatalf("the first call with test %v is not free", test)
		}
		for range 2 {
			_, err = t.spend(o, terms)
			t.ok(err)
		}
		_, err = t.spend(o, terms)
		var e *ledger.CapError
		if !errors.As(err, &e) || e.Test != test || e.Spent != 2*price {
			t.Fatalf("error is %v, want the cap with test %v", err, test)
		}
	}
	t.balanced(8)
}

func capWarning(t *test) {
	payer, payee := t.account("payer", 1000*price, 0), t.account("payee", 0, 0)
	t.setCaps(payer, ledger.Caps{Day: 10 * price, Month: 17 * price})
	o, terms := order(payer, payee, price), ledger.Terms{Key: ledger.Caps{Day: 5 * price}, FreeCalls: 2}
	now := t.Now().UTC()
	month := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	t.at(month.Add(time.Hour))
	heard := 0
	wants := func(want ...ledger.Cap) {
		t.Helper()
		all := t.warnings(heard + len(want))
		if len(all) != heard+len(want) {
			t.Fatalf("%d warnings, want %d: %+v", len(all)-heard, len(want), all[heard:])
		}
		for i, c := range want {
			c.Account, c.Lineage, c.Server = payer, o.Lineage, o.Server
			t.same(all[heard+i], c)
		}
		heard = len(all)
	}
	calls := func(n int) {
		t.Helper()
		var y tally
		together(n, func(int) { _, err := t.spend(o, terms); y.add(err) })
		y.check(t, int64(n), 0)
	}
	calls(5) // a free quota pays two of the five calls
	wants()
	calls(1)
	wants(ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Amount: 5 * price, Spent: 4 * price, Resets: month.AddDate(0, 0, 1)})
	calls(1)
	wants()
	o.Lineage, terms = "key_other", ledger.Terms{}
	calls(2)
	wants()
	t.Store = t.Crash()
	calls(1)
	wants(ledger.Cap{Holder: ledger.HolderAccount, Period: ledger.PerDay, Amount: 10 * price, Spent: 8 * price, Resets: month.AddDate(0, 0, 1)})
	t.Store = t.Crash()
	calls(2)
	wants()
	t.Advance(24 * time.Hour) // ten calls of this month were paid so far
	calls(3)
	wants()
	calls(1)
	wants(ledger.Cap{Holder: ledger.HolderAccount, Period: ledger.PerMonth, Amount: 17 * price, Spent: 14 * price, Resets: month.AddDate(0, 1, 0)})
	calls(3)
	wants()
	t.balanced(1 + 19)
}

// warnings waits for n warnings, because a warning may arrive after the result of the
// call.
func (t *test) warnings(n int) []ledger.Cap {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(t.Near()) < n {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%d warnings in 10 s, want %d", len(t.Near()), n)
		}
	}
	t.balanced(-1) // a superfluous warning would arrive while Verify runs
	return t.Near()
}

func freeCalls(t *test) {
	payer, payee, operator := t.account("payer", 10*price, 0), t.account("payee", 0, 0), t.account("operator", 0, 0)
	o, terms := order(payer, payee, price), ledger.Terms{FreeCalls: 2, Key: ledger.Caps{Call: price / 2}}
	o.Fee, o.FeeTo = price/10, operator
	for range 3 { // a released call does not use up the free quota
		id := newID("chg_")
		got, err := t.Store.Reserve(t.ctx, id, o, terms)
		t.ok(err)
		t.same(got, ledger.Reservation{Balance: ledger.Balance{Posted: 10 * price}, Waived: true})
		t.ok(t.Store.Release(t.ctx, id))
	}
	var first ledger.Charge
	for range 2 { // the cap of the key does not apply to free calls
		c, err := t.spend(o, terms)
		t.ok(err)
		first = t.made(c)
		t.same(first, ledger.Charge{ID: c.ID, Order: o, State: ledger.Captured, At: c.At, Waived: true})
	}
	_, err := t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	t.holds(payer, 10*price, 0)
	t.holds(payee, 0, 0)
	t.holds(operator, 0, 0)
	refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: first.ID}
	_, _, err = t.Store.PostTransaction(t.ctx, refund, t.audit("refund", first.ID))
	t.want(err, ledger.ErrSettled) // a free call has no paid amount that could be refunded
	t.Store = t.Crash()
	got, err := t.Store.ChargeByID(t.ctx, first.ID)
	t.ok(err)
	t.same(got, first)
	_, err = t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	other := o
	other.Server = "maps"
	c, err := t.spend(other, terms)
	t.ok(err)
	if !c.Waived {
		t.Fatalf("the quota of one server was used up at another one")
	}
	t.Advance(24 * time.Hour)
	if c, err = t.spend(o, terms); err != nil || !c.Waived {
		t.Fatalf("on the next day: %+v, %v", c, err)
	}
	t.balanced(5)
}

func limitChange(t *test) {
	id := t.account("acme", 0, 5)
	before := len(t.audits())
	want := ledger.Caps{Call: 1, Day: 2, Month: 3}
	row := t.audit("account.update", id)
	row.At = row.At.UTC().Truncate(time.Microsecond)
	got, err := t.Store.UpdateAccount(t.ctx, id, func(a *ledger.Account) error {
		if a.ID != id || a.CreditLimit != 5 {
			return errors.New("not the account")
		}
		a.CreditLimit, a.Caps, a.Name = 7, want, "other"
		return nil
	}, row)
	t.ok(err)
	read, err := t.Store.Account(t.ctx, "acme")
	t.ok(err)
	t.same(got, read)
	if read.CreditLimit != 7 || read.Caps != want {
		t.Fatalf("changed to %+v", read)
	}
	t.same(t.audits()[0], row)
	why := errors.New("why not")
	for what, change := range map[string]func(a *ledger.Account) error{
		"a change that is given up": func(a *ledger.Account) error { a.CreditLimit = 9; return why },
		"a limit below zero":        func(a *ledger.Account) error { a.CreditLimit = -1; return nil },
		"a cap below zero":          func(a *ledger.Account) error { a.Caps.Month = -1; return nil },
	} {
		_, err := t.Store.UpdateAccount(t.ctx, id, change, t.audit("account.update", id))
		t.refused(err, what)
	}
	for _, nobody := range []string{newID("acct_"), ledger.Funding, ""} {
		_, err := t.Store.UpdateAccount(t.ctx, nobody, func(*ledger.Account) error { return nil }, t.audit("account.update", ""))
		t.want(err, ledger.ErrNotFound)
	}
	repair := t.BreakAudit()
	_, err = t.Store.UpdateAccount(t.ctx, id, func(a *ledger.Account) error { a.CreditLimit = 9; return nil }, t.audit("account.update", id))
	t.want(err, ledger.ErrUnavailable)
	repair()
	for range 2 {
		read, err = t.Store.Account(t.ctx, id)
		t.ok(err)
		t.same(read, got)
		t.Store = t.Crash()
	}
	if n := len(t.audits()); n != before+1 {
		t.Fatalf("%d audit rows of changes, want 1", n-before)
	}
	t.refused(t.Store.CreateAccount(t.ctx, ledger.Account{ID: newID("acct_"), Name: "low", Caps: ledger.Caps{Day: -1}}, t.audit("", "")), "an account with a cap below zero")
}

func limitLowered(t *test) {
	payer, payee := t.account("payer", 0, 10*price), t.account("payee", 0, 0)
	o, id := order(payer, payee, 6*price), newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	_, err = t.Store.UpdateAccount(t.ctx, payer, func(a *ledger.Account) error {
		a.CreditLimit, a.Caps = price, ledger.Caps{Day: price}
		return nil
	}, t.audit("account.update", payer))
	t.ok(err)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), ledger.Terms{})
	t.want(err, ledger.ErrCapped)
	t.setCaps(payer, ledger.Caps{})
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), ledger.Terms{})
	t.want(err, ledger.ErrInsufficient)
	_, _, err = t.Store.Capture(t.ctx, id, nil) // the limits that applied to the reservation also apply to its capture
	t.ok(err)
	t.holds(payer, -6*price, 0)
	t.balanced(1)
}

func capCrash(t *test) {
	payer, payee := t.account("payer", 100*price, 0), t.account("payee", 0, 0)
	want := ledger.Caps{Day: 3 * price, Month: 4 * price}
	t.setCaps(payer, want)
	o, terms := order(payer, payee, price), ledger.Terms{FreeCalls: 1}
	for range 4 { // a free quota pays one of the four calls
		_, err := t.spend(o, terms)
		t.ok(err)
		t.Store = t.Crash()
	}
	_, err := t.spend(o, terms)
	t.want(err, ledger.ErrCapped)
	a, err := t.Store.Account(t.ctx, payer)
	t.ok(err)
	t.same(a.Caps, want)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{FreeCalls: 2}) // this reservation is open until the crash
	t.ok(err)
	t.Store = t.Crash()
	if t.Forgets {
		got, err := t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{FreeCalls: 2})
		t.ok(err)
		if !got.Waived {
			t.Fatalf("a reservation that a crash released is still counted")
		}
	}
	t.balanced(5)
}

func termsInvalid(t *test) {
	payer, payee := t.account("payer", ledger.Unit, 0), t.account("payee", 0, 0)
	long := string(make([]byte, ledger.MaxIdempotencyKey+1))
	for what, terms := range map[string]ledger.Terms{
		"a cap below zero":             {Key: ledger.Caps{Day: -1}},
		"a server's cap below zero":    {Server: ledger.Caps{Call: math.MinInt64}},
		"a key that is too long":       {Idempotency: ledger.Idempotency{Key: long}},
		"a cap for a month below zero": {Key: ledger.Caps{Month: -1}},
	} {
		_, err := t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), terms)
		t.refused(err, what)
		_, _, err = t.Store.Charge(t.ctx, newID("chg_"), order(payer, payee, 1), terms, nil)
		t.refused(err, what)
	}
	for what, change := range map[string]func(*ledger.Order){
		"a fee for nobody":          func(o *ledger.Order) { o.Fee = 1 },
		"nobody's fee":              func(o *ledger.Order) { o.FeeTo = payer },
		"a fee above the price":     func(o *ledger.Order) { o.Fee, o.FeeTo = 11, payer },
		"a fee below zero":          func(o *ledger.Order) { o.Fee, o.FeeTo = -1, payer },
		"a fee for the provider":    func(o *ledger.Order) { o.Fee, o.FeeTo = 1, payee },
		"a fee for the top-ups":     func(o *ledger.Order) { o.Fee, o.FeeTo = 1, ledger.Funding },
		"a fee for no such account": func(o *ledger.Order) { o.Fee, o.FeeTo = 1, newID("acct_") },
	} {
		o := order(payer, payee, 10)
		change(&o)
		_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, ledger.Terms{})
		t.refused(err, what)
	}
	if n := t.Store.OpenReservations(); n != 0 {
		t.Fatalf("%d reservations are open", n)
	}
	t.balanced(1)
}

func capOverflow(t *test) {
	const most = ledger.Amount(math.MaxInt64)
	payer, payee := t.account("payer", most, most), t.account("payee", 0, 0)
	o, terms := order(payer, payee, most), ledger.Terms{Key: ledger.Caps{Call: most, Day: most, Month: most}}
	_, err := t.Store.Reserve(t.ctx, newID("chg_"), o, terms)
	t.ok(err)
	_, err = t.Store.Reserve(t.ctx, newID("chg_"), order(payer, payee, 1), terms)
	t.want(err, ledger.ErrCapped) // the sum of both amounts must not wrap around to a negative number
	t.Advance(2 * ledger.ReservationLife)
	_, err = t.spend(o, ledger.Terms{})
	t.ok(err)
	_, err = t.spend(order(payee, payer, most), ledger.Terms{}) // payer and payee trade places, so that the spending of the lineage exceeds the range of amounts
	t.ok(err)
	_, err = t.spend(order(payer, payee, 1), terms)
	t.want(err, ledger.ErrCapped)
	_, err = t.spend(order(payer, payee, 1), ledger.Terms{})
	t.ok(err)
	t.Store = t.Crash()
	_, err = t.spend(order(payer, payee, 1), terms)
	t.want(err, ledger.ErrCapped)
	t.balanced(4)
}
