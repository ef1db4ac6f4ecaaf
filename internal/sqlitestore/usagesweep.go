package sqlitestore

import (
	"context"

	"github.com/fareboxhq/farebox/internal/rollup"
)

// sweepUsage deletes some of the expired hourly sums. It looks for them without
// blocking the writer, and uses the writer only if there are sums to delete.
func (s *Store) sweepUsage(ctx context.Context) error {
	expired, from, err := s.usageSweep.Step(s.now(), func(after rollup.Key) (list []rollup.Key, err error) {
		rows, err := s.readers.QueryContext(background(), `SELECT subject, bucket, x, y, z FROM usage_sum
			WHERE view = ? AND (subject, bucket, x, y, z) > (?, ?, ?, ?, ?) ORDER BY subject, bucket, x, y, z LIMIT ?`,
			after.View, after.Subject, after.Bucket, after.X, after.Y, after.Z, rollup.SweepStep)
		if err != nil {
			return nil, failure(err)
		}
		defer rows.Close()
		for rows.Next() {
			k := rollup.Key{View: after.View}
			if err := rows.Scan(&k.Subject, &k.Bucket, &k.X, &k.Y, &k.Z); err != nil {
				return nil, failure(err)
			}
			list = append(list, k)
		}
		return list, failure(rows.Err())
	})
	if err != nil || len(expired) == 0 {
		return err
	}
	return s.do(ctx, func(t *tx) error {
		if _, err := t.exec(`UPDATE usage_state SET hours_from = max(hours_from, ?)`, from); err != nil {
			return err
		}
		remove, err := t.w.conn.PrepareContext(background(), `DELETE FROM usage_sum WHERE view = ? AND subject = ? AND bucket = ? AND x = ? AND y = ? AND z = ?`)
		if err != nil {
			return failure(err)
		}
		defer remove.Close()
		for _, k := range expired {
			if _, err := remove.ExecContext(background(), k.View, k.Subject, k.Bucket, k.X, k.Y, k.Z); err != nil {
				return failure(err)
			}
		}
		return nil
	})
}
