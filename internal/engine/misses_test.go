package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/share"
)

// An address may try missRate unknown tokens a second for long, and missBurst
// at once; found keys cost nothing, and other addresses are not touched.
func TestMissesAreLimited(t *testing.T) {
	now := time.Unix(0, 0)
	m := newMisses(func() time.Time { return now })
	flooder, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	try := func(n int) (allowed int) {
		for range n {
			if m.take(flooder) {
				allowed++
			}
		}
		return allowed
	}
	if got := try(20_000); got != missBurst {
		t.Errorf("%d at once, want %d", got, missBurst)
	}
	for range 10 {
		now = now.Add(time.Second)
		if got := try(20_000); got != missRate {
			t.Errorf("%d in a second, want %d", got, missRate)
		}
	}
	for range 20_000 {
		if !m.take(other) {
			t.Fatal("an address pays for another's flood, or for keys that it found")
		}
		m.give(other)
	}
}

// An IPv6 customer has one bucket for a network of addresses, and an IPv4
// address the same in both of its forms.
func TestMissesByNetwork(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if same := share.Network(netip.MustParseAddr(c.a)) == share.Network(netip.MustParseAddr(c.b)); same != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, same)
		}
	}
	if share.Network(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("unknown addresses do not share a bucket")
	}
}

// However many addresses come, the memory is bounded.
func TestMissesAreBounded(t *testing.T) {
	m := newMisses(clock.Now)
	a := netip.MustParseAddr("10.0.0.0")
	for range 5 * maxAddresses {
		m.take(a)
		a = a.Next()
	}
	if n := len(m.current) + len(m.previous); n > 2*maxAddresses {
		t.Errorf("%d buckets", n)
	}
}
