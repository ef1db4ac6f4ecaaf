//go:build unix

package pgstore

import (
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
)

// TestLeases checks that each store on a database lists the nodes of all stores there,
// with the descriptions that the nodes have stored. A node that leaves is not listed
// any more, and a node that stops renewing is listed with an ended lease. Renewals keep
// the description. Gateways without a store are not listed.
func TestLeases(t *testing.T) {
	stores, _ := nodes(t, 2)
	follow := func(s *Store, node string, lease time.Duration) {
		t.Helper()
		if _, err := s.Follow(t.Context(), node, -1, lease); err != nil {
			t.Fatal(err)
		}
	}
	leases := func(s *Store) map[string]keys.Lease {
		t.Helper()
		list, err := s.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]keys.Lease)
		for _, l := range list {
			found[l.Node] = l
		}
		return found
	}
	if err := stores[0].Introduce(t.Context(), "node-1", "too early"); err != nil { // the node has no row yet
		t.Fatal(err)
	}
	for range 2 {
		follow(stores[0], "node-1", time.Hour)
		if err := stores[0].Introduce(t.Context(), "node-1", `{"host":"a"}`); err != nil {
			t.Fatal(err)
		}
	}
	follow(stores[0], "node-1", time.Hour)
	follow(stores[1], "node-2", time.Millisecond)
	follow(stores[1], "key_1/gateway", time.Hour)
	for i, s := range stores {
		found := leases(s)
		first := found["node-1"]
		if len(found) != 2 || first.About != `{"host":"a"}` || first.Left < 50*time.Minute || first.Left > time.Hour {
			t.Errorf("store %d lists %+v", i, found)
		}
		if second, listed := found["node-2"]; !listed || second.About != "" {
			t.Errorf("store %d lists %+v", i, found)
		}
		eventually(t, "the lease of node-2 has ended", func() bool { return leases(s)["node-2"].Left < 0 })
	}
	if err := stores[0].Leave(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if _, listed := leases(stores[1])["node-1"]; listed {
		t.Error("a node that has left is listed")
	}
}
