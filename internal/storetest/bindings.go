package storetest

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func runBindings(t *testing.T, open func(t *testing.T) Harness) {
	each(t, open,
		named{"a binding is found by its handle hash until it ends", bindingExpires},
		named{"a later binding takes the place of an earlier one", bindingReplaced},
		named{"a binding survives a crash once Bind has returned", bindingCrash},
		named{"bindings that are made concurrently are all stored", bindingsAtOnce},
		named{"bindings of different servers are independent", bindingPerServer},
		named{"a payload that is too long is refused", bindingTooLong},
	)
}

func handleHash(text string) (m ledger.HandleHash) {
	sum := sha256.Sum256([]byte(text))
	copy(m[:], sum[:])
	return m
}

// binding returns a binding that ends after d. Its times are in whole microseconds, as
// stores keep them.
func (t *test) binding(text string, d time.Duration, payload string) ledger.Binding {
	return ledger.Binding{
		Server: "weather", HandleHash: handleHash(text), Account: "acct_" + text, Until: t.Now().Add(d).UTC().Truncate(time.Microsecond), Payload: []byte(payload),
	}
}

func (t *test) bound(want ledger.Binding) {
	t.Helper()
	got, err := t.Store.Binding(t.ctx, want.Server, want.HandleHash)
	t.ok(err)
	t.same(got, want)
}

func bindingExpires(t *test) {
	want := t.binding("a", time.Hour, "payload")
	t.ok(t.Store.Bind(t.ctx, want))
	t.bound(want)
	_, err := t.Store.Binding(t.ctx, "weather", handleHash("b"))
	t.want(err, ledger.ErrNotFound)
	t.Advance(59 * time.Minute)
	t.bound(want)
	t.Advance(time.Minute)
	_, err = t.Store.Binding(t.ctx, "weather", want.HandleHash)
	t.want(err, ledger.ErrNotFound)
}

func bindingReplaced(t *test) {
	t.ok(t.Store.Bind(t.ctx, t.binding("a", time.Hour, "first")))
	want := t.binding("a", 2*time.Hour, "second")
	t.ok(t.Store.Bind(t.ctx, want))
	t.bound(want)
	t.Advance(90 * time.Minute)
	t.bound(want)
}

func bindingCrash(t *test) {
	want := t.binding("a", time.Hour, "payload")
	t.ok(t.Store.Bind(t.ctx, want))
	t.Store = t.Crash()
	t.bound(want)
}

func bindingsAtOnce(t *test) {
	const n = 64
	all := make([]ledger.Binding, n)
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range all {
		all[i] = t.binding(fmt.Sprint(i), time.Hour, fmt.Sprint(i))
		group.Go(func() { errs[i] = t.Store.Bind(t.ctx, all[i]) })
	}
	group.Wait()
	for i := range all {
		t.ok(errs[i])
		t.bound(all[i])
	}
}

func bindingPerServer(t *test) {
	mine := t.binding("a", time.Hour, "mine")
	t.ok(t.Store.Bind(t.ctx, mine))
	other := t.binding("a", time.Minute, "other")
	other.Server = "maps"
	_, err := t.Store.Binding(t.ctx, other.Server, other.HandleHash)
	t.want(err, ledger.ErrNotFound)
	t.ok(t.Store.Bind(t.ctx, other))
	t.bound(mine)
	t.bound(other)
	t.Advance(time.Minute)
	t.bound(mine)
}

func bindingTooLong(t *test) {
	b := t.binding("a", time.Hour, string(make([]byte, ledger.MaxBinding+1)))
	t.want(t.Store.Bind(t.ctx, b), ledger.ErrInvalid)
	_, err := t.Store.Binding(t.ctx, "weather", b.HandleHash)
	t.want(err, ledger.ErrNotFound)
}
