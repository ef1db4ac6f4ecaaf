// Package ledger says what charging means: amounts, accounts, the states of a
// charge, double-entry transactions, and the errors that a store of them
// returns. It does no I/O and imports nothing but the standard library; the
// stores implement it and share one test suite.
//
// Every movement of credits is one Transaction with two sides, a debtor and a
// creditor, so that its entries sum to zero by construction. Credits enter
// from the system account Funding, whose balance is minus all that was ever
// topped up. A test key's movements are kept apart by the Sandbox mark, and an
// account has two balances that never mix.
package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Funding is the name of the system account that top-ups come from. Names of
// system accounts begin with '@', which no operator's account may.
const Funding = "@funding"

// Account holds credits and owns keys. There is one kind of account: an
// agent's owner spends from it, an MCP provider earns into it.
type Account struct {
	ID          string // "acct_" and a UUIDv7
	Name        string // unique in any case; see ValidName and FoldName
	CreatedAt   time.Time
	CreditLimit Amount // how far below zero the live balance may go; 0 by default
	Caps        Caps   // on what all its keys spend, at all servers together
	Live        Balance
	Test        Balance // what test keys spend; no credit limit
}

// Balance returns the balance that a call of that environment spends from.
func (a *Account) Balance(test bool) Balance {
	if test {
		return a.Test
	}
	return a.Live
}

// Balance is one balance of an account and what open reservations hold of it.
type Balance struct {
	Posted   Amount
	Reserved Amount
}

// Available is what may still be reserved without credit: Balance - Reserved.
func (p Balance) Available() Amount { return p.Posted - p.Reserved }

// MaxName is how long the name of an account may be: as long as an e-mail address
// (RFC 5321, 4.5.3.1).
const MaxName = 254

// namePunctuation is what stands in names of accounts beside letters and digits:
// what e-mail addresses and the ids of other systems have. A slash is not among it,
// for proxies unescape it in the paths of requests.
const namePunctuation = "-_.@+|:=~'"

// ValidName reports, as an error that says what is allowed, whether an
// operator's account may have the name: an e-mail address, an id of another
// system such as auth0|5f7c8ec7, or what else is 1 to MaxName ASCII letters, digits
// and some punctuation, beginning with a letter or digit and not with the
// "acct_" of ids. So no two names look alike but for their case, which stores do
// not tell apart: see FoldName.
func ValidName(name string) error {
	const id = "acct_"
	ok := len(name) >= 1 && len(name) <= MaxName && (len(name) < len(id) || FoldName(name[:len(id)]) != id)
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte(namePunctuation, c) >= 0)
	}
	if !ok {
		return fmt.Errorf("account name %q is not allowed: want 1 to %d ASCII letters, digits and %s, beginning with a letter or digit and not with acct_",
			clip(name), MaxName, namePunctuation)
	}
	return nil
}

// FoldName returns what two names have in common that are one name: an account
// is found by its name in any case, and no other may have it in another.
func FoldName(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return foldFrom(name, i)
		}
	}
	return name
}

func foldFrom(name string, i int) string {
	folded := []byte(name)
	for ; i < len(folded); i++ {
		if c := folded[i]; 'A' <= c && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return string(folded)
}

// clip bounds a text that is repeated in an error.
func clip(text string) string {
	if len(text) <= MaxName {
		return text
	}
	return strings.ToValidUTF8(text[:MaxName], "") + "…"
}

// State is where a charge stands. Reserved leads to exactly one of the others,
// and none of those leads anywhere.
type State string

// The states of a charge.
const (
	Reserved State = "reserved" // held against the balance, until it expires
	Captured State = "captured" // paid, durably
	Released State = "released" // given back: the call had no result to pay for
	Expired  State = "expired"  // given back: nobody settled it in time
)

// ReservationLife is how long a reservation holds credits unless it is renewed.
const ReservationLife = 2 * time.Minute

// SettleTime bounds how late what belongs to a call may come to a platform: a
// call lives for an hour at most, and as long again is for what held it up. For
// so long an id that was given up for good stays so (see the stores' Void), and
// whoever captured a charge may refund it.
const SettleTime = 2 * time.Hour

// Order is what a call wants to pay: the content of a reservation. Two orders
// under one charge id must be equal.
type Order struct {
	Account  string // who pays (account id)
	Provider string // who earns (account id)
	Key      string // the paying key's id
	Lineage  string // the paying key's lineage
	Server   string // server name
	Tool     string // as called: a tool by its name, prompt:NAME, resource:URI or method:NAME
	Amount   Amount // the price; more than zero
	Fee      Amount // what of the amount goes on from the provider to FeeTo; at most the amount
	FeeTo    string // the operator's account (account id); "" without a fee
	Test     bool   // by a test key
	// Settler is the lineage of the gateway's or provider's key that asked a
	// platform for the reservation, and alone may settle it there; "" for what
	// the store's own process reserves.
	Settler string
}

// Check returns an error if the order cannot be meant.
func (o *Order) Check() error {
	switch {
	case o.Amount <= 0:
		return fmt.Errorf("amount %s of the order is not more than zero", o.Amount)
	case o.Fee < 0 || o.Fee > o.Amount:
		return fmt.Errorf("fee %s of the order is not from zero to its amount %s", o.Fee, o.Amount)
	case (o.Fee > 0) != (o.FeeTo != ""):
		return errors.New("the order has a fee and nobody to get it, or the other way round")
	case o.FeeTo != "" && o.FeeTo == o.Provider:
		return errors.New("the order's fee goes to its own provider")
	}
	return nil
}

// Charge is a paid call as the books show it.
type Charge struct {
	ID string // "chg_" and a UUIDv7, made by the caller and reused by each retry
	Order
	State    State
	At       time.Time // when it was captured; for an open one, when it was reserved
	Waived   bool      // a free quota has paid: no credits moved
	Refunded Amount    // how much of it later refunds gave back
	// Made says that the very call of the ledger that returned the charge made
	// it. Else it was made before, or nobody can tell: then it stands, whatever
	// becomes of the call. Only captures set it.
	Made bool
}

// Paid is what the payer paid, refunds aside: the price, or nothing.
func (c *Charge) Paid() Amount {
	if c.Waived {
		return 0
	}
	return c.Amount
}

// Kind says what a transaction is.
type Kind string

// The kinds of transactions.
const (
	KindCharge Kind = "charge" // from the payer to the provider
	KindCredit Kind = "credit" // a top-up: from Funding to the account
	KindRefund Kind = "refund" // from the provider back to the payer of a charge
	// KindAdjustment corrects an account: from Funding to it, or from it to
	// Funding. It may take the account below its limit.
	KindAdjustment Kind = "adjustment"
	// KindFee is the operator's share of a charge, from the provider on to the
	// operator's account, or back when the charge is refunded.
	KindFee Kind = "fee"
)

// Transaction is one movement of credits. Its entries are -Amount for the
// debtor and +Amount for the creditor.
type Transaction struct {
	ID       string // a charge's id, or "txn_" and a UUIDv7
	Kind     Kind
	Debtor   string // account id
	Creditor string // account id
	Amount   Amount // more than zero; zero for a charge that a free quota has paid
	Test     bool
	At       time.Time
	Reason   string // why, in the operator's words; empty for charges
	Charge   string // for refunds and fees: the id of the charge that they belong to
	Key      string // for charges, as are the next two: the paying key's id
	Server   string
	Tool     string
}

// Complete fills in what a transaction that is to be posted need not say: that a
// top-up and an adjustment are with Funding. An error means that it cannot be
// meant.
func (t *Transaction) Complete() error {
	least := Amount(1)
	switch {
	case t.Kind == KindRefund:
		least = 0 // all that is left
	case t.Kind == KindAdjustment && t.Creditor == "":
		t.Creditor = Funding
	case t.Kind == KindAdjustment || t.Kind == KindCredit:
		if t.Debtor != "" && t.Debtor != Funding {
			return fmt.Errorf("a top-up comes from %s, not from %q", Funding, t.Debtor)
		}
		t.Debtor = Funding
	default:
		return fmt.Errorf("transactions of kind %q cannot be posted: want %q, %q or %q", t.Kind, KindCredit, KindAdjustment, KindRefund)
	}
	if t.Amount < least {
		return fmt.Errorf("amount %s of the transaction is not more than zero", t.Amount)
	}
	return nil
}

// Audit is the record of an operator's action; it is written in the same
// transaction as what it tells of. It never holds a secret.
type Audit struct {
	At     time.Time
	Actor  string // who: "admin endpoint", "offline", a key's id, "config"
	From   string // where from: an address, "" if there is none
	Action string // such as "key.create"
	Target string // the id of what was acted on
	Detail string // what exactly, as one JSON object; may be empty
}

// Errors that every store returns, wrapped or not. Anything else that a store
// returns is a failure of the store itself and means ErrUnavailable.
var (
	// ErrNotFound says that there is no such account, key or charge.
	ErrNotFound = errors.New("not found")
	// ErrExists says that an account of that name exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict says that the id was used for something else. It reveals
	// nothing about what that was.
	ErrConflict = errors.New("id was used with other content")
	// ErrSettled says that the charge has left the state that the operation
	// needs, such as a capture of what was released or expired.
	ErrSettled = errors.New("charge is settled already")
	// ErrInsufficient says that the balance cannot pay; see InsufficientError.
	ErrInsufficient = errors.New("insufficient balance")
	// ErrInvalid says that what was asked for cannot be meant, such as a cursor
	// that no listing gave.
	ErrInvalid = errors.New("invalid request")
	// ErrUnavailable says that the store cannot answer now. Doubt denies: the
	// caller refuses, and may try again with the same id.
	ErrUnavailable = errors.New("ledger unavailable")
)

// InsufficientError is an ErrInsufficient with the balance as it was found.
type InsufficientError struct {
	Balance Balance
	Needed  Amount
}

// Error says how much was needed and how much was there.
func (e *InsufficientError) Error() string {
	return fmt.Sprintf("insufficient balance: %s needed, %s available", e.Needed, e.Balance.Available())
}

// Unwrap makes errors.Is(err, ErrInsufficient) hold.
func (e *InsufficientError) Unwrap() error { return ErrInsufficient }
