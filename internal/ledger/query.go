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

// ChargeFilter chooses charges to list, newest first.
type ChargeFilter struct {
	Page
	Account string // only those that this account (id) paid; "" means all
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
