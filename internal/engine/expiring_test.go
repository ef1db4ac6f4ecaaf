package engine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"

	"github.com/fareboxhq/farebox/internal/clock"
)

// counter is a fake store that counts its queries.
type counter struct {
	asked int
	until []time.Time
	err   error
	slow  bool
}

func (c *counter) count(ctx context.Context, until []time.Time) ([]int64, error) {
	c.asked++
	c.until = until
	if c.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return make([]int64, len(until)), c.err
}

// TestExpiringIsAskedSeldom checks that scrapes query the store once in half a minute
// and wait at most two seconds, even if the store fails or hangs.
func TestExpiringIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(counter)
		e := newExpiring(c.count, clock.Now, slog.New(slog.DiscardHandler))
		within := []time.Duration{time.Hour, 24 * time.Hour}
		expect := func(what string, asked int, ok bool) {
			t.Helper()
			for range 3 {
				if counts, got := e.counts(within); got != ok || ok && len(counts) != len(within) {
					t.Errorf("%s: %v, %v", what, counts, got)
				}
			}
			if c.asked != asked {
				t.Errorf("%s: asked %d times, want %d", what, c.asked, asked)
			}
		}
		began := clock.Now()
		expect("at first", 1, true)
		if want := []time.Time{began.Add(time.Hour), began.Add(24 * time.Hour)}; !slices.EqualFunc(c.until, want, time.Time.Equal) {
			t.Errorf("asked for %v, want %v", c.until, want)
		}
		time.Sleep(countEvery - 1)
		expect("soon", 1, true)
		time.Sleep(time.Nanosecond)
		c.err = errors.New("broken")
		expect("broken", 2, false)
		c.err = nil
		expect("again soon", 2, false)
		time.Sleep(countEvery)
		expect("mended", 3, true)
		time.Sleep(countEvery)
		c.slow = true
		began = clock.Now()
		expect("hanging", 4, false)
		if took := clock.Since(began); took != countTime {
			t.Errorf("it hung for %v, want %v", took, countTime)
		}
		expect("not left hanging again", 4, false)
		c.slow = false
		within = within[:1]
		expect("something else", 5, true)
	})
}

// TestExpiringIsAskedOnce checks that concurrent scrapes query the store once and share
// the result.
func TestExpiringIsAskedOnce(t *testing.T) {
	c := new(counter)
	e := newExpiring(c.count, clock.Now, slog.New(slog.DiscardHandler))
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if counts, ok := e.counts([]time.Duration{time.Hour}); !ok || len(counts) != 1 {
				t.Errorf("%v, %v", counts, ok)
			}
		})
	}
	group.Wait()
	if c.asked != 1 {
		t.Errorf("asked %d times", c.asked)
	}
}

// TestRuntimeCountsExpiringKeys checks that a runtime counts the keys of its own
// store, and counts no keys after it is closed.
func TestRuntimeCountsExpiringKeys(t *testing.T) {
	ctx := context.Background()
	one, _ := open(t, t.TempDir())
	two, _ := open(t, t.TempDir())
	for i, r := range []*Runtime{one, two} {
		if _, err := r.Service().CreateAccount(ctx, admin.Actor{}, admin.NewAccount{Name: "alice"}); err != nil {
			t.Fatal(err)
		}
		for range i + 1 {
			if _, _, err := r.Service().CreateKey(ctx, admin.Actor{}, admin.NewKey{Account: "alice", ExpiresIn: "12h"}); err != nil {
				t.Fatal(err)
			}
		}
		within := []time.Duration{time.Hour, 24 * time.Hour}
		for range 2 {
			if counts, ok := r.ExpiringKeys(within); !ok || !slices.Equal(counts, []int64{0, int64(i + 1)}) {
				t.Errorf("counted %v, %v", counts, ok)
			}
		}
		if err := r.Destruct(); err != nil {
			t.Error(err)
		}
		if counts, ok := r.ExpiringKeys(within); ok {
			t.Errorf("closed, it counted %v", counts)
		}
	}
}
