package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxPage bounds the rows of one part of a listing.
const MaxPage = 500

// Page selects a part of a listing.
type Page struct {
	After string // the cursor from the previous part; "" for the first
	Limit int    // maximum number of rows; 0 or more than MaxPage means MaxPage
	Sort  Sort   // "" means the order that the listing has by itself
}

// Sort is the order of a listing. A listing may support only some of the orders.
type Sort string

// The orders of listings. Names are compared without case (ASCII). Rows with the same
// name are in the order of their creation.
const (
	ByCreation     Sort = "created"
	ByCreationDown Sort = "-created"
	ByName         Sort = "name"
	ByNameDown     Sort = "-name"
	ByTime         Sort = "time" // in the order of the journal
	ByTimeDown     Sort = "-time"
)

// Down reports whether the order is descending.
func (s Sort) Down() bool { return strings.HasPrefix(string(s), "-") }

// ByName reports whether the order is by name, in one direction or the other.
func (s Sort) ByName() bool { return s == ByName || s == ByNameDown }

// OneOf returns ErrInvalid unless the order is "" or one of the given orders.
func (s Sort) OneOf(known ...Sort) error {
	if s == "" || slices.Contains(known, s) {
		return nil
	}
	return fmt.Errorf("%w: sort %q is not known: want one of %q", ErrInvalid, string(s), known)
}

// Position parses the page's cursor. If the cursor is empty, Position returns begin. A
// cursor is only valid in the order in which it was made, because other rows follow in
// another order. The errors are those of [Cursor].
func (p Page) Position(ctx context.Context, begin int64) (int64, error) {
	if p.After == "" || p.Sort == "" {
		return Cursor(ctx, p.After, begin)
	}
	n, ok := strings.CutPrefix(p.After, string(p.Sort)+".")
	if !ok {
		return 0, fmt.Errorf("%w: cursor %q does not come from a listing sorted by %q: begin without a cursor", ErrInvalid, p.After, string(p.Sort))
	}
	return Cursor(ctx, n, begin)
}

// CursorAt returns the cursor of the page that begins after row number n.
func (p Page) CursorAt(n int64) string {
	if p.Sort == "" {
		return strconv.FormatInt(n, 10)
	}
	return string(p.Sort) + "." + strconv.FormatInt(n, 10)
}

// Size returns the maximum number of rows, from 1 to MaxPage.
func (p Page) Size() int {
	if p.Limit <= 0 || p.Limit > MaxPage {
		return MaxPage
	}
	return p.Limit
}

// Cursor parses the cursor of a listing of numbered rows. If the cursor is empty,
// Cursor returns begin. If the cursor is malformed, the error is ErrInvalid. If ctx has
// ended, the error is that of ctx.
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

// AuditFilter selects audit records to list, newest first. Zero fields match all
// records.
type AuditFilter struct {
	Page
	Actor  string    // see Audit
	Action string    // see Audit
	Target string    // see Audit
	Key    string    // id of a key: records about the key, and the record of the rotation that made the key
	Since  time.Time // only records of this time or later
	Until  time.Time // only records before this time
}

// MaxScan bounds the transactions read for one part of a list of charges. Without it,
// a filter that matches few charges would read the whole journal.
const MaxScan = 8 * MaxPage

// ChargeFilter selects charges to list, newest first unless Sort is ByTime. Zero fields
// match all charges.
type ChargeFilter struct {
	Page
	Account  string    // id of the paying account
	Provider string    // id of the earning account
	Key      string    // id of the paying key
	Server   string    // name of the server
	Tool     string    // see Order
	Since    time.Time // only charges captured at this time or later
	Until    time.Time // only charges captured before this time
}

// Selective reports whether the filter may exclude charges of its Account.
func (f *ChargeFilter) Selective() bool {
	rest := *f
	rest.Page, rest.Account = Page{}, ""
	return rest != ChargeFilter{}
}

// CheckSort returns ErrInvalid for an order that the listing does not have. Charges of
// one account can only be listed newest first, because SQLite has no index for the
// other order.
func (f *ChargeFilter) CheckSort() error {
	if f.Sort == ByTime && (f.Account != "" || f.Provider != "") {
		return fmt.Errorf("%w: the charges of one account are listed newest first only: leave sort out", ErrInvalid)
	}
	return f.Sort.OneOf(ByTime, ByTimeDown)
}

// readOn is how far beyond Since or Until a listing reads on.
const readOn = 24 * time.Hour

// Past reports whether a listing can stop reading, because all transactions that it has
// read for a part are out of the filter's range of time by more than readOn. nearest is
// the transaction time that is closest to that range. Past is needed because the
// journal has no index by time. The listing reads on for readOn, because the journal is
// not sorted by time where a clock was set back.
func (f *ChargeFilter) Past(nearest time.Time) bool {
	if f.Sort == ByTime {
		return !f.Until.IsZero() && nearest.After(f.Until.Add(readOn))
	}
	return !f.Since.IsZero() && nearest.Before(f.Since.Add(-readOn))
}

// KeyFilter selects keys to list, in the order of their creation. Zero fields match
// all keys, even unusable ones.
type KeyFilter struct {
	Page
	Account string // id of the account
	Kind    string // name of a kind of keys, such as "agent"; "" for all kinds but tokens
	// ExpiresBy selects keys that are usable now (not deleted, disabled or expired)
	// and expire at this time or before.
	ExpiresBy time.Time
}

// Verification is the result of replaying the books.
type Verification struct {
	Accounts     int64    // number of compared accounts
	Transactions int64    // number of replayed transactions
	Differences  []string // one sentence for each difference; empty if the books balance
	// Archived describes the archived transactions. The replay begins after them.
	// Opening is a hash of the balances at that point; see SumBalances.
	Archived Archived
	Opening  Sum
}

// Sizes describe how much a store keeps.
type Sizes struct {
	Bytes map[string]int64 // by part, such as "database" or "wal"
	Rows  map[string]int64 // by table, such as "transactions"; may be estimates
	// DiskFree and Disk are bytes of the store's file system. Both are 0 if they are
	// unknown.
	DiskFree, Disk int64
	Nodes          int // number of processes that hold a lease of the store
}

// Spent has the sums of the charges in the current day and month, UTC. Refunds are
// not subtracted, and open reservations are not included. Caps bound these sums.
type Spent struct {
	Day   Amount
	Month Amount
}

// Usage has the spending of an account, and separately the spending by the keys of one
// lineage of the account.
type Usage struct {
	Account Spent
	Key     Spent
}
