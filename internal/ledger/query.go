package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// MaxPage bounds the rows of one part of a listing.
const MaxPage = 500

// Page selects a part of a listing.
type Page struct {
	After string // the cursor from the previous part; "" for the first
	Limit int    // maximum number of rows; 0 or more than MaxPage means MaxPage
}

// Size returns the maximum number of rows, from 1 to MaxPage.
func (p Page) Size() int {
	if p.Limit <= 0 || p.Limit > MaxPage {
		return MaxPage
	}
	return p.Limit
}

// Cursor parses the cursor of a listing of numbered rows. An empty one is begin.
// Errors: ErrInvalid for a malformed one, and ctx's.
func Cursor(ctx context.Context, text string, begin int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if text == "" {
		return begin, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: cursor %q does not come from a listing", ErrInvalid, text)
	}
	return n, nil
}

// MaxScan bounds the transactions read for one part of a list of charges, of which
// few or none may match the filter.
const MaxScan = 20 * MaxPage

// ChargeFilter selects charges to list, newest first. Zero fields match all charges.
type ChargeFilter struct {
	Page
	Account  string    // id of the paying account
	Provider string    // id of the earning account
	Key      string    // id of the paying key
	Server   string    // name of the server
	Tool     string    // as in Order
	Since    time.Time // captured then or later
	Until    time.Time // captured before
}

// Selective reports whether the filter may exclude charges of its Account.
func (f *ChargeFilter) Selective() bool {
	rest := *f
	rest.Page, rest.Account = Page{}, ""
	return rest != ChargeFilter{}
}

// ReadTo returns the time at which a listing by Since ends: once a whole part of
// MaxScan transactions is older. There is no index by time, and the journal is
// sorted by time except after a clock was set back.
func (f *ChargeFilter) ReadTo() time.Time {
	if f.Since.IsZero() {
		return time.Time{}
	}
	return f.Since.Add(-24 * time.Hour)
}

// KeyFilter selects keys to list, in the order of their creation. Zero fields match
// all keys, even unusable ones.
type KeyFilter struct {
	Page
	Account string // id of the account
	Kind    string // name of the kind
	// ExpiresBy selects keys that are usable now (neither deleted nor disabled nor
	// expired) and expire at that time or before.
	ExpiresBy time.Time
}

// Verification is the result of replaying the books.
type Verification struct {
	Accounts     int64    // number of compared accounts
	Transactions int64    // number of replayed transactions
	Differences  []string // each a sentence; empty when the books balance
	// Archived describes the archived transactions, after which the replay began,
	// and Opening is the sum of the balances there; see SumBalances.
	Archived Archived
	Opening  Sum
}

// Spent is the sum of the charges in the current day and month, UTC, before refunds
// and without open reservations. Caps bound it.
type Spent struct {
	Day   Amount
	Month Amount
}

// Usage is the spending of an account, and the part by the keys of one lineage.
type Usage struct {
	Account Spent
	Key     Spent
}
