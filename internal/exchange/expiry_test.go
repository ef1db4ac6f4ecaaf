package exchange

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"

	"github.com/fareboxhq/farebox/internal/clock"
)

// streaming returns an exchange that serves a stream to the holder of the key, and the
// key store of that exchange.
func streaming(key *keys.Key) (*Exchange, *onlyKey) {
	store := &onlyKey{key}
	site := newSite()
	site.Gate = gate.New(gate.Policy{Server: "weather", Secrets: &keys.DefaultFormat}, gate.Deps{Keys: store, Now: clock.Now})
	x := New(site, new(fakeHost), nil, httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/mcp", nil))
	if key != nil {
		x.caller = callerOf(site.Gate, key)
	}
	return x, store
}

// TestStreamEndsWhenItsKeyExpires checks promise 6 of docs/promises.md. If a stream is
// open when its key expires, the stream ends at that instant, and not before. This
// holds even if the key's expiry was moved in the meantime. The stream of a key that
// does not expire stays open. The test runs on the clock of a synctest bubble.
func TestStreamEndsWhenItsKeyExpires(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		life, changed time.Duration // changed: the life that the key is given after an hour; 0 for no change
		lives         time.Duration // expected life of the stream; 0 if the stream stays open
	}{
		"at the end":           {life: 30 * day, lives: 30 * day},
		"given more time":      {life: 30 * day, changed: 90 * day, lives: 90 * day},
		"given less time":      {life: 30 * day, changed: 2 * time.Hour, lives: 2 * time.Hour},
		"expired meanwhile":    {life: 30 * day, changed: time.Minute, lives: time.Hour},
		"a key without an end": {},
		"an end that came":     {changed: 2 * time.Hour, lives: 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := clock.Now()
				end := func(life time.Duration) (at time.Time) {
					if life > 0 {
						at = began.Add(life)
					}
					return at
				}
				x, store := streaming(&keys.Key{Kind: keys.Agent, Environment: keys.Live, ExpiresAt: end(c.life)})
				changed := make(chan struct{}, 1)
				stream := gate.Watch{Changed: changed, Closing: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				var lived time.Duration
				go x.endWithCaller(ctx, func() { lived = clock.Since(began); cancel() }, stream, gate.ListenerTicket())
				time.Sleep(time.Hour) // advances the bubble's clock
				if c.changed > 0 {
					now := *store.key
					now.ExpiresAt = end(c.changed)
					store.key = &now
					changed <- struct{}{}
				}
				time.Sleep(365 * day)
				synctest.Wait()
				if lived != c.lives || (ctx.Err() != nil) != (c.lives > 0) {
					t.Errorf("the stream ended after %v, %v; want %v", lived, ctx.Err(), c.lives)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// briefly is an Authenticator of one caller that must be checked again each minute. The field
// left counts the checks that succeed.
type briefly struct{ left int }

func (b *briefly) Authenticate(context.Context, netip.Addr, string) (gate.Caller, error) {
	return gate.Caller{Subject: "x", Environment: keys.Live, Connect: true, FreshUntil: clock.Now().Add(time.Minute)}, nil
}

// Again implements gate.Rechecker.
func (b *briefly) Again(ctx context.Context, client netip.Addr, _ *gate.Caller) (gate.Caller, error) {
	if b.left--; b.left < 0 {
		return gate.Caller{}, keys.ErrUnknown
	}
	return b.Authenticate(ctx, client, "")
}

// TestStreamIsCheckedAgain checks that the stream of a caller that is found valid for a time
// only is checked at the end of each such time, and ends when the caller is refused.
func TestStreamIsCheckedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _ := streaming(nil)
		x.site.Gate = gate.New(gate.Policy{Server: "weather", Secrets: &keys.DefaultFormat}, gate.Deps{Authenticators: []gate.Authenticator{&briefly{left: 3}}, Now: clock.Now})
		caller, refusal := x.site.Gate.Redeem(t.Context(), netip.Addr{}, "token")
		if refusal != nil {
			t.Fatal(refusal)
		}
		x.caller = caller
		began := clock.Now()
		ctx, cancel := context.WithCancel(t.Context())
		x.endWithCaller(ctx, cancel, gate.Watch{Closing: make(chan struct{})}, gate.ListenerTicket())
		if lived := clock.Since(began); lived != 4*time.Minute {
			t.Errorf("the stream ended after %v", lived)
		}
	})
}

// TestStreamEndsInDoubt checks promise 8 of docs/promises.md. If the store fails when
// the key of an open stream must be looked up again, the stream ends.
func TestStreamEndsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, store := streaming(&keys.Key{Kind: keys.Agent, Environment: keys.Live})
		store.key = nil
		changed := make(chan struct{}, 1)
		changed <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		x.endWithCaller(ctx, cancel, gate.Watch{Changed: changed, Closing: make(chan struct{})}, gate.ListenerTicket())
		if ctx.Err() == nil {
			t.Error("the stream lives on")
		}
	})
}

// TestExpiryHeader checks that responses have X-Farebox-Key-Expires, as an HTTP date,
// in the last 14 days of a key and at no other time. An X-Farebox-Key-Expires header
// from the upstream never passes.
func TestExpiryHeader(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		end := clock.Now().Add(183 * day)
		told := func(key *keys.Key) string {
			x, _ := streaming(key)
			h := http.Header{"X-Farebox-Key-Expires": {"never"}}
			x.head(h)
			return h.Get("X-Farebox-Key-Expires")
		}
		for left := 183 * day; left > -3*day; left -= day / 4 {
			want := ""
			if left < 14*day {
				want = end.UTC().Format(http.TimeFormat)
			}
			if got := told(&keys.Key{ExpiresAt: end}); got != want {
				t.Errorf("%v before the end: %q; want %q", left, got, want)
			}
			if got := told(&keys.Key{}) + told(nil); got != "" {
				t.Errorf("without an end, and without a key: %q", got)
			}
			time.Sleep(day / 4) // advances the bubble's clock
		}
	})
}
