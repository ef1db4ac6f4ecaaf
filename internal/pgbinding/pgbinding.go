// Package pgbinding keeps the bindings of handles and the locks of request ids, which all
// gateways on one PostgreSQL share.
package pgbinding

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// Options are the parts of the store that Handles uses. All fields must be set.
type Options struct {
	DB    *pgquery.DB
	Shift func() int64 // microseconds that the clock is ahead of the server's
}

// Handles has the methods of a store that concern bindings and locks. It is safe for
// concurrent use.
type Handles struct{ o Options }

// New returns the handles of a store.
func New(o Options) *Handles { return &Handles{o} }

// Bind stores a binding, and replaces the server's earlier binding of the same
// handle. When it returns, the binding is durable. Errors: ledger.ErrInvalid for a
// payload that is too long, ErrUnavailable.
func (h *Handles) Bind(ctx context.Context, b ledger.Binding) error {
	if len(b.Payload) > ledger.MaxBinding {
		return fmt.Errorf("%w: the payload of a binding is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBinding)
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	err := h.o.DB.Exec(ctx, `INSERT INTO binding (handle_hash, server, account, until, payload) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (handle_hash, server) DO UPDATE SET account = excluded.account, until = excluded.until, payload = excluded.payload`,
		pgtype.UUID{Bytes: b.HandleHash, Valid: true}, pgvalue.Pack(b.Server), pgvalue.Pack(b.Account), pgvalue.Micro(b.Until), append([]byte{}, b.Payload...))
	return pgquery.Failure(ctx, err)
}

// Binding returns the server's binding of a handle. Errors: ledger.ErrNotFound if
// the binding does not exist or has expired, ErrUnavailable.
func (h *Handles) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Binding{}, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	b := ledger.Binding{Server: server, HandleHash: m}
	var until time.Time
	err := h.o.DB.Row(ctx, `SELECT account, until, payload FROM binding WHERE handle_hash = $1 AND server IN ($2, '') AND until > moved_clock($3)
		ORDER BY server DESC LIMIT 1`, // an empty server finds bindings from schema versions before 6, which name no server
		[]any{pgtype.UUID{Bytes: m, Valid: true}, pgvalue.Pack(server), h.o.Shift()}, &b.Account, &until, &b.Payload)
	if err != nil {
		return ledger.Binding{}, pgquery.Found(ctx, err)
	}
	b.Account, b.Until = pgvalue.Unpack(b.Account), pgvalue.Micro(until)
	return b, nil
}

// LockRequestID locks the id with the hash m on all nodes for at most ttl, or returns
// false if the id is locked already. After an error, which wraps ledger.ErrUnavailable,
// the id may be locked.
func (h *Handles) LockRequestID(ctx context.Context, m ledger.HandleHash, ttl time.Duration) (bool, error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	tag, err := h.o.DB.Pool.Exec(ctx, `INSERT INTO request_lock AS l (hash, until) VALUES ($1, clock_timestamp() + $2::interval)
		ON CONFLICT (hash) DO UPDATE SET until = excluded.until WHERE l.until < clock_timestamp()`, m[:], ttl)
	if err != nil {
		return false, pgquery.Failure(ctx, err)
	}
	return tag.RowsAffected() == 1, nil
}

// UnlockRequestID unlocks the id with the hash m after the given time, or at once if
// the time is zero.
func (h *Handles) UnlockRequestID(ctx context.Context, m ledger.HandleHash, keep time.Duration) error {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	if keep > 0 {
		return pgquery.Failure(ctx, h.o.DB.Exec(ctx, `UPDATE request_lock SET until = clock_timestamp() + $2::interval WHERE hash = $1`, m[:], keep))
	}
	return pgquery.Failure(ctx, h.o.DB.Exec(ctx, `DELETE FROM request_lock WHERE hash = $1`, m[:]))
}
