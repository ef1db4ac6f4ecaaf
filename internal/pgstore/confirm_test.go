//go:build unix

package pgstore

import (
	"context"
	"testing"
	"time"
)

// TestConfirmWaitsForARenewalUnderWay checks that Confirm waits for a node with an
// expired lease if the node is renewing the lease and the renewal has not read the
// change. Confirm must wait because the node trusts its cached keys again as soon as
// the renewal commits.
func TestConfirmWaitsForARenewalUnderWay(t *testing.T) {
	s := fresh(t)
	k := someKey(t, s, "alice")
	r, err := s.Follow(t.Context(), "node-1", -1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.Exec(t.Context(), `UPDATE node SET lease_until = clock_timestamp() - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // no effect after the commit
	if _, err := tx.Exec(t.Context(), `SELECT follow('node-1', $1, '1 hour', 10)`, r.Position); err != nil {
		t.Fatal(err)
	}
	disable(t, s, k)
	confirmed := make(chan error, 1)
	go func() { confirmed <- s.Confirm(t.Context(), "node-2") }()
	select {
	case err := <-confirmed:
		t.Fatalf("the change was confirmed while a renewal that has not read it was under way: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Follow(t.Context(), "node-1", r.Position+1, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := <-confirmed; err != nil {
		t.Error(err)
	}
}
