package pgstore

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// AuditLog lists the operators' actions, newest first. It also returns the cursor of
// the next page, "" at the end.
func (s *Store) AuditLog(ctx context.Context, p ledger.Page) ([]ledger.Audit, string, error) {
	before, err := ledger.Cursor(ctx, p.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.query(ctx, `SELECT n, at, actor, origin, action, target, detail FROM audit WHERE n < $1 ORDER BY n DESC LIMIT $2`,
		before, p.Size()+1)
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	type row struct {
		ledger.Audit
		n int64
	}
	found, err := pgx.CollectRows(rows, func(from pgx.CollectableRow) (r row, err error) {
		var at time.Time
		err = from.Scan(&r.n, &at, &r.Actor, &r.From, &r.Action, &r.Target, &r.Detail)
		r.At = pgvalue.Micro(at)
		for _, text := range []*string{&r.Actor, &r.From, &r.Action, &r.Target, &r.Detail} {
			*text = pgvalue.Unpack(*text)
		}
		return r, err
	})
	if err != nil {
		return nil, "", failure(ctx, err)
	}
	found, next := part(found, p, func(r *row) int64 { return r.n })
	var list []ledger.Audit
	for _, r := range found {
		list = append(list, r.Audit)
	}
	return list, next, nil
}
