package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/gate"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keycache"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/sqlitestore"
	"github.com/fareboxhq/farebox/internal/telemetry"

	"github.com/fareboxhq/farebox/internal/clock"
)

// reads is a store that counts the key lookups that reach it.
type reads struct {
	*sqlitestore.Store
	good, unknown atomic.Int64
}

func (r *reads) KeyByDigest(ctx context.Context, d keys.Digest) (*keys.Key, error) {
	k, err := r.Store.KeyByDigest(ctx, d)
	if errors.Is(err, keys.ErrUnknown) {
		r.unknown.Add(1)
	} else {
		r.good.Add(1)
	}
	return k, err
}

// TestFlood sends 20,000 distinct, well-formed but unknown tokens a second from the
// address of the good callers. The hit ratio of 10,000 good keys must drop by at most
// one percentage point, and unknown tokens may reach the store no more often than
// missRate allows.
func TestFlood(t *testing.T) {
	const good, rate, seconds = 2_000, 20_000, 3
	ctx := context.Background()
	dir := t.TempDir()
	if fast, err := os.MkdirTemp("/dev/shm", "flood-"); err == nil { // the speed of the disk must not matter
		dir = fast
		defer os.RemoveAll(fast)
	}
	store := new(reads)
	r, err := Open(ctx, Options{
		Open: func(ctx context.Context) (Store, error) {
			s, err := sqlitestore.Open(ctx, sqlitestore.Options{Path: filepath.Join(dir, "f.db")})
			store.Store = s
			return store, err
		},
		KeyFile: filepath.Join(dir, "key"), SealFile: filepath.Join(dir, "key") + ".seal", DebtDir: filepath.Join(dir, "refunds"), Cache: keycache.Options{Size: 2 * good, TTL: time.Hour}, // keys stay cached for an hour, because a slow machine needs minutes to make all of them
		Metrics: telemetry.New(new(telemetry.Process)), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
	}()
	account, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	caller := netip.MustParseAddr("192.0.2.1")
	digests := make([]keys.Digest, good)
	var makers sync.WaitGroup
	const parallel = 32 // so that the store can write many keys in one commit
	for first := range parallel {
		makers.Go(func() {
			for i := first; i < good; i += parallel {
				// Spread the digests over the whole range, like digests of secrets.
				binary.BigEndian.PutUint64(digests[i][:], uint64(i)*0x9E3779B97F4A7C15)
				id := ids.New("key_")
				err := store.CreateKey(ctx, keys.Key{
					ID: id, Lineage: id, Account: account.ID, Kind: keys.Agent, Environment: keys.Live, Digest: digests[i],
				}, ledger.Audit{Actor: "test", Action: "test"})
				if err == nil {
					_, err = r.Lookup(ctx, caller, digests[i])
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	makers.Wait()
	loaded := store.good.Load()
	unknownBefore := store.unknown.Load()

	var lookups, refused atomic.Int64
	var done atomic.Bool
	var callers sync.WaitGroup
	callers.Go(func() {
		for i := 0; !done.Load(); i++ {
			if _, err := r.Lookup(ctx, caller, digests[i%good]); err != nil {
				t.Errorf("a good key: %v", err)
				return
			}
			lookups.Add(1)
		}
	})
	tick := time.NewTicker(time.Second / 1000)
	defer tick.Stop()
	began := clock.Now()
	var junk keys.Digest
	for n := uint64(0); n < rate*seconds; {
		<-tick.C
		for due := uint64(clock.Since(began).Seconds() * rate); n < min(due, rate*seconds); n++ {
			binary.BigEndian.PutUint64(junk[:], n*0xD1B54A32D192ED03+1)
			junk[31] = 0xFF // different from all good digests
			switch _, err := r.Lookup(ctx, caller, junk); {
			case errors.Is(err, gate.ErrFlood):
				refused.Add(1)
			case !errors.Is(err, keys.ErrUnknown):
				t.Fatalf("junk: %v", err)
			}
		}
	}
	took := clock.Since(began)
	done.Store(true)
	callers.Wait()

	reached := store.unknown.Load() - unknownBefore
	if most := missRate.Burst + int64(float64(missRate.Requests)*took.Seconds()) + 1; reached > most {
		t.Errorf("%d unknown tokens reached the store, %d may", reached, most)
	}
	misses := float64(store.good.Load()-loaded) / float64(lookups.Load())
	if misses > 0.01 || lookups.Load() < good {
		t.Errorf("%.4f of %d lookups of good keys went to the store", misses, lookups.Load())
	}
	t.Logf("%d junk tokens in %v: %d reached the store; %d lookups of good keys, %.5f of them went there",
		rate*seconds, took.Round(time.Millisecond), reached, lookups.Load(), misses)
}
