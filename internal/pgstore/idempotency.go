package pgstore

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
)

// Bounds of idempotency keys and stored responses.
const (
	// maxKeys bounds the idempotency keys of a day. Beyond this bound the store refuses
	// calls with a key. The store drops no keys, because then a call could run a second
	// time. The count of all keys is updated every half minute; an account's count is
	// always exact.
	maxKeys = 1 << 22
	// maxKeysPerAccount keeps one account from using up maxKeys.
	maxKeysPerAccount = maxKeys / 4
	// DefaultAnswers bounds the stored responses, in bytes.
	DefaultAnswers = 1 << 30
)

// storedResponse returns the stored response of a captured call.
func (s *Store) storedResponse(ctx context.Context, charge pgtype.UUID, hash uuid.UUID, i *ledger.Idempotency) (*ledger.StoredResponse, error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	var fingerprint, body []byte
	var size int
	err := s.db.Row(ctx, `SELECT fingerprint, size, body FROM idempotency WHERE hash = $1 AND charge = $2`, []any{asUUID(hash), charge},
		&fingerprint, &size, &body)
	if err = pgquery.Found(ctx, err); errors.Is(err, ledger.ErrNotFound) {
		return nil, ledger.ErrGone // the idempotency key has expired since the call found it
	}
	switch {
	case err != nil:
		return nil, err
	case !bytes.Equal(fingerprint, i.Fingerprint[:]):
		return nil, ledger.ErrReused
	case size == 0:
		return nil, ledger.ErrGone
	}
	rows, err := s.charges(ctx, `WHERE t.id = $1`, charge)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ledger.ErrGone
	}
	c := rows[0].charge
	a, err := s.account(ctx, `a.id = $2`, c.Account)
	if err != nil {
		return nil, err
	}
	return &ledger.StoredResponse{Charge: c, Balance: a.Balance(c.Test), Body: body}, nil
}
