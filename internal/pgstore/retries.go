package pgstore

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Bounds of what is kept for callers that call again.
const (
	// maxRetries bounds the calls of a day that may be repeated. Beyond it,
	// calls with a key are refused: to forget one would run it a second time.
	// The number of all is taken every half minute, that of an account is exact.
	maxRetries = 1 << 22
	// maxRetriesEach bounds those of one account, so that it locks nobody out.
	maxRetriesEach = maxRetries / 4
	// DefaultAnswers bounds the bodies of kept answers, in bytes.
	DefaultAnswers = 1 << 30
)

// first reads the kept answer of a captured call, for one that repeats it.
func (s *Store) first(ctx context.Context, charge uuid.UUID, mark *uuid.UUID, retry *ledger.Idempotency) (*ledger.StoredResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var fingerprint, body []byte
	var size int
	err := s.row(ctx, `SELECT fingerprint, size, body FROM retry WHERE mark = $1 AND charge = $2`, []any{asUUID(*mark), asUUID(charge)},
		&fingerprint, &size, &body)
	if err = found(ctx, err); errors.Is(err, ledger.ErrNotFound) {
		return nil, ledger.ErrGone // forgotten this very moment
	}
	switch {
	case err != nil:
		return nil, err
	case !bytes.Equal(fingerprint, retry.Fingerprint[:]):
		return nil, ledger.ErrReused
	case size == 0:
		return nil, ledger.ErrGone
	}
	rows, err := s.charges(ctx, `WHERE t.id = $1`, asUUID(charge))
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
