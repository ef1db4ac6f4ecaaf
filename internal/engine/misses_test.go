package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/share"
)

// TestMissesAreLimited checks that an address may try as many unknown tokens as
// missRate allows, with its burst. Keys that are found cost nothing, and other
// addresses are not affected.
func TestMissesAreLimited(t *testing.T) {
	now := time.Duration(0)
	m := newMisses(func() time.Duration { return now })
	flooder, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	try := func(n int) (allowed int) {
		for range n {
			if m.take(flooder) {
				allowed++
			}
		}
		return allowed
	}
	if got := try(20_000); int64(got) != missRate.Burst {
		t.Errorf("%d at once, want %d", got, missRate.Burst)
	}
	for range 10 {
		now += time.Second
		if got := try(20_000); int64(got) != missRate.Requests {
			t.Errorf("%d in a second, want %d", got, missRate.Requests)
		}
	}
	for range 20_000 {
		if !m.take(other) {
			t.Fatal("an address is limited by another's flood, or by keys that it found")
		}
		m.give(other)
	}
}

// TestMissesByNetwork checks that all addresses of an IPv6 customer's network share
// one bucket, as do both forms of an IPv4 address.
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

// TestMissesAreBounded checks that memory is bounded for any number of addresses.
func TestMissesAreBounded(t *testing.T) {
	m := newMisses(uptime())
	a := netip.MustParseAddr("10.0.0.0")
	for range 5 * maxAddresses {
		m.take(a)
		a = a.Next()
	}
	if n := m.full.Len(); n > 2*maxAddresses {
		t.Errorf("%d buckets", n)
	}
}
