package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

const (
	// mostFollowed bounds the revocations that one call of Follow returns.
	mostFollowed = 1000
	// keepRevocations is how long a revocation is kept, and how long the row of a
	// node is kept after its lease. It is much longer than a lease, so that a node
	// can catch up after an absence.
	keepRevocations = time.Hour
	// confirmEvery is the first interval at which Confirm polls; the intervals
	// double up to confirmSeldom.
	confirmEvery, confirmSeldom = time.Millisecond, 20 * time.Millisecond
	// listenAgain bounds the pause before listen replaces a broken connection.
	listenAgain = time.Second
)

// Follow renews the node's lease and returns the revocations after the given position,
// up to which the node has read the log. If the position is negative, Follow begins at
// the end of the log. From the call on, the node may trust its cached keys for the
// given time. For other nodes, the lease ends by the database's clock. Errors wrap
// ledger.ErrUnavailable.
func (s *Store) Follow(ctx context.Context, node string, seen int64, lease time.Duration) (r keys.Revocations, err error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, `SELECT seq, digest, newest, oldest FROM follow($1, $2, $3, $4)`, node, seen, lease, mostFollowed)
	if err != nil {
		return r, pgquery.Failure(ctx, err)
	}
	r.Position = seen
	var position *int64
	var digest []byte
	var newest, oldest int64
	_, err = pgx.ForEachRow(rows, []any{&position, &digest, &newest, &oldest}, func() error {
		if position == nil { // the row has only the range of the log, because the log has no later change, or no longer has the node's position
			if seen < 0 || seen > newest || seen < oldest-1 {
				r.Position, r.Gap = newest, seen >= 0
			}
			return nil
		}
		var d keys.Digest
		if len(digest) != len(d) {
			return fmt.Errorf("the digest of revocation %d is not %d bytes long", *position, len(d))
		}
		copy(d[:], digest)
		r.Digests, r.Position = append(r.Digests, d), *position
		return nil
	})
	if err != nil {
		return keys.Revocations{}, pgquery.Failure(ctx, err)
	}
	r.More = len(r.Digests) == mostFollowed
	return r, nil
}

// stillBehind counts the other nodes that hold a lease and have not read up to $2.
// firstBehind also waits for renewals in progress. Such a renewal may have read the log
// before the change, and its lease is invisible until the renewal commits. A renewal
// that begins later sees the change.
const (
	stillBehind = `SELECT count(*) FROM node WHERE id <> $1 AND seen < $2 AND lease_until > clock_timestamp()`
	firstBehind = `SELECT count(*) FILTER (WHERE n.lease_until > clock_timestamp())
		FROM (SELECT lease_until FROM node WHERE id <> $1 AND seen < $2 ORDER BY id FOR SHARE) n`
)

// Leave ends the node's lease, if the node has a lease.
func (s *Store) Leave(ctx context.Context, node string) error {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	return pgquery.Failure(ctx, s.db.Exec(ctx, `DELETE FROM node WHERE id = $1`, node))
}

// Confirm waits until every other node has read all changes made before the call, or
// holds no lease. After an error, a node may still hold a lease without having read the
// changes.
func (s *Store) Confirm(ctx context.Context, node string) error {
	var position int64
	ask := func(query string, args []any, into any) error { // bounds each query, but not the wait as a whole
		ctx, cancel := pgquery.Bounded(ctx)
		defer cancel()
		return pgquery.Failure(ctx, s.db.Row(ctx, query, args, into))
	}
	if err := ask(`SELECT coalesce(max(seq), 0) FROM revocation`, nil, &position); err != nil {
		return err
	}
	query := firstBehind
	for every := confirmEvery; ; every = min(2*every, confirmSeldom) {
		var behind int
		if err := ask(query, []any{node, position}, &behind); err != nil {
			return err
		}
		query = stillBehind
		if behind == 0 {
			return nil
		}
		if err := clock.Sleep(ctx, every); err != nil {
			return err
		}
	}
}

// Changed returns a channel that is closed when Follow may have new changes.
func (s *Store) Changed() <-chan struct{} { return s.changed.Wait() }

// notify closes the channels that Changed has returned.
func (s *Store) notify() { s.changed.Notify() }

// listen waits for notifications of revocations on a dedicated connection until the
// store closes. While the connection is broken, the node finds changes by polling.
func (s *Store) listen() {
	for s.ctx.Err() == nil {
		err := s.hear()
		if s.ctx.Err() != nil {
			return
		}
		s.o.Logger.Debug("listening for changes of keys broke off", "error", err)
		_ = clock.Sleep(s.ctx, rand.N(listenAgain)) // the loop condition checks the context
	}
}

// hear listens on one connection until the connection breaks.
func (s *Store) hear() error {
	config := s.pool.Config().ConnConfig
	ctx, cancel := context.WithTimeout(s.ctx, connectTime)
	conn, err := pgx.ConnectConfig(ctx, config)
	cancel()
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), pgquery.Margin)
		defer cancel()
		_ = conn.Close(ctx) // an error does not matter, because the connection is not used again
	}()
	if _, err := conn.Exec(s.ctx, `LISTEN farebox_revocation`); err != nil {
		return err
	}
	s.notify() // this connection got no notification of changes before LISTEN
	for {
		if _, err := conn.WaitForNotification(s.ctx); err != nil {
			return err
		}
		s.notify()
	}
}
