package storetest

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func runKeys(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"a stored key is read back as it was", keyRoundTrip},
		named{"an id and a digest are used once", keyUnique},
		named{"a key belongs to an account that exists", keyAccount},
		named{"a change happens whole and with its audit row", keyUpdate},
		named{"a change that cannot be audited does not happen", keyAudit},
		named{"the identity of a key cannot change", keyIdentity},
		named{"rotation replaces a key in one step", keyReplace},
		named{"keys are listed in parts", keyPages},
		named{"keys are listed by each field of the filter", keyFilters},
		named{"keys are sorted by creation and by name, both ways", keySorts},
		named{"only keys that can be used are listed as expiring", keyExpiring},
		named{"expiring keys are counted as they are listed", keyCounts},
		named{"the last use of a key never moves back", keyTouch},
		named{"concurrent changes of a key are not lost", keyConcurrent},
		named{"keys survive a crash", keyCrash},
		named{"no lookup after a deletion returned sees the key alive", keyDeletedMeansDead},
	)
}

// newKey returns a key with every field set.
func (t *test) newKey(account string) keys.Key {
	secret := keys.Mint(keys.Agent, keys.Live)
	id := newID("key_")
	now := t.Now().UTC().Truncate(time.Microsecond)
	return keys.Key{
		ID: id, Account: account, Lineage: id, Kind: keys.Agent, Environment: keys.Live, Name: "ci \x00 \"ö\"",
		Hint: keys.Hint(secret), Digest: keys.DigestOf(secret), Scopes: []string{"billing.read", "x"},
		Servers: []string{"weather"}, Limits: everyLimit(), CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

// everyLimit returns limits with every field set.
func everyLimit() *keys.Limits {
	return &keys.Limits{Call: 1, Day: 2, Month: math.MaxInt64, Rate: keys.Rate{Requests: 60, Per: time.Minute, Burst: 100}}
}

func (t *test) createKey(k keys.Key) {
	t.Helper()
	t.ok(t.Store.CreateKey(t.ctx, k, t.audit("key.create", k.ID)))
}

func (t *test) same(got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func keyRoundTrip(t *test) {
	account := t.account("acme", 0, 0)
	full := t.newKey(account)
	empty := t.newKey(account)
	empty.Name, empty.Scopes, empty.Servers, empty.Limits, empty.ExpiresAt = "", nil, nil, nil, time.Time{}
	empty.Kind, empty.Environment = keys.Personal, keys.Test
	for _, k := range []keys.Key{full, empty} {
		t.createKey(k)
		got, err := t.Store.Key(t.ctx, k.ID)
		t.ok(err)
		t.same(got, k)
		byDigest, err := t.Store.KeyByDigest(t.ctx, k.Digest)
		t.ok(err)
		t.same(*byDigest, k)
	}
	_, err := t.Store.KeyByDigest(t.ctx, keys.DigestOf("no such"))
	t.want(err, keys.ErrUnknown)
	_, err = t.Store.Key(t.ctx, "key_none")
	t.want(err, ledger.ErrNotFound)
}

func keyUnique(t *test) {
	account := t.account("acme", 0, 0)
	first := t.newKey(account)
	t.createKey(first)
	sameID, sameDigest := t.newKey(account), t.newKey(account)
	sameID.ID, sameDigest.Digest = first.ID, first.Digest
	before := len(t.audits())
	t.want(t.Store.CreateKey(t.ctx, sameID, t.audit("key.create", "")), ledger.ErrConflict)
	t.want(t.Store.CreateKey(t.ctx, sameDigest, t.audit("key.create", "")), ledger.ErrConflict)
	got, err := t.Store.Key(t.ctx, first.ID)
	t.ok(err)
	t.same(got, first)
	if after := len(t.audits()); after != before {
		t.Fatalf("%d audit rows of keys that were not made", after-before)
	}
}

func keyAccount(t *test) {
	k := t.newKey(newID("acct_"))
	t.want(t.Store.CreateKey(t.ctx, k, t.audit("key.create", k.ID)), ledger.ErrNotFound)
	k.Account = ledger.Funding
	t.want(t.Store.CreateKey(t.ctx, k, t.audit("key.create", k.ID)), ledger.ErrNotFound)
	_, err := t.Store.KeyByDigest(t.ctx, k.Digest)
	t.want(err, keys.ErrUnknown)
}

func keyUpdate(t *test) {
	k := t.newKey(t.account("acme", 0, 0))
	t.createKey(k)
	disabled := t.Now().UTC().Truncate(time.Microsecond)
	row := t.audit("key.update", k.ID)
	row.At = disabled
	got, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error {
		k.Name, k.Scopes, k.Servers, k.DisabledAt = "new", []string{"y"}, nil, disabled
		k.Limits = &keys.Limits{Month: 7}
		return nil
	}, row)
	t.ok(err)
	k.Name, k.Scopes, k.Servers, k.DisabledAt = "new", []string{"y"}, nil, disabled
	k.Limits = &keys.Limits{Month: 7}
	t.same(got, k)
	read, err := t.Store.KeyByDigest(t.ctx, k.Digest)
	t.ok(err)
	t.same(*read, k)
	t.same(t.audits()[0], row)
	count, why := len(t.audits()), errors.New("why not")
	_, err = t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Limits = &keys.Limits{Day: -1}; return nil }, t.audit("key.update", k.ID))
	t.refused(err, "a limit below zero")
	_, err = t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Limits = &keys.Limits{Rate: keys.Rate{Requests: 1}}; return nil }, t.audit("key.update", k.ID))
	t.refused(err, "a rate without a time")
	_, err = t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Name = "never"; return why }, t.audit("key.update", k.ID))
	if !errors.Is(err, why) {
		t.Fatalf("error is %v, want the one of the change", err)
	}
	read, err = t.Store.KeyByDigest(t.ctx, k.Digest)
	t.ok(err)
	t.same(*read, k)
	if len(t.audits()) != count {
		t.Fatalf("a change that was given up left an audit row")
	}
	_, err = t.Store.UpdateKey(t.ctx, "key_none", func(*keys.Key) error { return nil }, t.audit("key.update", ""))
	t.want(err, ledger.ErrNotFound)
}

func keyAudit(t *test) {
	account := t.account("acme", 10*ledger.Unit, 0)
	k, other := t.newKey(account), t.newKey(account)
	t.createKey(k)
	repair := t.BreakAudit()
	_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Name = "never"; return nil }, t.audit("key.update", k.ID))
	t.want(err, ledger.ErrUnavailable)
	t.want(t.Store.CreateKey(t.ctx, other, t.audit("key.create", other.ID)), ledger.ErrUnavailable)
	successor := t.newKey(account)
	successor.Lineage = k.Lineage
	_, err = t.Store.ReplaceKey(t.ctx, k.ID, func(k *keys.Key) error { k.Name = "never"; return nil }, successor, t.audit("key.rotate", k.ID))
	t.want(err, ledger.ErrUnavailable)
	top := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindCredit, Creditor: account, Amount: 5, Reason: "r"}
	_, _, err = t.Store.PostTransaction(t.ctx, top, t.audit("credit", account))
	t.want(err, ledger.ErrUnavailable)
	late := ledger.Account{ID: newID("acct_"), Name: "late"}
	t.want(t.Store.CreateAccount(t.ctx, late, t.audit("account.create", late.ID)), ledger.ErrUnavailable)
	repair()

	read, err := t.Store.Key(t.ctx, k.ID)
	t.ok(err)
	t.same(read, k)
	for _, digest := range []keys.Digest{other.Digest, successor.Digest} {
		_, err = t.Store.KeyByDigest(t.ctx, digest)
		t.want(err, keys.ErrUnknown)
	}
	_, err = t.Store.Account(t.ctx, "late")
	t.want(err, ledger.ErrNotFound)
	t.holds(account, 10*ledger.Unit, 0)
	t.balanced(1)
	t.createKey(other)
	_, _, err = t.Store.PostTransaction(t.ctx, top, t.audit("credit", account))
	t.ok(err)
	t.holds(account, 10*ledger.Unit+5, 0)
}

func keyIdentity(t *test) {
	k := t.newKey(t.account("acme", 0, 0))
	other := t.account("other", 0, 0)
	t.createKey(k)
	for name, change := range map[string]func(*keys.Key){
		"id":      func(k *keys.Key) { k.ID = "key_x" },
		"digest":  func(k *keys.Key) { k.Digest[0]++ },
		"account": func(k *keys.Key) { k.Account = other },
		"lineage": func(k *keys.Key) { k.Lineage = "key_x" },
		"kind":    func(k *keys.Key) { k.Kind = keys.Admin },
		"env":     func(k *keys.Key) { k.Environment = keys.Test },
	} {
		_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { change(k); return nil }, t.audit("key.update", k.ID))
		t.refused(err, "a change of "+name)
	}
	_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.DeletedAt = t.Now(); return nil }, t.audit("key.delete", k.ID))
	t.ok(err)
	_, err = t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.DeletedAt = time.Time{}; return nil }, t.audit("key.update", k.ID))
	t.refused(err, "reviving a deleted key")
	read, err := t.Store.KeyByDigest(t.ctx, k.Digest)
	t.ok(err)
	if err := read.Check(t.Now(), keys.Use{}); !errors.Is(err, keys.ErrDeleted) {
		t.Fatalf("the deleted key is %v", err)
	}
}

func keyReplace(t *test) {
	k := t.newKey(t.account("acme", 0, 0))
	t.createKey(k)
	successor := t.newKey(k.Account)
	successor.Lineage = k.Lineage
	expires := t.Now().UTC().Truncate(time.Microsecond).Add(time.Minute)
	shorten := func(old *keys.Key) error { old.ExpiresAt = expires; return nil }

	stranger := t.newKey(k.Account)
	_, err := t.Store.ReplaceKey(t.ctx, k.ID, shorten, stranger, t.audit("key.rotate", k.ID))
	t.refused(err, "a successor of another lineage")
	taken := successor
	taken.Digest = k.Digest
	_, err = t.Store.ReplaceKey(t.ctx, k.ID, shorten, taken, t.audit("key.rotate", k.ID))
	t.want(err, ledger.ErrConflict)
	read, err := t.Store.Key(t.ctx, k.ID)
	t.ok(err)
	t.same(read, k)

	old, err := t.Store.ReplaceKey(t.ctx, k.ID, shorten, successor, t.audit("key.rotate", k.ID))
	t.ok(err)
	k.ExpiresAt = expires
	t.same(old, k)
	for _, want := range []keys.Key{k, successor} {
		got, err := t.Store.KeyByDigest(t.ctx, want.Digest)
		t.ok(err)
		t.same(*got, want)
	}
}

func keyPages(t *test) {
	mine, other := t.account("acme", 0, 0), t.account("other", 0, 0)
	var all, ofMine []string
	for i := range 7 {
		account := mine
		if i%3 == 2 {
			account = other
		}
		k := t.newKey(account)
		t.createKey(k)
		all = append(all, k.ID)
		if account == mine {
			ofMine = append(ofMine, k.ID)
		}
	}
	for account, want := range map[string][]string{"": all, mine: ofMine} {
		var got []string
		for _, k := range t.keys(ledger.KeyFilter{Page: ledger.Page{Limit: 2}, Account: account}) {
			got = append(got, k.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("listed %v, want %v", got, want)
		}
	}
	_, _, err := t.Store.Keys(t.ctx, ledger.KeyFilter{Page: ledger.Page{After: "x'y"}})
	t.refused(err, "a cursor that is none")
}

func keyConcurrent(t *test) {
	k := t.newKey(t.account("acme", 0, 0))
	k.Scopes = nil
	t.createKey(k)
	const writers = 16
	var group sync.WaitGroup
	failed := make(chan error, writers)
	for i := range writers {
		group.Go(func() {
			_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error {
				k.Scopes = append(k.Scopes, string(rune('a'+i)))
				return nil
			}, t.audit("key.update", k.ID))
			failed <- err
		})
	}
	group.Wait()
	for range writers {
		t.ok(<-failed)
	}
	got, err := t.Store.Key(t.ctx, k.ID)
	t.ok(err)
	if len(got.Scopes) != writers {
		t.Fatalf("%d of %d concurrent changes are left", len(got.Scopes), writers)
	}
}

func keyCrash(t *test) {
	k := t.newKey(t.account("acme", 0, 0))
	t.createKey(k)
	_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Name = "after"; return nil }, t.audit("key.update", k.ID))
	t.ok(err)
	k.Name = "after"
	count := len(t.audits())
	t.Store = t.Crash()
	got, err := t.Store.KeyByDigest(t.ctx, k.Digest)
	t.ok(err)
	t.same(*got, k)
	if n := len(t.audits()); n != count {
		t.Fatalf("%d audit rows after a crash, want %d", n, count)
	}
}

// keyDeletedMeansDead checks promise 6 of docs/promises.md at the store, with lookups
// that race with deletions: a lookup that begins after a deletion has returned never
// returns a usable key.
func keyDeletedMeansDead(t *test) {
	account := t.account("acme", 0, 0)
	const rounds, readers = 8, 4
	for range rounds {
		k := t.newKey(account)
		t.createKey(k)
		gone := make(chan struct{})
		var group sync.WaitGroup
		alive := make(chan error, readers)
		for range readers {
			group.Go(func() {
				for n := 0; n < 20; {
					late := false
					select {
					case <-gone:
						late = true
						n++
					default:
					}
					got, err := t.Store.KeyByDigest(t.ctx, k.Digest)
					if err == nil && late && got.Check(t.Now(), keys.Use{}) == nil {
						err = errors.New("a lookup that began after the deletion returned accepted the key")
					}
					if err != nil {
						alive <- err
						return
					}
				}
				alive <- nil
			})
		}
		_, err := t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.DeletedAt = t.Now(); return nil }, t.audit("key.delete", k.ID))
		close(gone)
		group.Wait()
		t.ok(err)
		for range readers {
			t.ok(<-alive)
		}
	}
}

func keyTouch(t *test) {
	a := t.account("alice", 0, 0)
	k, other := t.newKey(a), t.newKey(a)
	t.createKey(k)
	t.createKey(other)
	first := t.Now().UTC().Truncate(time.Microsecond)
	for _, at := range []time.Time{first, first.Add(time.Minute), first.Add(-time.Minute)} {
		t.ok(t.Store.TouchKeys(t.ctx, map[string]time.Time{k.ID: at, "key_none": at}))
	}
	got, err := t.Store.Key(t.ctx, k.ID)
	t.ok(err)
	k.LastUsedAt = first.Add(time.Minute)
	t.same(got, k)
	got, err = t.Store.UpdateKey(t.ctx, k.ID, func(k *keys.Key) error { k.Name = "x"; return nil }, t.audit("key.update", k.ID))
	t.ok(err)
	if !got.LastUsedAt.Equal(k.LastUsedAt) {
		t.Errorf("an update moved the last use to %v", got.LastUsedAt)
	}
	got, err = t.Store.Key(t.ctx, other.ID)
	t.ok(err)
	t.same(got, other)
}
