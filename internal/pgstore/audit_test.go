//go:build unix

package pgstore

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestAuditIndexes checks that PostgreSQL uses an index if the filter of an audit query
// names an actor, an action, a target or a key.
func TestAuditIndexes(t *testing.T) {
	s := fresh(t)
	query(t, s.o.DSN, `INSERT INTO audit (at, actor, origin, action, target, detail)
		SELECT now(), 'key_' || i % 1000, '', 'key.' || i % 20, 'key_' || i, '{}' FROM generate_series(1, 20000) i; ANALYZE audit`)
	for name, c := range map[string]struct {
		filter ledger.AuditFilter
		plan   []string
	}{
		"all":    {ledger.AuditFilter{}, []string{"audit_pkey"}},
		"actor":  {ledger.AuditFilter{Actor: "key_1", Since: clock.Now()}, []string{"audit_actor"}},
		"action": {ledger.AuditFilter{Action: "key.1"}, []string{"audit_action"}},
		"target": {ledger.AuditFilter{Target: "key_1"}, []string{"audit_target"}},
		"key":    {ledger.AuditFilter{Key: "key_1"}, []string{"audit_target", "audit_successor"}},
	} {
		q := selectAudit(&c.filter, 1<<40)
		rows, err := s.pool.Query(t.Context(), "EXPLAIN "+q.Where, q.Args...)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range c.plan {
			if plan := strings.Join(lines, "\n"); !strings.Contains(plan, part) {
				t.Errorf("%s: the plan is\n%s", name, plan)
			}
		}
	}
}
