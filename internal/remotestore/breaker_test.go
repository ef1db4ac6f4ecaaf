package remotestore

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestBreakerOpensAndCloses checks that calls fail at once and without a request
// while the platform is down, and that one probe at a time detects the platform's
// return.
func TestBreakerOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, log := faked(t, cut)
		for range 2 {
			_, err := s.KeyByDigest(ctx(t), keys.Digest{1})
			unavailable(t, "down", err)
		}
		asked := f.count()
		if asked != openAfter {
			t.Errorf("it opened after %d failures, want %d", asked, openAfter)
		}
		unavailable(t, "health", s.Healthy())
		began := clock.Now()
		var callers sync.WaitGroup
		for range 32 {
			callers.Go(func() {
				_, _, err := s.Capture(ctx(t), newID("chg_"), nil)
				unavailable(t, "at once", err)
				if !strings.Contains(err.Error(), errCut.Error()) {
					t.Errorf("it does not say why: %v", err)
				}
			})
		}
		callers.Wait()
		if f.count() != asked || clock.Since(began) != 0 {
			t.Errorf("asked %d times in %s", f.count()-asked, clock.Since(began))
		}

		time.Sleep(probeAfter + time.Millisecond)
		f.plays(hangs)
		for range 32 { // the breaker lets one of the 32 requests through
			callers.Go(func() { unavailable(t, "probe", s.Release(ctx(t), newID("chg_"))) })
		}
		callers.Wait()
		if f.count() != 1 {
			t.Errorf("%d probes", f.count())
		}
		unavailable(t, "health after a probe that failed", s.Healthy())

		time.Sleep(probeAfter + time.Millisecond)
		f.plays(refuses(ledger.ErrNotFound)) // a refusal shows that the platform is up
		if err := s.Release(ctx(t), newID("chg_")); !errors.Is(err, ledger.ErrNotFound) || s.Healthy() != nil {
			t.Errorf("%v, %v", err, s.Healthy())
		}
		if text := log.String(); strings.Count(text, "cannot be reached: calls") != 1 || strings.Count(text, "can be reached again") != 1 {
			t.Errorf("logged %s", text)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusalsDoNotOpenTheBreaker checks that no number of refusals opens the
// breaker.
func TestRefusalsDoNotOpenTheBreaker(t *testing.T) {
	s, f, _ := faked(t, refuses(&ledger.InsufficientError{Needed: 1}))
	for range 3 * openAfter {
		if _, err := s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{}); !errors.Is(err, ledger.ErrInsufficient) {
			t.Fatal(err)
		}
	}
	if err := s.Healthy(); err != nil || f.count() != 3*openAfter {
		t.Errorf("%v after %d", err, f.count())
	}
}

// TestDeadlines checks that a caller waits for a slow platform no longer than the
// deadline: two seconds, or ten for durable changes.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := faked(t, hangs)
		for want, ask := range map[time.Duration]func() error{
			defaultTimeout:       func() error { _, err := s.KeyByDigest(ctx(t), keys.Digest{1}); return err },
			defaultSettleTimeout: func() error { _, _, err := s.Capture(ctx(t), newID("chg_"), nil); return err },
		} {
			began := clock.Now()
			unavailable(t, "slow", ask())
			if took := clock.Since(began); took != want {
				t.Errorf("it took %s, want %s", took, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOwnKeyRefused checks that a platform's refusal of the gateway's own key is logged
// once. Calls must then fail as unavailable, not as refused, and must work again as
// soon as the platform accepts the key.
func TestOwnKeyRefused(t *testing.T) {
	for _, p := range []*wire.Problem{
		{Status: 401, Code: wire.TokenInvalid, Title: "Invalid key"},
		{Status: 401, Code: wire.TokenExpired, Title: "Key expired"},
		{Status: 403, Code: wire.KindWrong, Title: "The key is of the wrong kind"},
	} {
		s, f, log := faked(t, tells(p))
		for range 10 {
			_, err := s.KeyByDigest(ctx(t), keys.Digest{1})
			unavailable(t, "lookup", err)
			if errors.Is(err, keys.ErrUnknown) {
				t.Errorf("%s: an agent's key is unknown by it", p.Code)
			}
		}
		unavailable(t, "health", s.Healthy())
		if n := strings.Count(log.String(), "refuses this gateway's key"); n != 1 {
			t.Errorf("%s: told %d times: %s", p.Code, n, log)
		}
		f.plays(done)
		if err := s.TouchKeys(ctx(t), map[string]time.Time{"key_1": clock.Now()}); err != nil || s.Healthy() != nil {
			t.Errorf("%s: %v, %v", p.Code, err, s.Healthy())
		}
	}
	s, _, log := faked(t, tells(&wire.Problem{Status: 401, Code: wire.TokenInvalid, Title: "Invalid agent token", Field: "body.key"}))
	_, err := s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{})
	unavailable(t, "an agent's key", err)
	if strings.Contains(log.String(), "refuses") || s.Healthy() != nil {
		t.Errorf("an agent's key is taken for the gateway's: %s", log)
	}
}

// TestCloseEndsEverything checks that Close aborts running calls, and that later
// calls fail.
func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faked(t, hangs)
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				_, _, err := s.Capture(ctx(t), newID("chg_"), nil)
				unavailable(t, "under way", err)
			})
		}
		synctest.Wait()
		began := clock.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		callers.Wait()
		before := f.count()
		_, err := s.KeyByDigest(ctx(t), keys.Digest{1})
		unavailable(t, "later", err)
		unavailable(t, "health", s.Healthy())
		if f.count() != before || clock.Since(began) != 0 {
			t.Errorf("asked %d times, %s", f.count()-before, clock.Since(began))
		}
	})
}

// TestOptionsRefused checks that New refuses a malformed key, an invalid address,
// and an address that would expose the key. The error never contains the key.
func TestOptionsRefused(t *testing.T) {
	good := Options{URL: "https://platform.example.com", Key: secret}
	for want, change := range map[string]func(*Options){
		"by https":           func(o *Options) { o.URL = "http://platform.example.com" },
		"want https":         func(o *Options) { o.URL = "ftp://platform.example.com" },
		"is no URL":          func(o *Options) { o.URL = "platform" },
		"user or password":   func(o *Options) { o.URL = "https://" + secret + "@platform.example.com" },
		"query or a fragmen": func(o *Options) { o.URL = "https://platform.example.com?key=" + secret },
		"which gateway asks": func(o *Options) { o.Key = "" },
		"that no key has":    func(o *Options) { o.Key = secret + "\n" },
		"longer than":        func(o *Options) { o.Key = strings.Repeat("x", maxKey+1) },
	} {
		o := good
		change(&o)
		s, err := New(o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret[8:]) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
	for _, url := range []string{"http://localhost:1", "http://127.0.0.1:1/", "http://[::1]:1", "HTTPS://Example.com/farebox"} {
		s, err := New(Options{URL: url, Key: secret})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if !strings.HasSuffix(s.base.String(), wire.Base) || strings.Contains(s.base.Path, "//") {
			t.Errorf("%s becomes %s", url, s.base)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoProxyFromTheEnvironment checks that a proxy from the environment is used
// only if the options ask for it.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	if p := newTransport(nil).Proxy; p != nil {
		t.Error("there is one")
	}
	if p := newTransport(http.ProxyFromEnvironment).Proxy; p == nil {
		t.Error("it was asked for")
	}
}
