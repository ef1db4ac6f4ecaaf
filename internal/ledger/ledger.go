// Package ledger defines charging: amounts, accounts, the states of a charge,
// double-entry transactions, and the errors of a store. It does no I/O and imports
// only the standard library. The stores implement these definitions and share one
// test suite.
//
// Every movement of credits is one Transaction. It adds its amount to the creditor
// and subtracts the same amount from the debtor, so that these two entries always
// sum to zero. Credits come from the system account Funding. So the balance of
// Funding is minus the sum of all top-ups and adjustments. Transactions by test keys
// have Test set, and each account has a live and a test balance that never mix.
package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Funding is the name of the system account that top-ups come from. Names of system
// accounts begin with '@'. Operators cannot give an account such a name.
const Funding = "@funding"

// Account holds credits and owns keys. There is one kind of account: an
// agent's owner spends from it, an MCP provider earns into it.
type Account struct {
	ID          string // "acct_" and a UUIDv7
	Name        string // unique, ignoring case; see ValidName and FoldName
	CreatedAt   time.Time
	CreditLimit Amount // how far below zero the live balance may go; 0 by default
	Caps        Caps   // caps on the spending of all the account's keys together, at all servers
	Live        Balance
	Test        Balance // the balance that test keys spend; it has no credit limit
}

// Balance returns the live or the test balance.
func (a *Account) Balance(test bool) Balance {
	if test {
		return a.Test
	}
	return a.Live
}

// Balance is the live or the test balance of an account. Reserved is the part of Posted
// that open reservations hold.
type Balance struct {
	Posted   Amount
	Reserved Amount
}

// Available returns the amount that may still be reserved without using the account's
// credit limit.
func (p Balance) Available() Amount { return p.Posted - p.Reserved }

// MaxName is the maximum length of an account's name in bytes. It is the maximum
// length of an e-mail address (RFC 5321, 4.5.3.1).
const MaxName = 254

// namePunctuation lists the characters allowed in account names besides letters and
// digits. E-mail addresses and other systems' ids need these characters. A slash is not
// allowed, because proxies unescape it in request paths.
const namePunctuation = "-_.@+|:=~'"

// ValidName returns nil if operators may give an account this name, and an error
// otherwise. A valid name has 1 to MaxName characters: ASCII letters, digits and the
// characters in namePunctuation. It begins with a letter or a digit, but not with
// "acct_", as ids do. E-mail addresses and ids of other systems (such as
// auth0|5f7c8ec7) are valid names. No two valid names look alike, except names that
// differ only in case. Stores take such names for the same: see FoldName.
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

// FoldName returns a name with its ASCII letters in lower case. Names that differ
// only in case are the same name, so an account is found by its name in any case.
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

// clip shortens a text for an error message.
func clip(text string) string {
	if len(text) <= MaxName {
		return text
	}
	return strings.ToValidUTF8(text[:MaxName], "") + "…"
}

// State is the state of a charge. A reserved charge moves to exactly one of the other
// states, which are final.
type State string

// The states of a charge.
const (
	Reserved State = "reserved" // the amount is held against the balance until the charge is settled or expires
	Captured State = "captured" // the amount was paid, durably
	Released State = "released" // the amount was given back, because the call had no result to pay for
	Expired  State = "expired"  // the amount was given back, because the charge was not settled in time
)

// ReservationLife is the life of a reservation after Reserve or Renew.
const ReservationLife = 2 * time.Minute

// SettleTime bounds the time in which a call is settled at a platform. It has an hour
// for the call, because no call lives for longer, and another hour for delays. During
// this time a voided id stays void (see the stores' Void), and the settler of a charge
// may refund it.
const SettleTime = 2 * time.Hour

// Order is the content of a reservation. Orders with the same charge id must be
// equal.
type Order struct {
	Account  string // id of the paying account
	Provider string // id of the earning account
	Key      string // the paying key's id
	Lineage  string // the paying key's lineage
	Server   string // server name
	Tool     string // the name of the called tool, or prompt:NAME, resource:URI or method:NAME
	Amount   Amount // the price; more than zero
	Fee      Amount // the part that the provider passes on to FeeTo; at most the amount
	FeeTo    string // id of the operator's account; "" without a fee
	Test     bool   // whether the paying key is a test key
	// Settler is the lineage of the gateway's or provider's key that made the
	// reservation at a platform. Only keys of this lineage may settle the reservation
	// there. Settler is "" for reservations by the store's own process.
	Settler string
}

// Check returns an error if the order is invalid.
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
	ID string // "chg_" and a UUIDv7, made by the caller and reused in each retry
	Order
	State    State
	At       time.Time // when the charge was captured; for an open charge, when it was reserved
	Waived   bool      // whether a free quota paid for the call, so that no credits moved
	Refunded Amount    // the sum of the refunds of this charge
	// Made is set only in the result of a capture. It is true if this capture made the
	// charge. It is false if an earlier capture made the charge, or may have made it. A
	// charge with Made false is not undone, however the call ends.
	Made bool
}

// Paid returns the amount that the payer paid, before refunds: the price, or zero.
func (c *Charge) Paid() Amount {
	if c.Waived {
		return 0
	}
	return c.Amount
}

// Kind is the kind of a transaction.
type Kind string

// The kinds of transactions.
const (
	KindCharge Kind = "charge" // from the payer to the provider
	KindCredit Kind = "credit" // a top-up: from Funding to the account
	KindRefund Kind = "refund" // from the provider back to the payer of a charge
	// KindAdjustment corrects an account: it moves credits from Funding to the account
	// or from the account to Funding. An adjustment may take the account below its
	// credit limit.
	KindAdjustment Kind = "adjustment"
	// KindFee moves the operator's share of a charge from the provider to the
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
	Amount   Amount // more than zero; zero for a charge paid by a free quota
	Test     bool
	At       time.Time
	Reason   string // the operator's reason; empty for charges
	Charge   string // for refunds and fees: the id of the charge that they belong to
	Key      string // the paying key's id; like Server and Tool, set for charges only
	Server   string
	Tool     string
}

// Complete prepares a transaction for posting: it fills in Funding as the other
// account of a top-up or adjustment. It returns an error if the transaction is
// invalid.
func (t *Transaction) Complete() error {
	least := Amount(1)
	switch {
	case t.Kind == KindRefund:
		least = 0 // a zero amount refunds all that is left
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

// Audit is the record of an operator's action, written in the same transaction as
// the action. It never holds a secret.
type Audit struct {
	At     time.Time
	Actor  string // such as "admin endpoint", "offline", "config" or a key's id
	From   string // the actor's address; may be empty
	Action string // such as "key.create"
	Target string // the id of the changed object
	Detail string // a JSON object; may be empty
}

// Errors that every store returns. They may be wrapped. Failures of the store itself
// wrap ErrUnavailable. Stores also return the errors of package keys. Any other
// error means bad input.
var (
	// ErrNotFound says that the account, key or charge does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says that an account with the same name exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict says that the id was used with other content. It reveals nothing
	// about that content.
	ErrConflict = errors.New("id was used with other content")
	// ErrSettled says that the charge is no longer in the state that the operation
	// needs. An example is the capture of a released reservation.
	ErrSettled = errors.New("charge is settled already")
	// ErrInsufficient says that the balance cannot pay; see InsufficientError.
	ErrInsufficient = errors.New("insufficient balance")
	// ErrInvalid says that the request is invalid, such as a cursor that does not
	// come from a listing.
	ErrInvalid = errors.New("invalid request")
	// ErrUnavailable says that the store cannot answer now. The caller denies the
	// call, and may try again with the same id.
	ErrUnavailable = errors.New("ledger unavailable")
)

// InsufficientError is an ErrInsufficient with the balance at the time of the refusal.
type InsufficientError struct {
	Balance Balance
	Needed  Amount
}

// Error states the needed and the available amount.
func (e *InsufficientError) Error() string {
	return fmt.Sprintf("insufficient balance: %s needed, %s available", e.Needed, e.Balance.Available())
}

// Unwrap makes errors.Is(err, ErrInsufficient) hold.
func (e *InsufficientError) Unwrap() error { return ErrInsufficient }
