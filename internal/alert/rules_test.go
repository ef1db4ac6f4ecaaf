package alert

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestLevels checks that a level is reached exactly when that percentage of the cap is
// spent, for caps up to the greatest amount.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		spent, limit ledger.Amount
		want         int64
	}{
		{0, 100, 0}, {49, 100, 0}, {50, 100, 50}, {79, 100, 50}, {80, 100, 80}, {94, 100, 80}, {95, 100, 95}, {100, 100, 95}, {1000, 100, 95},
		{0, 1, 0}, {1, 1, 95}, {1, 2, 50}, {1, 3, 0}, {2, 3, 50},
		{math.MaxInt64, math.MaxInt64, 95}, {math.MaxInt64/100*95 - 1, math.MaxInt64, 80}, {math.MaxInt64 / 2, math.MaxInt64, 0}, {math.MaxInt64/2 + 1, math.MaxInt64, 50},
	} {
		if got := levelOf(c.spent, c.limit); got != c.want {
			t.Errorf("%d of %d: level %d, want %d", c.spent, c.limit, got, c.want)
		}
	}
}

// TestCapState checks, for random spending, that each level is raised at most once in a
// period, that the levels rise, and that the last raised level is the one that the
// spending has reached.
func TestCapState(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var state State
		for period := range int64(3) {
			var spent ledger.Amount
			var raised int64
			for range 20 {
				spent += ledger.Amount(random.IntN(20))
				now := State{Period: period + 1, Level: levelOf(spent, 100), Amount: 100}
				after, raise := capState(state, now)
				if raise != (after.Level > raised) || raise && after.Level != now.Level {
					t.Fatalf("after %d at %d: %+v, raised %v", raised, spent, after, raise)
				}
				raised, state = max(raised, after.Level), after
			}
			if raised != levelOf(spent, 100) {
				t.Fatalf("raised %d, reached %d", raised, levelOf(spent, 100))
			}
		}
	}
}

// TestCapStateOfAnotherClock checks that a node with a slow clock does not raise a
// level of the previous period again. Such a node must not overwrite the state of the
// period that has begun either.
func TestCapStateOfAnotherClock(t *testing.T) {
	before := State{Period: 2, Level: 50, Amount: 100}
	if after, raise := capState(before, State{Period: 1, Level: 95, Amount: 100}); after != before || raise {
		t.Errorf("%+v, raised %v", after, raise)
	}
}

// TestBalanceState checks that a balance that swings around its threshold raises one
// alert. After a rise by a tenth, the next fall raises another alert, at least an hour
// after the first. If the fall comes earlier, the alert is late but not lost.
func TestBalanceState(t *testing.T) {
	began := clock.Now()
	state, known := State{Kind: Balance, Subject: "acct_1"}, false
	for i, c := range []struct {
		minute               time.Duration
		available, threshold ledger.Amount
		raise                bool
	}{
		{0, 100, 100, false},
		{1, 99, 100, true},
		{2, 100, 100, false}, {3, 99, 100, false}, {70, 109, 100, false}, {71, 50, 100, false},
		{72, 110, 100, false}, {73, 109, 100, false}, {74, 99, 100, true},
		{75, 110, 100, false}, {76, 99, 100, false}, {133, 99, 100, false}, {134, 99, 100, true}, // the alert is late, but not lost
		{200, 99, 120, false},                     // the alert was raised already
		{201, 99, 98, false}, {202, 97, 98, true}, // a lower threshold
		{203, 97, 1000, false}, {300, 97, 1000, false}, // a higher threshold
		{301, math.MaxInt64, math.MaxInt64, false}, {302, math.MaxInt64 - 1, math.MaxInt64, true}, {400, -5, math.MaxInt64, false},
	} {
		after, raise := balanceState(state, known, c.available, c.threshold, began.Add(c.minute*time.Minute))
		if raise != c.raise {
			t.Errorf("step %d: raised %v", i, raise)
		}
		known, state = known || after != state, after
	}
}

// TestUsual checks that usual spending is the median of the days with spending, if
// there are at least three. Spending is unusual if it is greater than the given
// multiple and at least minSpend.
func TestUsual(t *testing.T) {
	for _, c := range []struct {
		days []ledger.Amount
		want ledger.Amount
	}{
		{nil, 0}, {[]ledger.Amount{5, 7}, 0}, {[]ledger.Amount{5, 7, 0, 0}, 0}, {[]ledger.Amount{9, 1, 5}, 5}, {[]ledger.Amount{9, 1, 5, 7}, 6},
		{[]ledger.Amount{1, 1, 1, 1000}, 1}, {[]ledger.Amount{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64}, math.MaxInt64},
	} {
		if got := usualSpend(c.days); got != c.want {
			t.Errorf("%v: %d, want %d", c.days, got, c.want)
		}
	}
	for _, c := range []struct {
		today, usual ledger.Amount
		factor       int64
		want         bool
	}{
		{5 * ledger.Unit, ledger.Unit, 5, false}, {5*ledger.Unit + 1, ledger.Unit, 5, true}, {4 * ledger.Unit, ledger.Unit, 5, false},
		{100 * ledger.Unit, 0, 5, false}, {100 * ledger.Unit, ledger.Unit, 0, false}, {minSpend - 1, 1, 5, false}, {minSpend, 1, 5, true},
		{math.MaxInt64, math.MaxInt64, 2, false}, {math.MaxInt64, 1, MaxSpend, true},
	} {
		if got := unusual(c.today, c.usual, c.factor); got != c.want {
			t.Errorf("%d of %d times %d: %v", c.today, c.usual, c.factor, got)
		}
	}
}

// TestNetworkOf checks that the addresses of one customer are in one network, in
// whichever form an address is written.
func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
	} {
		if got, ok := networkOf(netip.MustParseAddr(address)); !ok || got.String() != want {
			t.Errorf("%s: %s, %v", address, got, ok)
		}
	}
	if _, ok := networkOf(netip.Addr{}); ok {
		t.Error("the zero address has a network")
	}
}
