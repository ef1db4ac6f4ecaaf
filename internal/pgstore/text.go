package pgstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	chargePrefix  = "chg_"
	otherPrefix   = "txn_"
	accountPrefix = "acct_"
	maxID         = 64
)

// escape begins texts that PostgreSQL cannot hold as they are.
const escape = "\x01"

// pack returns the form in which a text is stored. PostgreSQL takes no zero
// bytes and nothing but UTF-8; a text with such is stored as a literal of Go,
// so that no name that somebody else has chosen can fail a batch.
func pack(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.HasPrefix(s, escape) {
		return s
	}
	return escape + strconv.QuoteToASCII(s)
}

// unpack is the text that pack was given.
func unpack(s string) string {
	literal, packed := strings.CutPrefix(s, escape)
	if !packed {
		return s
	}
	text, err := strconv.Unquote(literal)
	if err != nil {
		return s
	}
	return text
}

// parseID reads an id of that prefix and a UUID in its canonical form, so that
// an id has one spelling only.
func parseID(prefix, id string) (uuid.UUID, error) {
	text, ok := strings.CutPrefix(id, prefix)
	u, err := uuid.Parse(text)
	if !ok || err != nil || u.String() != text {
		return uuid.UUID{}, fmt.Errorf("id %q is not %s and a UUID in lower case", id, prefix)
	}
	return u, nil
}

// parseCharge takes an id that can be none for one that does not exist.
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

// column is how a time is stored: at a microsecond, null for the zero time.
func column(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	at := micro(t)
	return &at
}

// ofColumn is the time that column was given.
func ofColumn(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return micro(*t)
}

// micro is the time at the resolution of the store.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}
