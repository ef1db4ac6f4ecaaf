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

// Cursor parses the cursor of a listing of numbered rows. For an empty cursor it
// returns the parameter begin. It returns ErrInvalid for a malformed cursor, and the
// error of ctx if ctx has ended.
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

// MaxScan bounds the transactions read for one part of a list of charges. Without it,
// a filter that matches few charges would read the whole journal.
const MaxScan = 20 * MaxPage

// ChargeFilter selects charges to list, newest first. Zero fields match all charges.
type ChargeFilter struct {
	Page
	Account  string    // id of the paying account
	Provider string    // id of the earning account
	Key      string    // id of the paying key
	Server   string    // name of the server
	Tool     string    // as in Order
	Since    time.Time // captured at this time or later
	Until    time.Time // captured before this time
}

// Selective reports whether the filter may exclude charges of its Account.
func (f *ChargeFilter) Selective() bool {
	rest := *f
	rest.Page, rest.Account = Page{}, ""
	return rest != ChargeFilter{}
}

// ReadTo returns the time at which a listing with Since stops reading: a day before
// Since. The listing needs such an end because the journal has no index by time. It
// stops as soon as all MaxScan transactions that it read for a part are older than
// ReadTo. The day is needed because the journal is not sorted by time where a clock
// was set back. Without Since, ReadTo returns the zero time.
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
	// ExpiresBy selects keys that are usable now (not deleted, disabled or expired)
	// and expire at this time or before.
	ExpiresBy time.Time
}

// Verification is the result of replaying the books.
type Verification struct {
	Accounts     int64    // number of compared accounts
	Transactions int64    // number of replayed transactions
	Differences  []string // each a sentence; empty when the books balance
	// Archived describes the archived transactions. The replay begins after them.
	// Opening is a hash of the balances at that point; see SumBalances.
	Archived Archived
	Opening  Sum
}

// Spent has the sums of the charges in the current day and month, UTC. Refunds are
// not subtracted, and open reservations are not included. Caps bound these sums.
type Spent struct {
	Day   Amount
	Month Amount
}

// Usage is the spending of an account, and the part of it by the keys of one lineage.
type Usage struct {
	Account Spent
	Key     Spent
}
