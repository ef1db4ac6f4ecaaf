package pgstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	chargePrefix  = "chg_"
	otherPrefix   = "txn_"
	accountPrefix = "acct_"
	maxID         = 64
)

// parseID returns the UUID of an id that begins with prefix. It accepts only the
// canonical form of a UUID, so that an id has just one spelling.
func parseID(prefix, id string) (uuid.UUID, error) {
	text, ok := strings.CutPrefix(id, prefix)
	u, err := uuid.Parse(text)
	if !ok || err != nil || u.String() != text {
		return uuid.UUID{}, fmt.Errorf("id %q is not %s and a UUID in lower case", id, prefix)
	}
	return u, nil
}

// parseCharge parses the id of a charge. A malformed id gives ledger.ErrNotFound.
func parseCharge(ctx context.Context, id string) (uuid.UUID, error) {
	if err := ctx.Err(); err != nil {
		return uuid.UUID{}, err
	}
	u, err := parseID(chargePrefix, id)
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("charge %q: %w", id, ledger.ErrNotFound)
	}
	return u, nil
}
