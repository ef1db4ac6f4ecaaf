package storetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/fareboxhq/farebox/internal/archive"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Archiver is a store with a journal that can be archived.
type Archiver interface {
	Archived(ctx context.Context) (ledger.Archived, error)
	ArchivePart(ctx context.Context, q ledger.ArchiveQuery) (ledger.ArchivePart, error)
	Archive(ctx context.Context, p *ledger.ArchivePart, sum ledger.Sum, a ledger.Audit) error
}

func runArchive(t *testing.T, open func(t *testing.T) Harness) {
	if _, ok := open(t).Store.(Archiver); !ok {
		t.Skip("the store cannot be archived through this interface")
	}
	each(t, open, named{"what stays and what goes", archiveStays}, named{"a part that is not the next", archiveOrder})
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("twins ", seed), func(t *testing.T) { archiveTwins(t, open(t), open(t), seed) })
	}
}

const day = 24 * time.Hour

var archiveSigner = ledger.NewSigner([ed25519.SeedSize]byte{7})

// files is an archive that is kept in memory.
type files fstest.MapFS

// archive archives all transactions before the given time, in several parts. A part has
// at most the given number of transactions. archive returns the number of archived
// transactions.
func (t *test) archive(to files, before time.Time, most int) (moved int) {
	t.Helper()
	a, ok := t.Store.(Archiver)
	if !ok {
		t.Fatalf("a %T cannot be archived", t.Store)
	}
	for {
		p, err := a.ArchivePart(t.ctx, ledger.ArchiveQuery{Before: before, Most: most})
		t.ok(err)
		if len(p.Entries) == 0 {
			return moved
		}
		again, err := a.ArchivePart(t.ctx, ledger.ArchiveQuery{Last: p.Last()})
		t.ok(err)
		sum, err := archive.Sum(&again)
		t.ok(err)
		var file bytes.Buffer
		seal, err := archive.Write(&file, &p, archiveSigner)
		t.ok(err)
		if sum.String() != seal.Sum {
			t.Fatalf("the part is not the same when it is asked for again: %s and %s", sum, seal.Sum)
		}
		to[ledger.ArchiveName(p.Number)] = &fstest.MapFile{Data: file.Bytes()}
		t.ok(a.Archive(t.ctx, &again, sum, t.audit("ledger.archive", ledger.ArchiveName(p.Number))))
		if _, err := a.ArchivePart(t.ctx, ledger.ArchiveQuery{Last: p.Last()}); !errors.Is(err, ledger.ErrConflict) {
			t.Fatalf("the part can be asked for after it was archived: %v", err)
		}
		moved += len(p.Entries)
	}
}

// follows checks that the files are a complete archive of everything before the
// store's journal begins.
func (t *test) follows(in files) {
	t.Helper()
	v, err := t.Store.Verify(t.ctx, nil)
	t.ok(err)
	c := archive.Verify(fstest.MapFS(in), v.Archived.Files, ledger.ReceiptKeys{archiveSigner.Public()}, func(int64, int64) {})
	for _, d := range slices.Concat(v.Differences, c.Differences) {
		t.Errorf("the books do not balance: %s", d)
	}
	if c.Files != v.Archived.Files || c.Transactions != v.Archived.Transactions || c.Balances != v.Opening || c.Last.Sum != v.Archived.Sum.String() {
		t.Fatalf("the archive ends with %+v, and the journal begins with %+v", c, v)
	}
}

// archiveStays checks that archiving changes no balance and removes only old
// transactions. It also checks the errors for an archived charge: reading and refunding
// it, and charging again under its id, fail with ledger.ErrArchived. A reservation
// under its id fails with ledger.ErrSettled.
func archiveStays(t *test) {
	to := files{}
	payer, provider, operator := t.account("payer", 1000, 0), t.account("provider", 0, 0), t.account("operator", 0, 0)
	o := order(payer, provider, 100)
	o.Fee, o.FeeTo, o.Settler = 10, operator, "key_gateway"
	var old [3]string
	for i := range old {
		old[i] = newID("chg_")
		_, _, err := t.Store.Charge(t.ctx, old[i], o, ledger.Terms{}, nil)
		t.ok(err)
	}
	refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: old[0], Amount: 40, Reason: "early"}
	_, _, err := t.Store.PostTransaction(t.ctx, refund, t.audit("charge.refund", old[0]))
	t.ok(err)
	t.Advance(50 * day)
	late := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: old[0], Amount: 30, Reason: "late"}
	_, _, err = t.Store.PostTransaction(t.ctx, late, t.audit("charge.refund", old[0]))
	t.ok(err)
	young := newID("chg_")
	_, _, err = t.Store.Charge(t.ctx, young, o, ledger.Terms{}, nil)
	t.ok(err)
	if n := t.archive(to, t.Now().Add(-40*day), 4); n != 9 { // a top-up, three charges with their fees, and a refund with its fee
		t.Fatalf("%d transactions were archived, want 9", n)
	}
	check := func() {
		t.Helper()
		t.follows(to)
		t.holds(payer, 670, 0)
		if got := t.charges(ledger.ChargeFilter{Account: payer}); len(got) != 1 || got[0].ID != young {
			t.Fatalf("the charges are %+v, want the young one", got)
		}
		if got := t.charges(ledger.ChargeFilter{}); len(got) != 1 {
			t.Fatalf("%d charges, want the young one", len(got))
		}
		journal, _, err := t.Store.Journal(t.ctx, ledger.Page{})
		t.ok(err)
		if len(journal) != 4 || journal[0].Charge != old[0] || journal[1].Charge != old[0] {
			t.Fatalf("the journal is %+v, want the refund of the archived charge first", journal)
		}
		_, err = t.Store.ChargeByID(t.ctx, old[1])
		t.want(err, ledger.ErrArchived)
		t.want(err, ledger.ErrNotFound)
		_, _, err = t.Store.Charge(t.ctx, old[1], o, ledger.Terms{}, nil)
		t.want(err, ledger.ErrArchived)
		_, err = t.Store.Reserve(t.ctx, old[1], o, ledger.Terms{})
		t.want(err, ledger.ErrSettled)
		_, _, err = t.Store.PostTransaction(t.ctx, ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: old[1], Reason: "too late"}, t.audit("charge.refund", old[1]))
		t.want(err, ledger.ErrArchived)
		_, _, err = t.Store.PostTransaction(t.ctx, refund, t.audit("charge.refund", old[0]))
		t.want(err, ledger.ErrArchived)
	}
	check()
	t.Store = t.Crash()
	check()
	// When the late refund is archived, the store also drops the copy of the refunded
	// charge that it kept for the refund.
	t.Advance(50 * day)
	if n := t.archive(to, time.Time{}, 1000); n != 4 {
		t.Fatalf("%d transactions were archived, want 4", n)
	}
	t.follows(to)
	t.Store = t.Crash()
	t.follows(to)
	t.holds(payer, 670, 0)
	if _, _, err := t.Store.Charge(t.ctx, newID("chg_"), o, ledger.Terms{}, nil); err != nil {
		t.Fatalf("a charge after all was archived: %v", err)
	}
	t.balanced(2)
}

// archiveOrder checks that parts are archived once and in order, and never contain
// young transactions.
func archiveOrder(t *test) {
	a := t.Store.(Archiver)
	payer, provider := t.account("payer", 1000, 0), t.account("provider", 0, 0)
	for range 4 {
		_, _, err := t.Store.Charge(t.ctx, newID("chg_"), order(payer, provider, 100), ledger.Terms{}, nil)
		t.ok(err)
	}
	_, err := a.ArchivePart(t.ctx, ledger.ArchiveQuery{Before: t.Now().Add(-34 * day)})
	t.want(err, ledger.ErrInvalid)
	p, err := a.ArchivePart(t.ctx, ledger.ArchiveQuery{})
	t.ok(err)
	if len(p.Entries) != 0 {
		t.Fatalf("%d transactions of today are to be archived", len(p.Entries))
	}
	t.Advance(40 * day)
	p, err = a.ArchivePart(t.ctx, ledger.ArchiveQuery{Most: 2})
	t.ok(err)
	sum, err := archive.Sum(&p)
	t.ok(err)
	short := p
	short.Entries = p.Entries[1:]
	t.want(a.Archive(t.ctx, &short, sum, t.audit("ledger.archive", "1")), ledger.ErrConflict)
	t.ok(a.Archive(t.ctx, &p, sum, t.audit("ledger.archive", "1")))
	t.want(a.Archive(t.ctx, &p, sum, t.audit("ledger.archive", "1")), ledger.ErrConflict)
	done, err := a.Archived(t.ctx)
	t.ok(err)
	if done.Files != 1 || done.Transactions != 2 || done.Charges != 1 || done.Sum != sum {
		t.Fatalf("archived is %+v", done)
	}
	t.balanced(3)
	if n := len(t.audits()); n != 4 {
		t.Fatalf("%d audit rows, want two of accounts, a top-up and one archive", n)
	}
}

// twin is one of two stores that go through the same history.
type twin struct {
	*test
	archives files
}

// archiveTwins runs the same random history on two stores. Now and then it archives and
// crashes the first store. Balances, caps, free quotas and responses of the two stores
// must stay equal, and both books must balance.
func archiveTwins(t *testing.T, one, other Harness, seed uint64) {
	a := twin{&test{TB: t, Harness: one, ctx: t.Context()}, files{}}
	b := twin{&test{TB: t, Harness: other, ctx: t.Context()}, nil}
	random := rand.New(rand.NewPCG(seed, 2))
	accounts := make([]string, 4)
	for i := range accounts {
		accounts[i] = newID("acct_")
		credit := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: accounts[i], Amount: 3000, Reason: "top-up"}
		for _, x := range [...]twin{a, b} {
			x.ok(x.Store.CreateAccount(x.ctx, ledger.Account{ID: accounts[i], Name: fmt.Sprint("account-", i), CreatedAt: x.Now()}, x.audit("account.create", accounts[i])))
			_, _, err := x.Store.PostTransaction(x.ctx, credit, x.audit("credit", accounts[i]))
			x.ok(err)
		}
	}
	var charges []string
	for step := range 150 {
		switch n := random.IntN(20); {
		case n < 10:
			charges = append(charges, twinCharge(a, b, random, accounts))
		case n < 13 && len(charges) > 0:
			twinRefund(a, b, random, charges[random.IntN(len(charges))])
		case n < 17:
			by := time.Duration(random.IntN(14*24)) * time.Hour
			a.Advance(by)
			b.Advance(by)
		case n < 19:
			a.archive(a.archives, time.Time{}, 1+random.IntN(30))
			a.follows(a.archives)
		default:
			a.Store = a.Crash()
		}
		for _, id := range accounts {
			if x, y := a.balance(id), b.balance(id); x != y {
				t.Fatalf("step %d: account %s has %+v after archiving, and %+v without", step, id, x, y)
			}
		}
	}
	a.archive(a.archives, time.Time{}, 7)
	a.follows(a.archives)
	b.balanced(-1)
}

// twinCharge makes the same charge in both stores, with caps and sometimes with a free
// quota and an idempotency key. The outcomes in the two stores must be equal.
// twinCharge returns the id of the charge.
func twinCharge(a, b twin, random *rand.Rand, accounts []string) string {
	o := order(accounts[random.IntN(2)], accounts[2], ledger.Amount(1+random.IntN(200)))
	o.Lineage = fmt.Sprint("key_", o.Account[len(o.Account)-1:])
	if random.IntN(3) == 0 {
		o.Fee, o.FeeTo = o.Amount/7+1, accounts[3]
	}
	if random.IntN(2) == 0 {
		o.Settler = fmt.Sprint("key_gateway_", random.IntN(3))
	}
	terms := ledger.Terms{Key: ledger.Caps{Day: 300, Month: 900}, FreeCalls: int64(random.IntN(2))}
	if random.IntN(3) == 0 {
		terms.Idempotency.Key = fmt.Sprint("again-", random.IntN(4))
	}
	id := newID("chg_")
	var outcomes [2]string
	for i, x := range [...]twin{a, b} {
		r, err := x.Store.Reserve(x.ctx, id, o, terms)
		outcomes[i] = fmt.Sprint(r.Waived, r.First != nil, err)
		if err == nil && r.First == nil {
			_, _, err = x.Store.Capture(x.ctx, id, []byte("answer"))
			x.ok(err)
		}
	}
	if outcomes[0] != outcomes[1] {
		a.Fatalf("a call after archiving: %s, and without: %s", outcomes[0], outcomes[1])
	}
	return id
}

// twinRefund refunds the charge in both stores, unless the first one has archived it.
func twinRefund(a, b twin, random *rand.Rand, charge string) {
	p := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: charge, Amount: ledger.Amount(random.IntN(60)), Reason: "refund"}
	_, _, err := a.Store.PostTransaction(a.ctx, p, a.audit("charge.refund", charge))
	if errors.Is(err, ledger.ErrArchived) {
		return
	}
	_, _, other := b.Store.PostTransaction(b.ctx, p, b.audit("charge.refund", charge))
	if fmt.Sprint(err) != fmt.Sprint(other) {
		a.Fatalf("a refund after archiving: %v, and without: %v", err, other)
	}
}
