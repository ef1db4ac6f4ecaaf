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
	// mostFollowed bounds the revocations of one answer.
	mostFollowed = 1000
	// keepRevocations is how long they are kept, and nodes that are gone: much
	// longer than a lease, so that a node may be away for a while.
	keepRevocations = time.Hour
	// confirmEvery is how often the nodes are looked at that have not read yet: at
	// first, and at the most.
	confirmEvery, confirmSeldom = time.Millisecond, 20 * time.Millisecond
	// listenAgain bounds how soon a connection that has broken is made anew.
	listenAgain = time.Second
)

// Follow lets the node believe what it knows of keys for the time of the lease
// from the moment of the call, and returns what was changed after the position
// that it has seen; a negative one begins with what comes next. The database's
// clock judges leases. Errors wrap ledger.ErrUnavailable.
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
		if position == nil { // there is nothing, or the position is not one of this log
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

// stillBehind counts nodes with a lease that have not read so far. firstBehind
// also waits for those that are renewing theirs at the moment: such a statement
// may have read the log before the change, and its lease is seen only once it is
// committed. One that begins later reads the change.
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

// Confirm returns when each node but this one has seen all that was changed
// before the call, or has no lease any more. An error says that this is not
// known.
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

// Changed returns what is closed once there may be something new for Follow.
func (s *Store) Changed() <-chan struct{} { return s.changed.Wait() }

// tell closes what Changed has returned.
func (s *Store) tell() { s.changed.Notify() }

// listen hears of revocations until the store closes, on a connection of its
// own. While there is none, nothing is told; polling finds out.
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
		_ = conn.Close(ctx) // it is given up in any case
	}()
	if _, err := conn.Exec(s.ctx, `LISTEN farebox_revocation`); err != nil {
		return err
	}
	s.tell() // of what came before
	for {
		if _, err := conn.WaitForNotification(s.ctx); err != nil {
			return err
		}
		s.tell()
	}
}
