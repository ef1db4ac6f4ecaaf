package admin

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// AccountView is an account in JSON. Amounts are strings with decimal numbers.
type AccountView struct {
	ID           string        `json:"id"`
	Name         string        `json:"name"`
	Balance      ledger.Amount `json:"balance"`
	Reserved     ledger.Amount `json:"reserved"`
	TestBalance  ledger.Amount `json:"test_balance"`
	TestReserved ledger.Amount `json:"test_reserved"`
	CreditLimit  ledger.Amount `json:"credit_limit"`
	Caps         *Caps         `json:"caps,omitempty"`
	CreatedAt    time.Time     `json:"created_at"`
}

// ViewAccount returns the view of an account.
func ViewAccount(a ledger.Account) AccountView {
	return AccountView{
		ID: a.ID, Name: a.Name, Balance: a.Live.Posted, Reserved: a.Live.Reserved,
		TestBalance: a.Test.Posted, TestReserved: a.Test.Reserved,
		CreditLimit: a.CreditLimit, Caps: viewCaps(a.Caps), CreatedAt: a.CreatedAt.UTC(),
	}
}

// KeyView is a key in JSON. Secret is set only in the response to the creation of the
// key.
type KeyView struct {
	ID          string     `json:"id"`
	Secret      string     `json:"secret,omitempty"`
	Hint        string     `json:"hint"`
	Account     string     `json:"account"`
	AccountName string     `json:"account_name"`
	Kind        string     `json:"kind"`
	Environment string     `json:"environment"`
	State       string     `json:"state"` // active, disabled, expired or deleted
	Lineage     string     `json:"lineage"`
	Name        string     `json:"name"`
	Scopes      []string   `json:"scopes"`
	Servers     []string   `json:"servers"`
	Caps        *Caps      `json:"caps,omitempty"`
	Rate        string     `json:"rate,omitempty"` // in the format of keys.ParseRate; empty if there is no rate
	CreatedAt   time.Time  `json:"created_at"`
	ExpiresAt   *time.Time `json:"expires_at"`
	DisabledAt  *time.Time `json:"disabled_at"`
	DeletedAt   *time.Time `json:"deleted_at"`
	LastUsedAt  *time.Time `json:"last_used_at"` // exact to about a minute
	Successor   string     `json:"successor,omitempty"`
	// Usage has the sums of the key's lineage, if the query of a listing asked for
	// them.
	Usage *KeySumsView `json:"usage,omitempty"`
}

// KeySumsView has the sums of a lineage of keys in JSON.
type KeySumsView struct {
	Calls   int64         `json:"calls"`
	Refused int64         `json:"refused"` // not among Calls
	Failed  int64         `json:"failed"`  // not among Calls
	Charged ledger.Amount `json:"charged"` // before refunds
}

func viewKey(k keys.Key, names map[string]string, secret string, now time.Time) KeyView {
	return KeyView{
		ID: k.ID, Secret: secret, Hint: k.Hint, Account: k.Account, AccountName: names[k.Account], Kind: k.Kind.String(),
		Environment: string(k.Environment), State: stateOf(&k, now), Lineage: k.Lineage, Name: k.Name,
		Scopes: append([]string{}, k.Scopes...), Servers: append([]string{}, k.Servers...), Caps: viewCaps(ledger.CapsOf(k.Limits.Spending())), Rate: viewRate(limitsOf(&k).Rate),
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: timeOrNull(k.ExpiresAt),
		DisabledAt: timeOrNull(k.DisabledAt), DeletedAt: timeOrNull(k.DeletedAt),
		LastUsedAt: timeOrNull(k.LastUsedAt), Successor: k.Successor,
	}
}

func stateOf(k *keys.Key, now time.Time) string {
	switch err := k.Check(now, keys.Use{}); {
	case errors.Is(err, keys.ErrDeleted):
		return "deleted"
	case errors.Is(err, keys.ErrDisabled):
		return "disabled"
	case errors.Is(err, keys.ErrExpired):
		return "expired"
	default:
		return "active"
	}
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// ChargeView is a charge in JSON.
type ChargeView struct {
	ID          string `json:"id"`
	Account     string `json:"account"`
	AccountName string `json:"account_name"`
	Provider    string `json:"provider"`
	// ProviderName is the name of the account that earned.
	ProviderName string        `json:"provider_name"`
	Key          string        `json:"key"`
	Server       string        `json:"server"`
	Tool         string        `json:"tool"`
	Amount       ledger.Amount `json:"amount"`         // the amount that Account paid
	Free         bool          `json:"free,omitempty"` // covered by a free quota
	Fee          ledger.Amount `json:"fee"`            // the operator's share of the amount
	Refunded     ledger.Amount `json:"refunded"`
	Environment  string        `json:"environment"`
	State        string        `json:"state"`
	At           time.Time     `json:"at"`
	// Entries list the movements of the charge and of its refunds, in the order of the
	// journal. Lists of charges leave them out.
	Entries []EntryView `json:"entries,omitempty"`
}

// EntryView is one entry of the ledger in JSON: the change of one account's balance by
// one transaction. The two entries of a transaction sum to zero.
type EntryView struct {
	Transaction string        `json:"transaction"`
	Kind        string        `json:"kind"` // charge, fee or refund
	At          time.Time     `json:"at"`
	Account     string        `json:"account"`
	AccountName string        `json:"account_name"`
	Amount      ledger.Amount `json:"amount"` // below zero if the account paid
	Reason      string        `json:"reason,omitempty"`
}

// viewEntries returns the two entries of each transaction: the debtor's and then the
// creditor's.
func viewEntries(transactions []ledger.Transaction, names map[string]string) []EntryView {
	entries := make([]EntryView, 0, 2*len(transactions))
	for _, t := range transactions {
		e := EntryView{Transaction: t.ID, Kind: string(t.Kind), At: t.At.UTC(), Account: t.Debtor, AccountName: names[t.Debtor], Amount: -t.Amount, Reason: t.Reason}
		entries = append(entries, e)
		e.Account, e.AccountName, e.Amount = t.Creditor, names[t.Creditor], t.Amount
		entries = append(entries, e)
	}
	return entries
}

func viewCharge(c ledger.Charge, names map[string]string) ChargeView {
	return ChargeView{
		ID: c.ID, Account: c.Account, AccountName: names[c.Account], Provider: c.Provider, ProviderName: names[c.Provider], Key: c.Key, Server: c.Server, Tool: c.Tool,
		Amount: c.Paid(), Free: c.Waived, Fee: feeOf(&c), Refunded: c.Refunded, Environment: string(environmentOf(c.Test)), State: string(c.State), At: c.At.UTC(),
	}
}

// feeOf returns the operator's fee of a charge, before refunds.
func feeOf(c *ledger.Charge) ledger.Amount {
	if c.Waived {
		return 0
	}
	return c.Fee
}

// TransactionView is one movement of credits in JSON.
type TransactionView struct {
	ID          string        `json:"id"`
	Kind        string        `json:"kind"`
	At          time.Time     `json:"at"`
	Debtor      string        `json:"debtor"`
	Creditor    string        `json:"creditor"`
	Amount      ledger.Amount `json:"amount"`
	Environment string        `json:"environment"`
	Charge      string        `json:"charge,omitempty"` // the charge to which a refund or a fee belongs
	Key         string        `json:"key,omitempty"`    // set for charges, like Server and Tool
	Server      string        `json:"server,omitempty"`
	Tool        string        `json:"tool,omitempty"`
	Reason      string        `json:"reason,omitempty"`
}

// ViewTransaction returns the view of a transaction.
func ViewTransaction(t ledger.Transaction) TransactionView {
	return TransactionView{
		ID: t.ID, Kind: string(t.Kind), At: t.At.UTC(), Debtor: t.Debtor, Creditor: t.Creditor, Amount: t.Amount,
		Environment: string(environmentOf(t.Test)), Charge: t.Charge, Key: t.Key, Server: t.Server, Tool: t.Tool, Reason: t.Reason,
	}
}

func environmentOf(test bool) keys.Environment {
	if test {
		return keys.Test
	}
	return keys.Live
}

// VerificationView is the outcome of a verification in JSON.
type VerificationView struct {
	Accounts     int64    `json:"accounts"`
	Transactions int64    `json:"transactions"`
	Differences  []string `json:"differences"`
	// Archived is the state of the archive. The verification began with the balances at
	// the end of the archive.
	Archived *ArchivedView `json:"archived,omitempty"`
}

// AuditView is a row of the audit log in JSON.
type AuditView struct {
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	From   string          `json:"from"`
	Action string          `json:"action"`
	Target string          `json:"target"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// ViewAudit returns the view of a row of the audit log.
func ViewAudit(a ledger.Audit) AuditView {
	return AuditView{
		At: a.At.UTC(), Actor: a.Actor, From: a.From, Action: a.Action, Target: a.Target,
		Detail: json.RawMessage(a.Detail),
	}
}

// List is one page of a list. Next is the cursor of the next page, or "" on the last
// page.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
	// Archived is the number of older items that are archived. It is set only on the
	// page that would contain them: the last page of charges, and the first page of
	// the journal.
	Archived int64 `json:"archived,omitempty"`
}

// JournalView is a page of the journal. Total is the number of transactions and is
// set only on the first page.
type JournalView struct {
	List[TransactionView]
	Total int64 `json:"total,omitempty"`
}

// ViewList returns a page with the view of each row.
func ViewList[M, V any](rows []M, next string, view func(M) V) List[V] {
	l := List[V]{Items: make([]V, len(rows)), Next: next}
	for i, row := range rows {
		l.Items[i] = view(row)
	}
	return l
}
