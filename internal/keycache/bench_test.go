package keycache

import (
	"context"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// BenchmarkCachedLookup measures a hit: a lookup that the cache answers from memory.
// The target is at most 300 ns, without I/O or an allocation. The benchmark
// nevertheless reports a few bytes per operation. They come from ristretto: for every
// 64 reads it allocates a record of 512 bytes to learn which entries are popular.
func BenchmarkCachedLookup(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"1 key", 1}, {"100000 keys", 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			cache, digests := warm(b, c.keys)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, source, err := cache.Lookup(context.Background(), digests[i], nil); err != nil || source != SourceCache {
					b.Fatalf("source %v, error %v", source, err)
				}
				if i++; i == len(digests) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkCachedLookupParallel measures hits from all processors at once.
func BenchmarkCachedLookupParallel(b *testing.B) {
	cache, digests := warm(b, 1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, _, err := cache.Lookup(context.Background(), digests[i%len(digests)], nil); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkSecretToDecision measures the full cost of a request with a cached
// key: parsing and hashing its secret, looking the key up and checking it. The
// target is 400 ns without an allocation, for an agent key and for an access token.
func BenchmarkSecretToDecision(b *testing.B) {
	for _, kind := range []keys.Kind{keys.Agent, keys.Access} {
		b.Run(kind.String(), func(b *testing.B) {
			decide := secretToDecision(b, kind)
			b.ReportAllocs()
			for b.Loop() {
				decide()
			}
		})
	}
}

// BenchmarkRevokeAll measures RevokeAll, the reaction to a lost revocation stream.
func BenchmarkRevokeAll(b *testing.B) {
	cache, _ := warm(b, 1)
	for b.Loop() {
		cache.RevokeAll()
	}
}

// warm returns a cache that holds the keys of the digests.
func warm(tb testing.TB, n int) (*Cache, []keys.Digest) {
	tb.Helper()
	origin := newOrigin()
	cache := newCache(tb, origin, Options{TTL: time.Hour})
	digests := make([]keys.Digest, n)
	for i := range digests {
		digests[i] = origin.add(realistic(i))
		mustLookup(tb, cache, digests[i])
	}
	return cache, digests
}

// secretToDecision returns a function that parses a secret, looks its key up in the
// cache and checks the key. Successive calls use a thousand secrets in turn, because
// the branch predictor would learn the digits of a single secret and make the function
// too fast.
func secretToDecision(tb testing.TB, kind keys.Kind) func() {
	tb.Helper()
	origin := newOrigin()
	cache := newCache(tb, origin, Options{TTL: time.Hour})
	secrets := make([]string, 1000)
	for i := range secrets {
		secrets[i] = keys.Mint(kind, keys.Live)
		key := realistic(i)
		key.Kind = kind
		key.Digest = keys.DigestOf(secrets[i])
		mustLookup(tb, cache, origin.add(key))
	}

	ctx, next := context.Background(), 0
	use := keys.Use{Scope: keys.ScopeConnect, Server: "weather", Environments: []keys.Environment{keys.Live}}
	return func() {
		if next++; next == len(secrets) {
			next = 0
		}
		digest, err := keys.Parse(secrets[next])
		if err != nil {
			tb.Fatal(err)
		}
		key, _, err := cache.Lookup(ctx, digest, nil)
		if err != nil {
			tb.Fatal(err)
		}
		if err := key.Check(clock.Now(), use); err != nil {
			tb.Fatal(err)
		}
	}
}
