package alert

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fareboxhq/farebox/internal/keys"
)

// TestKnownNetworkIsFree checks that a call from a known network allocates no memory.
// The same holds for a call of an account that wants no alerts about networks.
func TestKnownNetworkIsFree(t *testing.T) {
	n := newNetworks()
	k, address := &keys.Key{Account: "acct_1", Lineage: "key_1"}, netip.MustParseAddr("2001:db8::1")
	quiet := func(what string) {
		t.Helper()
		if got := testing.AllocsPerRun(100, func() { n.Charged(k, address) }); got != 0 {
			t.Errorf("%s: %v allocations", what, got)
		}
	}
	quiet("nobody wants alerts")
	n.wanted.Store(&map[string]struct{}{"acct_2": {}})
	quiet("another account wants alerts")
	n.wanted.Store(&map[string]struct{}{"acct_1": {}})
	n.Charged(k, address)
	quiet("a known network")
	if uses := n.take(); len(uses) != 1 || uses[0].network.String() != "2001:db8::/48" {
		t.Errorf("%+v", uses)
	}
}

// TestWaitingNetworksAreBounded checks that the memory for new networks is bounded,
// however many networks a key is used from between two evaluations. Uses that did not
// fit are recorded later.
func TestWaitingNetworksAreBounded(t *testing.T) {
	n := newNetworks()
	n.wanted.Store(&map[string]struct{}{"acct_1": {}})
	k := &keys.Key{Account: "acct_1", Lineage: "key_1"}
	all := func() {
		for i := range maxNew + 10 {
			n.Charged(k, netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/256, i%256)))
		}
	}
	all()
	if uses := n.take(); len(uses) != maxNew {
		t.Errorf("%d uses", len(uses))
	}
	n.give(nil)
	all()
	if uses := n.take(); len(uses) != 10 {
		t.Errorf("%d uses are noted later", len(uses))
	}
}

// BenchmarkCharged measures the time that alerts about networks add to a charged call.
func BenchmarkCharged(b *testing.B) {
	n := newNetworks()
	n.wanted.Store(&map[string]struct{}{"acct_1": {}})
	k, address := &keys.Key{Account: "acct_1", Lineage: "key_1"}, netip.MustParseAddr("192.0.2.1")
	for b.Loop() {
		n.Charged(k, address)
	}
}
