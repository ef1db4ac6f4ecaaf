package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// Bind stores a binding, and replaces the server's earlier binding of the same
// handle. When it returns, the binding is durable. Errors: ledger.ErrInvalid for a
// payload that is too long, ErrUnavailable.
func (s *Store) Bind(ctx context.Context, b ledger.Binding) error {
	if len(b.Payload) > ledger.MaxBinding {
		return fmt.Errorf("%w: the payload of a binding is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBinding)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := s.exec(ctx, `INSERT INTO binding (handle_hash, server, account, until, payload) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (handle_hash, server) DO UPDATE SET account = excluded.account, until = excluded.until, payload = excluded.payload`,
		asUUID(uuid.UUID(b.HandleHash)), pgvalue.Pack(b.Server), pgvalue.Pack(b.Account), pgvalue.Micro(b.Until), append([]byte{}, b.Payload...))
	return failure(ctx, err)
}

// Binding returns the server's binding of a handle. Errors: ledger.ErrNotFound if
// the binding does not exist or has expired, ErrUnavailable.
func (s *Store) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Binding{}, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	b := ledger.Binding{Server: server, HandleHash: m}
	var until time.Time
	err := s.row(ctx, `SELECT account, until, payload FROM binding WHERE handle_hash = $1 AND server IN ($2, '') AND until > moved_clock($3)
		ORDER BY server DESC LIMIT 1`, // the server '' finds bindings from schema versions before 6, which have no server
		[]any{asUUID(uuid.UUID(m)), pgvalue.Pack(server), s.shift()}, &b.Account, &until, &b.Payload)
	if err != nil {
		return ledger.Binding{}, found(ctx, err)
	}
	b.Account, b.Until = pgvalue.Unpack(b.Account), pgvalue.Micro(until)
	return b, nil
}
