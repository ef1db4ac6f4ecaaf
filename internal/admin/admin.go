// Package admin changes accounts, keys and money. The commands, the admin endpoint
// and the API all use its Service, through the operations of package ops. Each change
// is written in the same transaction as its audit row.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/callrecord"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Store keeps accounts, keys and the journal. Methods that change something write the
// audit row in the same transaction.
type Store interface {
	CreateAccount(ctx context.Context, a ledger.Account, audit ledger.Audit) error
	UpdateAccount(ctx context.Context, id string, change func(*ledger.Account) error, audit ledger.Audit) (ledger.Account, error)
	Account(ctx context.Context, ref string) (ledger.Account, error)
	Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error)
	AccountNames(ctx context.Context, ids []string) (map[string]string, error)
	CreateKey(ctx context.Context, k keys.Key, a ledger.Audit) error
	Key(ctx context.Context, id string) (keys.Key, error)
	Keys(ctx context.Context, f ledger.KeyFilter) ([]keys.Key, string, error)
	UpdateKey(ctx context.Context, id string, change func(*keys.Key) error, a ledger.Audit) (keys.Key, error)
	ReplaceKey(ctx context.Context, id string, change func(*keys.Key) error, successor keys.Key, a ledger.Audit) (keys.Key, error)
	AuditLog(ctx context.Context, f ledger.AuditFilter) ([]ledger.Audit, string, error)
	PostTransaction(ctx context.Context, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error)
	ChargeTransactions(ctx context.Context, id string) ([]ledger.Transaction, error)
	ChargeByID(ctx context.Context, id string) (ledger.Charge, error)
	Journal(ctx context.Context, p ledger.Page) ([]ledger.Transaction, string, error)
	Charges(ctx context.Context, f ledger.ChargeFilter) ([]ledger.Charge, string, error)
	JournalLength(ctx context.Context) (int64, error)
	UsageReport(ctx context.Context, q ledger.UsageQuery) (ledger.UsageReport, error)
	KeyUsage(ctx context.Context, lineages []string, since time.Time) (map[string]ledger.UsageSums, error)
	Verify(ctx context.Context, progress func(done, total int64)) (ledger.Verification, error)
}

// Revoker makes caches forget a key. After Revoke has returned, no new lookup uses
// the key as it was before the call.
type Revoker interface {
	Revoke(digest keys.Digest)
}

// Actor names the author of an operation in the audit log.
type Actor struct {
	Name string // such as "admin endpoint", "offline" or "config"
	From string // the author's network address; may be empty
}

// Error refuses an operation because of its parameters. The message explains how to
// correct them.
type Error struct {
	Code    Code
	Message string
	// Field is the JSON name of the wrong parameter, such as "caps.day". It is "" if
	// the refusal has another reason.
	Field string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Code names a kind of Error. Codes are stable.
type Code string

// The codes of errors.
const (
	Invalid     Code = "INVALID"
	NotFound    Code = "NOT_FOUND"
	Exists      Code = "EXISTS"
	Conflict    Code = "CONFLICT"
	Unavailable Code = "UNAVAILABLE"
	Forbidden   Code = "FORBIDDEN"
)

func refuse(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// refuseField refuses the value of a parameter. The message must name the parameter,
// because the message is also shown without the field.
func refuseField(field, format string, args ...any) error {
	return &Error{Code: Invalid, Message: fmt.Sprintf(format, args...), Field: field}
}

// Service performs the operations on accounts, keys, charges and money. It is safe for
// concurrent use.
type Service struct {
	store   Store
	revoker Revoker
	current func() *Settings
	now     func() time.Time

	receiptKeys ledger.ReceiptKeys
	signer      *ledger.Signer               // may be nil
	unwritten   func(keyID string) time.Time // may be nil; see WithUses

	calls    callrecord.Lister                                    // may be nil; see WithCalls
	refunded func(server string, amount ledger.Amount, test bool) // may be nil; see WithRefunds

	grants GrantEnder // may be nil; see WithGrants

	verifications verifications
	node          string      // name of this process; see WithVerifications
	unverified    func(error) // may be nil; see WithVerifications
}

// Settings are the part of the operator's config that concerns keys.
type Settings struct {
	// Secrets is the format of secrets. Nil means keys.DefaultFormat.
	Secrets *keys.Format
	// Scopes are the declared scopes, which keys may have. Nil means that no scopes are
	// declared.
	Scopes *keys.Catalogue
	// PersonalLife is the default lifetime of personal keys. Zero means
	// DefaultPersonalLife.
	PersonalLife time.Duration
	// Servers are the names of the servers in the config, in order. If the list is
	// empty, the servers are unknown and keys may name any server.
	Servers []string
}

// New returns a service on a store. The revoker may be nil if there is no cache.
// settings returns the settings of the current config and never returns nil.
func New(store Store, revoker Revoker, settings func() *Settings, now func() time.Time) *Service {
	return &Service{store: store, revoker: revoker, current: settings, now: now}
}

// WithUses sets a function that returns the time of a key's latest use if the store
// does not have that use yet, and the zero time otherwise. It returns the service. Call
// it before the service is used.
func (s *Service) WithUses(unwritten func(keyID string) time.Time) *Service {
	s.unwritten = unwritten
	return s
}

// WithRefunds sets the function that is called for each refund that an operator has
// made, and returns the service. Call it before the service is used.
func (s *Service) WithRefunds(refunded func(server string, amount ledger.Amount, test bool)) *Service {
	s.refunded = refunded
	return s
}

// WithCalls sets the records of calls, and returns the service. Call it before the
// service is used.
func (s *Service) WithCalls(calls callrecord.Lister) *Service {
	s.calls = calls
	return s
}

// noteUse sets LastUsedAt of k to the key's latest use if the store does not have that
// use yet.
func (s *Service) noteUse(k *keys.Key) {
	if s.unwritten == nil {
		return
	}
	if at := s.unwritten(k.ID); at.After(k.LastUsedAt) {
		k.LastUsedAt = at
	}
}

// settings returns the current settings, with defaults filled in.
func (s *Service) settings() Settings {
	now := *s.current()
	if now.Secrets == nil {
		now.Secrets = &keys.DefaultFormat
	}
	if now.PersonalLife == 0 {
		now.PersonalLife = DefaultPersonalLife
	}
	return now
}

func (s *Service) audit(actor Actor, action, target string, detail any) ledger.Audit {
	return AuditRow(actor, action, target, detail, s.now())
}

// AuditRow returns a row of the audit log. The detail must consist of values that can be
// encoded as JSON.
func AuditRow(actor Actor, action, target string, detail any, at time.Time) ledger.Audit {
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // cannot happen: details consist of strings and numbers
	}
	return ledger.Audit{
		At: at, Actor: actor.Name, From: actor.From,
		Action: action, Target: target, Detail: string(text),
	}
}

// explain turns a store's error about an object into an error for the operator.
func explain(err error, kind, name string) error {
	var archived *ledger.ArchivedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &archived) && errors.Is(err, ledger.ErrNotFound):
		return refuse(NotFound, "%v", archived)
	case errors.As(err, &archived):
		return refuse(Conflict, "%v", archived)
	case errors.Is(err, ledger.ErrNotFound):
		return refuse(NotFound, "there is no %s %q", kind, name)
	case errors.Is(err, ledger.ErrExists):
		return &Error{Code: Exists, Message: fmt.Sprintf("%s %q exists already", kind, name), Field: "name"}
	case errors.Is(err, ledger.ErrConflict):
		return refuse(Conflict, "the id was used for something else: leave --id out, or repeat the same operation")
	case errors.Is(err, ledger.ErrOverflow):
		return refuseField("amount", "the balance of %s %q would become too large", kind, name)
	case errors.As(err, new(*Error)):
		return err
	default:
		return fmt.Errorf("%s %q: %w", kind, name, err)
	}
}

// NewAccount describes an account to create.
type NewAccount struct {
	Name string `json:"name" doc:"A name of its own, such as an e-mail address"`
	AccountChange
}

// CreateAccount creates an account without credits.
func (s *Service) CreateAccount(ctx context.Context, actor Actor, n NewAccount) (ledger.Account, error) {
	if err := ledger.ValidName(n.Name); err != nil {
		return ledger.Account{}, refuseField("name", "%v", err)
	}
	account := ledger.Account{ID: ids.New("acct_"), Name: n.Name, CreatedAt: s.now()}
	if err := n.apply(&account); err != nil {
		return ledger.Account{}, err
	}
	audit := s.audit(actor, "account.create", account.ID, n)
	if err := s.store.CreateAccount(ctx, account, audit); err != nil {
		return ledger.Account{}, explain(err, "account", n.Name)
	}
	return account, nil
}

// EnsureAccount returns the account with the given name, and creates it if necessary.
func (s *Service) EnsureAccount(ctx context.Context, actor Actor, name string) (ledger.Account, error) {
	account, err := s.store.Account(ctx, name)
	if !errors.Is(err, ledger.ErrNotFound) {
		return account, err
	}
	account, err = s.CreateAccount(ctx, actor, NewAccount{Name: name})
	var refused *Error
	if errors.As(err, &refused) && refused.Code == Exists { // a concurrent request created the account first
		return s.store.Account(ctx, name)
	}
	return account, err
}

// Account returns the account with the given name or id.
func (s *Service) Account(ctx context.Context, ref string) (ledger.Account, error) {
	a, err := s.store.Account(ctx, ref)
	return a, explain(err, "account", ref)
}

// Accounts lists accounts. The returned cursor is "" on the last page.
func (s *Service) Accounts(ctx context.Context, p ledger.Page) ([]ledger.Account, string, error) {
	return s.store.Accounts(ctx, p)
}

// validID reports whether an id has the prefix and a UUID that callers may choose.
// UUIDs of version 8 are reserved for ids that the platform derives from idempotency
// keys. They are reserved under every prefix, because ids with different prefixes share
// one set of UUIDs.
func validID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	return ok && ids.Valid(rest) && rest[14] != '8'
}
