package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"
)

// closing is a store that records whether it was closed.
type closing struct {
	*sqlitestore.Store
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	return c.Store.Close()
}

func open(t *testing.T, dir string) (*Runtime, *closing) {
	t.Helper()
	store := new(closing)
	r, err := Open(context.Background(), Options{
		Open: func(ctx context.Context) (Store, error) {
			s, err := sqlitestore.Open(ctx, sqlitestore.Options{Path: filepath.Join(dir, "f.db")})
			store.Store = s
			return store, err
		},
		KeyFile: filepath.Join(dir, "f.db.receipt-key"), SealFile: filepath.Join(dir, "f.db.receipt-key") + ".seal",
		DebtDir: filepath.Join(dir, "f.db.refunds"),
		Cache:   keycache.Options{},
		Metrics: telemetry.New(new(telemetry.Process)),
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, store
}

// TestDestructWaitsForLeases checks that the store stays open while a call holds a
// reference, and that no call can begin after closing has begun.
func TestDestructWaitsForLeases(t *testing.T) {
	r, store := open(t, t.TempDir())
	if err := r.Acquire(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- r.Destruct() }()
	for r.Acquire() == nil { // wait until closing has begun
		r.Release()
	}
	if store.closed.Load() {
		t.Error("the store was closed under a call")
	}
	if _, err := r.Service().CreateAccount(context.Background(), admin.Actor{}, admin.NewAccount{Name: "alice"}); err != nil {
		t.Errorf("a call in flight could not use the store: %v", err)
	}
	r.Release()
	if err := <-done; err != nil || !store.closed.Load() {
		t.Errorf("closed %v, %v", store.closed.Load(), err)
	}
	if err := r.Acquire(); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestDrainIsBounded checks that drain gives up at its deadline.
func TestDrainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRefs()
		if err := l.acquire(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := l.drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		l.release() // a release after the deadline is harmless
	})
}

// openWithKey opens a runtime on a store with one account, which has one key. The
// runtime ends with the test.
func openWithKey(t *testing.T) (r *Runtime, key keys.Key, secret string) {
	t.Helper()
	r, _ = open(t, t.TempDir())
	t.Cleanup(func() {
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	if _, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	key, secret, err := r.Service().CreateKey(ctx, admin.Actor{}, admin.NewKey{Account: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	return r, key, secret
}

// TestDeleteReachesTheCache checks that a deleted key is refused from the first
// lookup after its deletion, even if it was in the cache.
func TestDeleteReachesTheCache(t *testing.T) {
	ctx := context.Background()
	r, key, secret := openWithKey(t)
	digest, err := keys.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if k, err := r.Lookup(ctx, netip.Addr{}, digest); err != nil || !k.DeletedAt.IsZero() {
			t.Fatalf("%+v, %v", k, err)
		}
	}
	if _, err := r.Service().DeleteKey(ctx, admin.Actor{}, key.ID); err != nil {
		t.Fatal(err)
	}
	if k, err := r.Lookup(ctx, netip.Addr{}, digest); err != nil || k.DeletedAt.IsZero() {
		t.Errorf("a deleted key lives on in the cache: %v", err)
	}
}

// TestUseIsShownAtOnce checks that the time of a key's last use is shown even before
// the time has been written to the store.
func TestUseIsShownAtOnce(t *testing.T) {
	ctx := context.Background()
	r, key, _ := openWithKey(t)
	began := clock.Now()
	r.Used(&key)
	again, err := r.Service().Key(ctx, key.ID)
	if err != nil || again.LastUsedAt.Before(began) {
		t.Errorf("last used at %s, %v", again.LastUsedAt, err)
	}
	list, err := r.Service().Keys(ctx, admin.KeyQuery{})
	if err != nil || len(list.Items) != 1 || list.Items[0].LastUsedAt == nil || list.Items[0].LastUsedAt.Before(began) {
		t.Errorf("listed as %+v, %v", list.Items, err)
	}
}

// TestReceiptKeyStays checks that the receipt key is created only once, and is readable
// only by its owner. The key is the same after a restart, so old receipts stay valid.
func TestReceiptKeyStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "receipt-key")
	first, err := LoadSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	jws := first.Sign(ledger.Receipt{Charge: "chg_1"})
	again, err := LoadSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.VerifyReceipt(jws, again.Public()); err != nil {
		t.Error(err)
	}
	for words, spoil := range map[string]func() error{
		"read by others": func() error { return os.Chmod(file, 0o640) },
		"damaged":        func() error { return errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte("zz"), 0o600)) },
	} {
		backup, _ := os.ReadFile(file)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSigner(file); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("want %q, got %v", words, err)
		}
		if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, backup, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLastUseIsNoted checks that the last use of a key is written when its batch
// ends, and at the latest when the store closes. A lookup alone is not a use, because
// the key may be refused.
func TestLastUseIsNoted(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	r, _ := open(t, dir)
	if _, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	used, secret, err := r.Service().CreateKey(ctx, admin.Actor{}, admin.NewKey{Account: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	idle, refused, err := r.Service().CreateKey(ctx, admin.Actor{}, admin.NewKey{Account: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k, err := r.Lookup(ctx, netip.Addr{}, keys.DigestOf(secret))
		if err != nil {
			t.Fatal(err)
		}
		r.Used(k)
		if _, err := r.Lookup(ctx, netip.Addr{}, keys.DigestOf(refused)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Destruct(); err != nil {
		t.Fatal(err)
	}
	r, _ = open(t, dir)
	defer func() {
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
	}()
	if k, err := r.Service().Key(ctx, used.ID); err != nil || k.LastUsedAt.IsZero() {
		t.Errorf("the use was not noted: %v", err)
	}
	if k, err := r.Service().Key(ctx, idle.ID); err != nil || !k.LastUsedAt.IsZero() {
		t.Errorf("a key that was not used has a last use: %v, %v", k.LastUsedAt, err)
	}
}
