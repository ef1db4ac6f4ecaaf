package sqlitestore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// audit writes the audit row of a change.
func (t *tx) audit(a ledger.Audit, now time.Time) error {
	_, err := t.exec(`INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)`,
		micros(orNow(a.At, now)), a.Actor, a.From, a.Action, a.Target, a.Detail)
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// AuditLog lists the operators' actions, newest first. It also returns the
// cursor of the next page, "" at the end.
func (s *Store) AuditLog(ctx context.Context, p ledger.Page) ([]ledger.Audit, string, error) {
	before, err := ledger.Cursor(ctx, p.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.readers.QueryContext(background(),
		`SELECT n, at, actor, origin, action, target, detail FROM audit WHERE n < ? ORDER BY n DESC LIMIT ?`, before, p.Size()+1)
	if err != nil {
		return nil, "", failure(err)
	}
	defer rows.Close()
	var list []ledger.Audit
	var last int64
	for rows.Next() {
		if len(list) == p.Size() {
			return list, strconv.FormatInt(last, 10), nil
		}
		var a ledger.Audit
		var at int64
		if err := rows.Scan(&last, &at, &a.Actor, &a.From, &a.Action, &a.Target, &a.Detail); err != nil {
			return nil, "", failure(err)
		}
		a.At = fromMicros(at)
		list = append(list, a)
	}
	return list, "", failure(rows.Err())
}
