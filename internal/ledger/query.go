package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// MaxPage bounds how many rows one listing returns.
const MaxPage = 500

// Page asks for a part of a listing.
type Page struct {
	After string // the cursor that the previous part ended with; "" begins
	Limit int    // at most so many rows; 0 or more than MaxPage means MaxPage
}

// Size returns the number of rows that the page asks for, from 1 to MaxPage.
func (p Page) Size() int {
	if p.Limit <= 0 || p.Limit > MaxPage {
		return MaxPage
	}
	return p.Limit
}

// Cursor reads the cursor of a listing whose rows have numbers; an empty one is
// where the listing begins. Errors: ErrInvalid for one that no listing gave, and
// ctx's.
func Cursor(ctx context.Context, text string, begin int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if text == "" {
		return begin, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: cursor %q is none that a listing gave", ErrInvalid, text)
	}
	return n, nil
}

// MaxScan bounds how many transactions one part of a list of charges reads, of
// which a filter may leave few or none.
const MaxScan = 20 * MaxPage

// ChargeFilter chooses charges to list, newest first. What is "" or zero chooses
// all.
type ChargeFilter struct {
	Page
	Account  string    // only those that this account (id) paid
	Provider string    // only those that this account (id) earned
	Key      string    // only those by the key of this id
	Server   string    // only those of this server
	Tool     string    // only those of what was called so
	Since    time.Time // only those that were captured then or later
	Until    time.Time // only those that were captured before
}

// Selective reports whether the filter may leave out charges of its Account.
func (f *ChargeFilter) Selective() bool {
	rest := *f
	rest.Page, rest.Account = Page{}, ""
	return rest != ChargeFilter{}
}

// ReadTo is the time at which a listing by Since ends: it is over with a whole part,
// of MaxScan transactions, that is older. There is no index by time, and times
// follow the order of the journal but for clocks that were set back.
func (f *ChargeFilter) ReadTo() time.Time {
	if f.Since.IsZero() {
		return time.Time{}
	}
	return f.Since.Add(-24 * time.Hour)
}

// KeyFilter chooses keys to list, in the order of their creation. The zero
// KeyFilter chooses all, also those that have ended.
type KeyFilter struct {
	Page
	Account string // only those of this account (id); "" means all
	Kind    string // only those of the kind of this name; "" means all
	// ExpiresBy chooses those that can be used now, being neither deleted nor
	// disabled nor expired, and expire at that time or before. Zero means all.
	ExpiresBy time.Time
}

// Verification is what replaying the books found.
type Verification struct {
	Accounts     int64    // how many were compared
	Transactions int64    // how many were replayed
	Differences  []string // each a sentence; empty when the books balance
	// Archived is where the replay began, if older transactions were archived,
	// and Opening the sum of the balances there; see SumBalances.
	Archived Archived
	Opening  Sum
}

// Spent is what was captured in the current day and month, UTC, refunds aside. It
// is what caps are held against, without what is reserved.
type Spent struct {
	Day   Amount
	Month Amount
}

// Usage is what an account has spent, and of that the keys of one lineage.
type Usage struct {
	Account Spent
	Key     Spent
}
