package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of archiving.
const (
	// MinArchiveAge is the minimum age of archived transactions. It is longer than a
	// month, so that no cap counts archived transactions. It is also longer than the
	// life of calls and stored responses.
	MinArchiveAge = 35 * 24 * time.Hour
	// DefaultArchiveAge is the minimum age if the operator does not choose one: a
	// year and a month.
	DefaultArchiveAge = 400 * 24 * time.Hour
	// DefaultArchivePart and MaxArchivePart bound the transactions of one file.
	// Captures wait while archived transactions are removed, so the bounds are small.
	DefaultArchivePart = 10_000
	MaxArchivePart     = 100_000
)

// ErrArchived says that a charge or transaction is older than the store's journal.
// If it exists at all, it is in the archive. See ArchivedError.
var ErrArchived = errors.New("archived")

// ArchivedError is the ErrArchived for one id.
type ArchivedError struct {
	ID   string
	File int64 // number of the archive file that can hold the id; 0 if unknown
	// Cause is the error that the caller would get without an archive: ErrNotFound,
	// or ErrSettled for a charge that must not be made a second time.
	Cause error
}

// Error names the archive file, if its number is known.
func (e *ArchivedError) Error() string {
	if e.File == 0 {
		return fmt.Sprintf("%s is older than what the store holds: look into the archive", e.ID)
	}
	return fmt.Sprintf("%s is older than what the store holds: if it was charged, it is in the archive, in or next to %s", e.ID, ArchiveName(e.File))
}

// Unwrap makes errors.Is hold for ErrArchived and for the cause.
func (e *ArchivedError) Unwrap() []error { return []error{ErrArchived, e.Cause} }

// ArchiveName returns the name of the archive file with the given number.
func ArchiveName(number int64) string { return fmt.Sprintf("farebox-archive-%06d.jsonl.gz", number) }

// Sum is a SHA-256 hash.
type Sum [sha256.Size]byte

// String returns the sum in hex digits, or "" for the zero Sum.
func (s Sum) String() string {
	if s == (Sum{}) {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// Entry is a transaction with everything that the books record about it.
type Entry struct {
	Seq      int64  `json:"seq"` // number of the transaction in the journal
	ID       string `json:"id"`
	Kind     Kind   `json:"kind"`
	Debtor   string `json:"debtor"`
	Creditor string `json:"creditor"`
	Amount   Amount `json:"amount"`
	Test     bool   `json:"test,omitempty"`
	At       int64  `json:"at"` // microseconds since 1970, UTC
	Key      string `json:"key,omitempty"`
	Lineage  string `json:"lineage,omitempty"`
	Server   string `json:"server,omitempty"`
	Tool     string `json:"tool,omitempty"`
	Day      int32  `json:"day,omitempty"`    // day of the reservation, as a number of days since 1970
	Waived   Amount `json:"waived,omitempty"` // the price of a charge that a free quota paid
	Fee      Amount `json:"fee,omitempty"`
	FeeTo    string `json:"fee_to,omitempty"`
	Ref      int64  `json:"ref,omitempty"` // for refunds and fees: Seq of the charge that they belong to
	Reason   string `json:"reason,omitempty"`
}

// RunningBalance is the state of an account at one point of the journal.
type RunningBalance struct {
	Account string `json:"account"`
	Live    Amount `json:"live"`
	Test    Amount `json:"test"`
	Paid    int64  `json:"paid"`   // Seq of the last transaction that the account paid, or 0
	Earned  int64  `json:"earned"` // Seq of the last transaction that paid the account, or 0
}

// Move books transaction e in b, which is the balance of e's debtor or creditor. The
// amount is negative for the debtor.
func (b *RunningBalance) Move(e *Entry, amount Amount) error {
	balance := &b.Live
	if e.Test {
		balance = &b.Test
	}
	sum, err := balance.Add(amount)
	if err != nil {
		return fmt.Errorf("transaction %d: %w", e.Seq, err)
	}
	*balance = sum
	if amount < 0 || amount == 0 && b.Account == e.Debtor {
		b.Paid = e.Seq
	}
	if amount > 0 || amount == 0 && b.Account == e.Creditor {
		b.Earned = e.Seq
	}
	return nil
}

// Carried is an archived charge to which transactions of a later part refer. It
// includes the refunds and returned fees that were booked before that part.
type Carried struct {
	Entry
	Refunded Amount `json:"refunded,omitempty"`
	FeeBack  Amount `json:"fee_back,omitempty"`
}

// ArchivePart is the next part of a journal to archive: the contents of one file. The
// data of a part never changes, so every read returns the same.
type ArchivePart struct {
	Number   int64 // the file's number, from 1
	Previous Sum   // the SHA-256 in the previous file's seal; zero for the first file
	// Opening and Closing are the balances before and after the part. They cover the
	// accounts in the part's transactions, sorted by account id.
	Opening, Closing []RunningBalance
	Carried          []Carried // earlier charges that this part refers to, sorted by Seq
	Entries          []Entry
}

// First returns the number of the part's first transaction.
func (p *ArchivePart) First() int64 { return p.Entries[0].Seq }

// Last returns the number of the part's last transaction.
func (p *ArchivePart) Last() int64 { return p.Entries[len(p.Entries)-1].Seq }

// Charges counts the part's charges.
func (p *ArchivePart) Charges() (n int64) {
	for i := range p.Entries {
		if p.Entries[i].Kind == KindCharge {
			n++
		}
	}
	return n
}

// LastDay returns the latest day on which a charge of the part was reserved, or 0 if
// the part has no charge.
func (p *ArchivePart) LastDay() (day int32) {
	for i := range p.Entries {
		day = max(day, p.Entries[i].Day)
	}
	return day
}

// Accounts returns the sorted ids of the accounts in the part's transactions.
func (p *ArchivePart) Accounts() []string {
	seen := map[string]bool{}
	for i := range p.Entries {
		seen[p.Entries[i].Debtor], seen[p.Entries[i].Creditor] = true, true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Close computes the closing balances from the opening balances, which must include
// every account in the part's transactions.
func (p *ArchivePart) Close() error {
	p.Closing = slices.Clone(p.Opening)
	at := make(map[string]*RunningBalance, len(p.Closing))
	for i := range p.Closing {
		at[p.Closing[i].Account] = &p.Closing[i]
	}
	for i := range p.Entries {
		e := &p.Entries[i]
		debtor, creditor := at[e.Debtor], at[e.Creditor]
		if debtor == nil || creditor == nil {
			return fmt.Errorf("transaction %d moves an account without an opening balance", e.Seq)
		}
		if err := book(e, debtor, creditor); err != nil {
			return err
		}
	}
	return nil
}

// book books a transaction on its two accounts, which may be the same one.
func book(e *Entry, debtor, creditor *RunningBalance) error {
	if err := debtor.Move(e, -e.Amount); err != nil {
		return err
	}
	return creditor.Move(e, e.Amount)
}

// Book books the transaction in a set of balances by account id. It adds accounts
// that the set does not have.
func (e *Entry) Book(balances map[string]*RunningBalance) error {
	for _, id := range [...]string{e.Debtor, e.Creditor} {
		if balances[id] == nil {
			balances[id] = &RunningBalance{Account: id}
		}
	}
	return book(e, balances[e.Debtor], balances[e.Creditor])
}

// SumBalances returns a hash of a set of balances, for comparison. The hash ignores
// accounts without transactions.
func SumBalances(balances []RunningBalance) Sum {
	sorted := slices.Clone(balances)
	slices.SortFunc(sorted, func(a, b RunningBalance) int { return strings.Compare(a.Account, b.Account) })
	h := sha256.New()
	for _, b := range sorted {
		if b.Paid != 0 || b.Earned != 0 {
			fmt.Fprintf(h, "%q %d %d %d %d\n", b.Account, b.Live, b.Test, b.Paid, b.Earned)
		}
	}
	return Sum(h.Sum(nil))
}

// ArchiveQuery selects the next part to archive.
type ArchiveQuery struct {
	Before time.Time // only transactions before this time; at the latest, MinArchiveAge before now
	Most   int       // maximum number of transactions; 0 means DefaultArchivePart
	// Last, if not 0, is the number of the last transaction of the part. A caller sets
	// it to read a part again exactly as it was. If Last is 0, the part extends as far
	// as Before and Most allow.
	Last int64
}

// Check returns the query with its defaults filled in. It returns an ErrInvalid if the
// query is not allowed.
func (q ArchiveQuery) Check(now time.Time) (ArchiveQuery, error) {
	if q.Most == 0 {
		q.Most = DefaultArchivePart
	}
	switch newest := now.Add(-MinArchiveAge); {
	case q.Most < 1 || q.Most > MaxArchivePart:
		return q, fmt.Errorf("%w: a part of %d transactions: want 1 to %d", ErrInvalid, q.Most, MaxArchivePart)
	case q.Before.IsZero():
		q.Before = newest
	case q.Before.After(newest):
		return q, fmt.Errorf("%w: what is younger than %d days cannot be archived: caps may go by it", ErrInvalid, MinArchiveAge/(24*time.Hour))
	}
	return q, nil
}

// Archived describes the archived part of a store's journal.
type Archived struct {
	Files        int64
	Transactions int64
	Charges      int64
	Last         int64     // number of the last transaction, or 0
	LastAt       time.Time // time of the last transaction
	LastDay      int32     // latest day on which an archived charge was reserved
	Sum          Sum       // the SHA-256 in the last file's seal
}
