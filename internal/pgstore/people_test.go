//go:build unix

package pgstore

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// TestPeopleOnTwoNodes checks the people of two nodes at one database. If many callers
// at both nodes accept an invitation at once, exactly one finds it unused. A session
// that one node has deleted is at once unknown to the other.
func TestPeopleOnTwoNodes(t *testing.T) {
	list, _ := nodes(t, 2)
	stores := []*sqltx.Store[people.Tx]{peoplestore.New(list[0].Rows()), peoplestore.New(list[1].Rows())}
	now := clock.Now().UTC().Truncate(time.Microsecond)
	invitation := people.Invitation{ID: "inv_1", Operator: true, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := stores[0].Change(t.Context(), func(tx people.Tx) error { return tx.InsertInvitation(&invitation, people.Digest{1}) }); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int64
	together(16, func(i int) {
		err := stores[i%2].Change(t.Context(), func(tx people.Tx) error {
			found, err := tx.Invitation(people.Digest{1})
			if err != nil || !found.UsedAt.IsZero() {
				return err
			}
			won.Add(1)
			found.UsedAt, found.UsedBy = now, "psn_1"
			return tx.UseInvitation(&found)
		})
		if err != nil {
			t.Error(err)
		}
	})
	if n := won.Load(); n != 1 {
		t.Errorf("%d have found the invitation unused", n)
	}
	person := people.Record{Person: people.Person{ID: "psn_1", Email: "a@example.com", CreatedAt: now}}
	session := people.Session{ID: "ses_1", Person: "psn_1", CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(time.Hour)}
	err := stores[0].Change(t.Context(), func(tx people.Tx) error {
		if err := tx.InsertPerson(&person); err != nil {
			return err
		}
		return tx.InsertSession(&session, people.Digest{2})
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, ended := range []bool{false, true} {
		if i == 1 {
			if err := stores[0].Change(t.Context(), func(tx people.Tx) error { _, err := tx.DeleteSessions("psn_1", ""); return err }); err != nil {
				t.Fatal(err)
			}
		}
		err := stores[1].View(t.Context(), func(tx people.Tx) error { _, _, err := tx.Session(people.Digest{2}); return err })
		if (err != nil) != ended {
			t.Errorf("ended %v: %v", ended, err)
		}
	}
}
