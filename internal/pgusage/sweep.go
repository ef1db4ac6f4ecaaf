package pgusage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/rollup"
)

// sweepSums deletes some of the expired hourly sums. The transaction tx must hold the
// advisory lock of SumUsage.
func (s *Sums) sweepSums(ctx context.Context, tx pgx.Tx) error {
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT moved_clock($1)`, s.o.Shift()).Scan(&now); err != nil {
		return err
	}
	expired, from, err := s.sweep.Step(now, func(after rollup.Key) ([]rollup.Key, error) {
		rows, err := tx.Query(ctx, `SELECT subject, bucket, x, y, z FROM usage_sum
			WHERE view = $1 AND (subject, bucket, x, y, z) > ($2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint) ORDER BY subject, bucket, x, y, z LIMIT $7`,
			after.View, after.Subject, after.Bucket, after.X, after.Y, after.Z, rollup.SweepStep)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (rollup.Key, error) {
			k := rollup.Key{View: after.View}
			return k, row.Scan(&k.Subject, &k.Bucket, &k.X, &k.Y, &k.Z)
		})
	})
	if err != nil || len(expired) == 0 {
		return err
	}
	var columns [6][]int64
	for _, k := range expired {
		for i, n := range [...]int64{k.View, k.Subject, k.Bucket, k.X, k.Y, k.Z} {
			columns[i] = append(columns[i], n)
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE usage_state SET hours_from = greatest(hours_from, $1)`, from); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM usage_sum s
		USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u (view, subject, bucket, x, y, z)
		WHERE s.view = u.view AND s.subject = u.subject AND s.bucket = u.bucket AND s.x = u.x AND s.y = u.y AND s.z = u.z`,
		columns[0], columns[1], columns[2], columns[3], columns[4], columns[5])
	return err
}
