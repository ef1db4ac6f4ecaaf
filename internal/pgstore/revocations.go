package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// Revocation records that a key was created or changed in any way.
type Revocation struct {
	Seq    int64
	Digest keys.Digest
	At     time.Time
}

// Revocations lists the revocations with numbers greater than after, in ascending
// order: at most limit of them, and at most ledger.MaxPage. It also returns the number
// at which the next call can continue. Numbers are in the order of the commits, so a
// caller that continues misses no revocation. NOTIFY announces each revocation on the
// channel farebox_revocation.
func (s *Store) Revocations(ctx context.Context, after int64, limit int) (list []Revocation, last int64, err error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, `SELECT seq, digest, at FROM revocation WHERE seq > $1 ORDER BY seq LIMIT $2`,
		after, ledger.Page{Limit: limit}.Size())
	if err != nil {
		return nil, after, pgquery.Failure(ctx, err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Revocation, err error) {
		var digest []byte
		if err := row.Scan(&r.Seq, &digest, &r.At); err != nil {
			return r, err
		}
		if copy(r.Digest[:], digest) != len(r.Digest) {
			return r, fmt.Errorf("the digest of revocation %d is too short", r.Seq)
		}
		r.At = pgvalue.Micro(r.At)
		return r, nil
	})
	if err != nil {
		return nil, after, pgquery.Failure(ctx, err)
	}
	if len(list) > 0 {
		after = list[len(list)-1].Seq
	}
	return list, after, nil
}
