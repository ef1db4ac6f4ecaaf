package ledger

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

// ChargeFilter chooses charges to list, newest first.
type ChargeFilter struct {
	Page
	Account string // only those that this account (id) paid; "" means all
}

// Verification is what replaying the books found.
type Verification struct {
	Accounts     int64    // how many were compared
	Transactions int64    // how many were replayed
	Differences  []string // each a sentence; empty when the books balance
}
