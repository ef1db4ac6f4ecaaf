package storetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Reports collects the audit rows that a store reports. A store reports a row after it
// has committed the row.
type Reports struct {
	mu   sync.Mutex
	rows []ledger.Audit
}

// Add adds a row. A store's own test passes Add to the store as the option Audited.
func (r *Reports) Add(a ledger.Audit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, a)
}

// all returns the rows so far.
func (r *Reports) all() []ledger.Audit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows)
}

// reported checks that the store has reported exactly the rows of its audit log, each
// once. The order may differ, because concurrent operations may report in another order
// than they commit.
func (t *test) reported() {
	t.Helper()
	count := make(map[ledger.Audit]int)
	for _, a := range t.Reports.all() {
		a.At = a.At.UTC().Truncate(time.Microsecond)
		count[a]++
	}
	for _, a := range t.audits() {
		count[a]--
	}
	for a, n := range count {
		switch {
		case n > 0:
			t.Errorf("%d reports of an audit row that is not in the store: %+v", n, a)
		case n < 0:
			t.Errorf("%d audit rows were not reported: %+v", -n, a)
		}
	}
}

func runAudit(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"the audit log is chosen by actor, action, target, key and time", auditFilter},
		named{"a page of chosen audit rows continues where the last one ended", auditPages},
		named{"a repeated posting is audited and reported once", auditOnce},
	)
}

// auditFilter writes audit rows that differ in one field each. It checks that every
// filter lists exactly the rows that match all fields of the filter, the newest first.
func auditFilter(t *test) {
	account := t.account("acme", 0, 0)
	old, fresh := t.newKey(account), t.newKey(account)
	t.createKey(old)
	start := t.Now().UTC().Truncate(time.Microsecond)
	write := func(after time.Duration, actor, action string) ledger.Audit {
		t.Advance(time.Minute)
		row := ledger.Audit{At: start.Add(after), Actor: actor, Action: action, Target: old.ID, Detail: `{"successor":"key_other"}`}
		_, err := t.Store.UpdateKey(t.ctx, old.ID, func(k *keys.Key) error { k.Name = after.String(); return nil }, row)
		t.ok(err)
		return row
	}
	one := write(time.Hour, "offline", "key.update")
	two := write(2*time.Hour, "key_admin", "key.update")
	three := write(3*time.Hour, "offline", "key.disable")
	rotate := ledger.Audit{At: start.Add(4 * time.Hour), Actor: "offline", Action: "key.rotate", Target: old.ID, Detail: `{"successor":"` + fresh.ID + `"}`}
	_, err := t.Store.ReplaceKey(t.ctx, old.ID, func(k *keys.Key) error { k.Successor = fresh.ID; return nil }, successorOf(&old, &fresh), rotate)
	t.ok(err)
	for _, c := range []struct {
		name   string
		filter ledger.AuditFilter
		want   []ledger.Audit
	}{
		{"an actor", ledger.AuditFilter{Actor: "key_admin"}, []ledger.Audit{two}},
		{"an action", ledger.AuditFilter{Action: "key.update"}, []ledger.Audit{two, one}},
		{"an actor and an action", ledger.AuditFilter{Actor: "offline", Action: "key.update"}, []ledger.Audit{one}},
		{"a target since a time", ledger.AuditFilter{Target: old.ID, Since: one.At}, []ledger.Audit{rotate, three, two, one}},
		{"until a time", ledger.AuditFilter{Actor: "offline", Until: three.At}, []ledger.Audit{one}},
		{"between two times", ledger.AuditFilter{Since: two.At, Until: rotate.At}, []ledger.Audit{three, two}},
		{"a key with its changes", ledger.AuditFilter{Key: old.ID, Since: two.At}, []ledger.Audit{rotate, three, two}},
		{"a key that a rotation made", ledger.AuditFilter{Key: fresh.ID}, []ledger.Audit{rotate}},
		{"a key that only another action names", ledger.AuditFilter{Key: "key_other"}, nil},
		{"an unknown actor", ledger.AuditFilter{Actor: "\x00\xff"}, nil},
	} {
		if got := t.audited(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// successorOf makes the second key a successor of the first: it copies the lineage, the
// kind and the environment. It returns the changed key.
func successorOf(predecessor, successor *keys.Key) keys.Key {
	successor.Lineage, successor.Kind, successor.Environment = predecessor.Lineage, predecessor.Kind, predecessor.Environment
	return *successor
}

// auditPages writes three audit rows that match a filter, and other rows between them.
// It checks that pages of two rows list exactly the three matching rows.
func auditPages(t *test) {
	want := make([]string, 3)
	for i := range want {
		want[len(want)-1-i] = t.account("name-"+string(rune('a'+i)), 1, 0)
	}
	f := ledger.AuditFilter{Action: "account.create", Page: ledger.Page{Limit: 2}}
	first, next, err := t.Store.AuditLog(t.ctx, f)
	t.ok(err)
	if len(first) != 2 || next == "" {
		t.Fatalf("%d rows, and the cursor %q", len(first), next)
	}
	f.After = next
	rest, next, err := t.Store.AuditLog(t.ctx, f)
	t.ok(err)
	if len(rest) != 1 || next != "" {
		t.Fatalf("%d rows, and the cursor %q", len(rest), next)
	}
	for i, a := range append(first, rest...) {
		if a.Target != want[i] {
			t.Errorf("row %d is about %s, want %s", i, a.Target, want[i])
		}
	}
	f.After = "x"
	_, _, err = t.Store.AuditLog(t.ctx, f)
	t.want(err, ledger.ErrInvalid)
}

// auditOnce posts a top-up and a refund twice each. It checks that the second posting
// writes and reports no audit row.
func auditOnce(t *test) {
	payer, payee := t.account("payer", 10, 0), t.account("payee", 0, 0)
	o := order(payer, payee, 5)
	id := newID("chg_")
	_, err := t.Store.Reserve(t.ctx, id, o, ledger.Terms{})
	t.ok(err)
	_, _, err = t.Store.Capture(t.ctx, id, nil)
	t.ok(err)
	before := len(t.audits())
	for _, p := range []ledger.Transaction{
		{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: payer, Amount: 3, Reason: "top-up"},
		{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: id, Amount: 2, Reason: "half"},
	} {
		for range 2 {
			_, _, err := t.Store.PostTransaction(t.ctx, p, t.audit("post", p.ID))
			t.ok(err)
		}
	}
	if n := len(t.audits()) - before; n != 2 || len(t.Reports.all()) != before+2 {
		t.Errorf("%d audit rows of two postings, and %d reports of %d rows", n, len(t.Reports.all()), before+n)
	}
}
