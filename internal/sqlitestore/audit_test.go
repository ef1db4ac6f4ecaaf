package sqlitestore

import (
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestAuditIndexes checks that SQLite uses an index if the filter of an audit query
// names an actor, an action, a target or a key. A query by time alone reads backwards
// from the newest row, because the newest rows are asked for most often.
func TestAuditIndexes(t *testing.T) {
	s := fresh(t)
	for name, c := range map[string]struct {
		filter ledger.AuditFilter
		plan   []string // texts that the query plan must contain
		sorts  bool
	}{
		"all":    {ledger.AuditFilter{}, []string{"SEARCH audit USING INTEGER PRIMARY KEY"}, false},
		"actor":  {ledger.AuditFilter{Actor: "key_1", Since: clock.Now()}, []string{"audit_actor (actor=? AND n<?)"}, false},
		"action": {ledger.AuditFilter{Action: "key.delete"}, []string{"audit_action (action=? AND n<?)"}, false},
		"target": {ledger.AuditFilter{Target: "acct_1", Until: clock.Now()}, []string{"audit_target (target=? AND n<?)"}, false},
		"key":    {ledger.AuditFilter{Key: "key_1"}, []string{"audit_target (target=? AND n<?)", "audit_successor (<expr>=? AND rowid<?)"}, true},
		"times":  {ledger.AuditFilter{Since: clock.Now(), Until: clock.Now().Add(time.Hour)}, []string{"SEARCH audit USING INTEGER PRIMARY KEY"}, false},
	} {
		query, args := selectAudit(&c.filter, 7)
		rows, err := s.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan += detail + "\n"
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for _, part := range c.plan {
			if !strings.Contains(plan, part) || strings.Contains(plan, "TEMP B-TREE") != c.sorts {
				t.Errorf("%s: the plan is\n%s", name, plan)
			}
		}
	}
}
