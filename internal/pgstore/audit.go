package pgstore

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// auditRow is an audit record, with its number n in the audit log.
type auditRow struct {
	ledger.Audit
	n int64
}

func scanAudit(row pgx.CollectableRow) (r auditRow, err error) {
	var at time.Time
	err = row.Scan(&r.n, &at, &r.Actor, &r.From, &r.Action, &r.Target, &r.Detail)
	r.At = pgvalue.Micro(at)
	for _, text := range []*string{&r.Actor, &r.From, &r.Action, &r.Target, &r.Detail} {
		*text = pgvalue.Unpack(*text)
	}
	return r, err
}

// AuditLog lists the operators' actions that match the filter, newest first. It also
// returns the cursor of the next page, "" at the end.
func (s *Store) AuditLog(ctx context.Context, f ledger.AuditFilter) ([]ledger.Audit, string, error) {
	before, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	q := selectAudit(&f, before)
	rows, err := s.db.Query(ctx, q.Where, q.Args...)
	if err != nil {
		return nil, "", pgquery.Failure(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanAudit)
	if err != nil {
		return nil, "", pgquery.Failure(ctx, err)
	}
	list, next := page(found, f.Page, func(r *auditRow) (ledger.Audit, int64) { return r.Audit, r.n })
	return list, next, nil
}

// selectAudit returns the query for one page of the audit log, with one row more than
// the page holds. If the filter names a key, the query also finds the row of the
// rotation that made the key, although the target of that row is the old key.
func selectAudit(f *ledger.AuditFilter, before int64) pgvalue.Conditions {
	q := pgvalue.Conditions{Where: `SELECT n, at, actor, origin, action, target, detail FROM audit WHERE true`}
	q.And(` AND n < $%d`, before)
	q.Equal("actor", f.Actor)
	q.Equal("action", f.Action)
	q.Equal("target", f.Target)
	if f.Key != "" {
		q.And(` AND (target = $%[1]d OR action = 'key.rotate' AND successor(detail) = $%[1]d)`, pgvalue.Pack(f.Key))
	}
	q.Within("at", f.Since, f.Until)
	q.And(` ORDER BY n DESC LIMIT $%d`, f.Size()+1)
	return q
}
