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
	a.At = orNow(a.At, now)
	_, err := t.exec(`INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)`,
		micros(a.At), a.Actor, a.From, a.Action, a.Target, a.Detail)
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	t.audits = append(t.audits, a)
	return nil
}

// AuditLog lists the operators' actions that match the filter, newest first. It also
// returns the cursor of the next page, "" at the end.
func (s *Store) AuditLog(ctx context.Context, f ledger.AuditFilter) ([]ledger.Audit, string, error) {
	last, err := ledger.Cursor(ctx, f.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	query, args := selectAudit(&f, last)
	rows, err := s.readers.QueryContext(background(), query, args...)
	if err != nil {
		return nil, "", failure(err)
	}
	defer rows.Close()
	var list []ledger.Audit
	for rows.Next() {
		if len(list) == f.Size() {
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

// madeByRotation is a condition that finds the audit row of the rotation that made a
// key. That row has the rotated key as its target, so the condition compares the new
// key's id with the row's detail.
const madeByRotation = `action = 'key.rotate' AND CASE WHEN json_valid(detail) THEN detail ->> '$.successor' END = ?`

// selectAudit returns the query for one page of the audit log, and its arguments. The
// query reads one row more than the page has, to detect the end.
func selectAudit(f *ledger.AuditFilter, before int64) (string, []any) {
	query, args := `SELECT n, at, actor, origin, action, target, detail FROM audit WHERE n < ?`, []any{before}
	and := func(condition string, values ...any) {
		query, args = query+" AND "+condition, append(args, values...)
	}
	for _, of := range [...]struct{ condition, text string }{{`actor = ?`, f.Actor}, {`action = ?`, f.Action}, {`target = ?`, f.Target}} {
		if of.text != "" {
			and(of.condition, of.text)
		}
	}
	if f.Key != "" {
		and(`(target = ? OR `+madeByRotation+`)`, f.Key, f.Key)
	}
	if !f.Since.IsZero() {
		and(`at >= ?`, micros(f.Since))
	}
	if !f.Until.IsZero() {
		and(`at < ?`, micros(f.Until))
	}
	return query + ` ORDER BY n DESC LIMIT ?`, append(args, f.Size()+1)
}
