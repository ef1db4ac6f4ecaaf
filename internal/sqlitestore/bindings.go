package sqlitestore

import (
	"context"
	"fmt"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	upsertBinding = `INSERT INTO binding (handle_hash, server, account, until, payload) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (handle_hash, server) DO UPDATE SET account = excluded.account, until = excluded.until, payload = excluded.payload`
	// The condition server = '' finds bindings from before schema version 3, which name
	// no server.
	selectBinding = `SELECT account, until, payload FROM binding WHERE handle_hash = ? AND server IN (?, '') ORDER BY server DESC LIMIT 1`

	maxBindingsPerSweep = 500
)

// Bind stores a binding in place of any earlier binding with the same server and handle
// hash. It returns as soon as the binding is durable. Errors: ledger.ErrInvalid for a
// payload that is too long, ledger.ErrUnavailable.
func (s *Store) Bind(ctx context.Context, b ledger.Binding) error {
	if len(b.Payload) > ledger.MaxBinding {
		return fmt.Errorf("%w: the payload of a binding is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBinding)
	}
	payload := b.Payload
	if payload == nil {
		payload = []byte{}
	}
	return s.do(ctx, func(t *tx) error {
		_, err := t.exec(upsertBinding, b.HandleHash[:], b.Server, b.Account, micros(b.Until), payload)
		return err
	})
}

// Binding returns the server's binding with the given handle hash. Errors:
// ledger.ErrNotFound if the binding is unknown or expired, ledger.ErrUnavailable.
func (s *Store) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Binding{}, err
	}
	b := ledger.Binding{Server: server, HandleHash: m}
	var until int64
	if err := s.readers.QueryRowContext(background(), selectBinding, m[:], server).Scan(&b.Account, &until, &b.Payload); err != nil {
		return ledger.Binding{}, readError(err)
	}
	if b.Until = fromMicros(until); !s.now().Before(b.Until) {
		return ledger.Binding{}, ledger.ErrNotFound
	}
	return b, nil
}

// bindingsDue reports whether there are expired bindings to delete.
func (w *writer) bindingsDue() bool {
	var one int
	return (&tx{w: w}).queryRow(`SELECT 1 FROM binding WHERE until <= ? LIMIT 1`, micros(w.now())).Scan(&one) == nil
}

// sweepBindings deletes expired bindings.
func (t *tx) sweepBindings() error {
	_, err := t.exec(`DELETE FROM binding WHERE (handle_hash, server) IN (SELECT handle_hash, server FROM binding WHERE until <= ? LIMIT ?)`, micros(t.w.now()), maxBindingsPerSweep)
	return err
}
