package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

const (
	// mostFollowed bounds the revocations that one call returns.
	mostFollowed = 1000
	// keepRevocations is how long revocations are kept, and nodes after their lease:
	// much longer than a lease, so that a node may be away for a while.
	keepRevocations = time.Hour
	// Confirm polls for nodes that have not read a change yet at intervals that grow
	// from confirmEvery to confirmSeldom.
	confirmEvery, confirmSeldom = time.Millisecond, 20 * time.Millisecond
	// listenAgain bounds the pause before a broken connection is replaced.
	listenAgain = time.Second
)

// Follow renews the node's lease, for which it may trust its cached keys from the
// moment of the call, and returns the changes after seen, the position that it has
// read; a negative one starts at the end of the log. The database's clock judges
// leases. Errors wrap ledger.ErrUnavailable.
func (s *Store) Follow(ctx context.Context, node string, seen int64, lease time.Duration) (r keys.Revocations, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.query(ctx, `SELECT seq, digest, newest, oldest FROM follow($1, $2, $3, $4)`, node, seen, lease, mostFollowed)
	if err != nil {
		return r, failure(ctx, err)
	}
	r.Position = seen
	var position *int64
	var digest []byte
	var newest, oldest int64
	_, err = pgx.ForEachRow(rows, []any{&position, &digest, &newest, &oldest}, func() error {
		if position == nil { // no change, or the position is not one of this log
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
		return keys.Revocations{}, failure(ctx, err)
	}
	r.More = len(r.Digests) == mostFollowed
	return r, nil
}

// stillBehind counts nodes with a lease that have not read so far. firstBehind also
// waits for renewals in progress: such a statement may have read the log before the
// change, and its lease is visible only once it commits. Later ones read the change.
const (
	stillBehind = `SELECT count(*) FROM node WHERE id <> $1 AND seen < $2 AND lease_until > clock_timestamp()`
	firstBehind = `SELECT count(*) FILTER (WHERE n.lease_until > clock_timestamp())
		FROM (SELECT lease_until FROM node WHERE id <> $1 AND seen < $2 ORDER BY id FOR SHARE) n`
)

// Leave ends the node's lease, if it has one.
func (s *Store) Leave(ctx context.Context, node string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return failure(ctx, s.exec(ctx, `DELETE FROM node WHERE id = $1`, node))
}

// Confirm waits until each other node has seen all changes from before the call, or
// has no lease. After an error this is unknown.
func (s *Store) Confirm(ctx context.Context, node string) error {
	var position int64
	if err := s.row(ctx, `SELECT coalesce(max(seq), 0) FROM revocation`, nil, &position); err != nil {
		return failure(ctx, err)
	}
	query := firstBehind
	for every := confirmEvery; ; every = min(2*every, confirmSeldom) {
		var behind int
		if err := s.row(ctx, query, []any{node, position}, &behind); err != nil {
			return failure(ctx, err)
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

// Changed returns a channel that is closed once Follow may have news.
func (s *Store) Changed() <-chan struct{} { return s.changed.Wait() }

// notify closes the channel that Changed has returned.
func (s *Store) notify() { s.changed.Notify() }

// listen waits for notifications of revocations on a connection of its own until the
// store closes. While that is broken, nodes find changes by polling.
func (s *Store) listen() {
	for s.ctx.Err() == nil {
		err := s.hear()
		if s.ctx.Err() != nil {
			return
		}
		s.o.Logger.Debug("listening for changes of keys broke off", "error", err)
		_ = clock.Sleep(s.ctx, rand.N(listenAgain)) // the loop checks the context
	}
}

// hear listens on one connection until it breaks.
func (s *Store) hear() error {
	config := s.pool.Config().ConnConfig
	ctx, cancel := context.WithTimeout(s.ctx, connectTime)
	conn, err := pgx.ConnectConfig(ctx, config)
	cancel()
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), margin)
		defer cancel()
		_ = conn.Close(ctx) // the connection is lost in any case
	}()
	if _, err := conn.Exec(s.ctx, `LISTEN farebox_revocation`); err != nil {
		return err
	}
	s.notify() // changes before LISTEN sent no notification
	for {
		if _, err := conn.WaitForNotification(s.ctx); err != nil {
			return err
		}
		s.notify()
	}
}
