package sqlitestore

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/peoplestore"
)

// TestRestoreEndsPeople checks that after a restore nobody can sign in. Persons are
// kept but disabled. Sessions, unused invitations and ceremonies are deleted.
func TestRestoreEndsPeople(t *testing.T) {
	dir := memoryDir(t)
	path, backup := filepath.Join(dir, "farebox.db"), filepath.Join(dir, "backup.db")
	now := clock.Now().UTC().Truncate(time.Microsecond)
	s := opened(t, Options{Path: path})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	active := people.Record{Person: people.Person{ID: "psn_1", Email: "a@example.com", Operator: true, CreatedAt: now}, Password: "x"}
	disabled := people.Record{Person: people.Person{ID: "psn_2", Email: "b@example.com", CreatedAt: now, DisabledAt: now.Add(-time.Hour)}}
	ok(peoplestore.New(s.Rows()).Change(t.Context(), func(tx people.Tx) error {
		used := people.Invitation{ID: "inv_2", Operator: true, CreatedAt: now, ExpiresAt: now.Add(time.Hour), UsedAt: now, UsedBy: "psn_1"}
		return errors.Join(tx.InsertPerson(&active), tx.InsertPerson(&disabled),
			tx.InsertSession(&people.Session{ID: "ses_1", Person: "psn_1", CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(time.Hour)}, people.Digest{1}),
			tx.InsertInvitation(&people.Invitation{ID: "inv_1", Operator: true, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, people.Digest{1}),
			tx.InsertInvitation(&used, people.Digest{2}),
			tx.InsertCeremony(people.Digest{1}, "signin", "{}", now.Add(time.Hour)))
	}))
	made, _ := kept(t, s, nil)
	ok(copyFile(backup, made))
	ok(s.Close())
	r, err := Restore(t.Context(), restoreOptions(path, backup))
	ok(err)
	if r.People != 1 || r.Sessions != 1 || r.Invitations != 1 {
		t.Errorf("restored %+v", r)
	}
	s = opened(t, Options{Path: path})
	ok(peoplestore.New(s.Rows()).View(t.Context(), func(tx people.Tx) error {
		for id, at := range map[string]time.Time{"psn_1": {}, "psn_2": disabled.DisabledAt} {
			p, err := tx.Person(id)
			if err != nil || p.DisabledAt.IsZero() || !at.IsZero() && !p.DisabledAt.Equal(at) {
				t.Errorf("%s: %+v, %v", id, p, err)
			}
		}
		_, _, session := tx.Session(people.Digest{1})
		_, unused := tx.Invitation(people.Digest{1})
		_, used := tx.Invitation(people.Digest{2})
		n, err := tx.CountCeremonies()
		if !errors.Is(session, ledger.ErrNotFound) || !errors.Is(unused, ledger.ErrNotFound) || used != nil || n != 0 || err != nil {
			t.Errorf("session %v, invitations %v and %v, %d ceremonies, %v", session, unused, used, n, err)
		}
		return nil
	}))
	audit, _, err := s.AuditLog(t.Context(), ledger.AuditFilter{Page: ledger.Page{Limit: 1}})
	if err != nil || !strings.Contains(audit[0].Detail, `"people_disabled":1,"sessions_ended":1,"invitations_withdrawn":1`) {
		t.Errorf("audit %+v, %v", audit, err)
	}
}
