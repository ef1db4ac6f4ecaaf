package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pricing"
)

// Accounts finds and makes accounts.
type Accounts interface {
	// Find returns the account with the id or name, or ledger.ErrNotFound.
	Find(ctx context.Context, ref string) (ledger.Account, error)
	// Open makes the account with the id, and tops it up by the starting credit. A
	// further call with the same id changes nothing, also after a crash between the two
	// steps. If the name is taken, the account gets another one.
	Open(ctx context.Context, o Opening) error
}

// Opening describes an account to make.
type Opening struct {
	ID, Name string
	Credit   ledger.Amount // zero for none
	Test     bool          // the credit is in test credits
	Issuer   string        // for the audit log
}

// AccountRule says which account a token pays from.
type AccountRule struct {
	// Claim names the claim, or Expression computes the value from the claims. One of the
	// two is set.
	Claim      string
	Expression *pricing.Text
	// Trusted lets the value name any account, by its exact id or name. If it is false,
	// the value is a name within the issuer, and reaches only the issuer's own accounts.
	Trusted bool
	// Create makes an account that does not exist, with the credit. It is not allowed
	// with Trusted.
	Create bool
	Credit ledger.Amount
}

// value returns the value of the rule for a token.
func (r *AccountRule) value(ctx context.Context, c claims) (string, error) {
	if r.Expression == nil {
		value, ok := c.member(r.Claim).(string)
		if !ok || value == "" {
			return "", fmt.Errorf("%w: the token has no text in the claim %q, or the issuer has not verified it", gate.ErrNoAccount, r.Claim)
		}
		return bounded(value)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", err // cannot happen, because the claims come from JSON
	}
	value, err := r.Expression.Evaluate(ctx, text)
	switch {
	case ctx.Err() != nil:
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w: the expression of account cannot judge the token: %w", gate.ErrNoAccount, err)
	case value == "":
		return "", fmt.Errorf("%w: the expression of account gives an empty text", gate.ErrNoAccount)
	}
	return bounded(value)
}

// maxValue bounds the length of the value of an account rule, in bytes.
const maxValue = 1024

func bounded(value string) (string, error) {
	if len(value) > maxValue {
		return "", fmt.Errorf("%w: the value for account has more than %d bytes", gate.ErrNoAccount, maxValue)
	}
	return value, nil
}

// accountOf returns the id of the account that a token pays from. The parameter create
// allows the rule to make the account. It returns gate.ErrNoAccount if there is no such
// account, and any other error if the accounts cannot be asked.
func (a *Authenticator) accountOf(ctx context.Context, t *trust, c claims, create bool) (string, error) {
	value, err := t.Account.value(ctx, c)
	if err != nil {
		return "", err
	}
	if t.Account.Trusted {
		return a.trustedAccount(ctx, value)
	}
	id := accountID(t.Source.Issuer(), value)
	a.mu.RLock()
	known, ok := a.opened.Get(id)
	a.mu.RUnlock()
	if ok {
		return known, nil
	}
	create = create && t.Account.Create
	if known, err = a.ownAccount(ctx, t, id, value, create); err != nil || create != t.Account.Create {
		return known, err
	}
	a.mu.Lock()
	a.opened.Put(id, known)
	a.mu.Unlock()
	return known, nil
}

// trustedAccount returns the account of which the value is the exact id or name. Names in
// another case do not count: the issuer may have two users with names that differ in case
// only.
func (a *Authenticator) trustedAccount(ctx context.Context, value string) (string, error) {
	account, err := a.accounts.Find(ctx, value)
	switch {
	case errors.Is(err, ledger.ErrNotFound), err == nil && account.ID != value && account.Name != value:
		return "", fmt.Errorf("%w: no account has the id or name that the token gives", gate.ErrNoAccount)
	case err != nil:
		return "", err
	case ledger.ValidName(account.Name) != nil: // an account of Farebox's own
		return "", fmt.Errorf("%w: this account cannot pay", gate.ErrNoAccount)
	}
	return account.ID, nil
}

// ownAccount returns the account for a value within an issuer: the account with the id that
// is derived from the value, or else an account that an operator has made under the name
// that is derived from the value.
func (a *Authenticator) ownAccount(ctx context.Context, t *trust, id, value string, create bool) (string, error) {
	name := accountName(t.Source.Issuer(), value)
	opening := Opening{ID: id, Name: name, Credit: t.Account.Credit, Test: t.test(), Issuer: t.Source.Issuer()}
	_, err := a.accounts.Find(ctx, id)
	switch {
	case err == nil && create: // the process may have died between the account and its credit
		return id, a.accounts.Open(ctx, opening)
	case err == nil:
		return id, nil
	case !errors.Is(err, ledger.ErrNotFound):
		return "", err
	}
	account, err := a.accounts.Find(ctx, name)
	switch {
	case err == nil && account.Name == name && account.ID != id:
		return account.ID, nil
	case err != nil && !errors.Is(err, ledger.ErrNotFound):
		return "", err
	case !create:
		return "", fmt.Errorf("%w: an account %q does not exist", gate.ErrNoAccount, name)
	}
	return id, a.accounts.Open(ctx, opening)
}

// accountID returns the id of the account for a value within an issuer. The id is a UUID of
// version 8, which callers of the API cannot choose.
func accountID(issuer, value string) string {
	u := uuid.UUID(hashOf("account", issuer, value))
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // version 8 and the variant of RFC 9562
	return "acct_" + u.String()
}

// hashOf returns half a SHA-256 of texts for a purpose. None of the texts but the last may
// contain a zero byte, which no URL does.
func hashOf(purpose, issuer, value string) [16]byte {
	sum := sha256.Sum256([]byte("issuer " + purpose + "\x00" + issuer + "\x00" + value))
	return [16]byte(sum[:16])
}

// hashMark begins the hash that stands for a value that cannot be a part of a name.
const hashMark = "~"

// labelOf returns the part of names that stands for the issuer: its host and, if it has a
// path, the beginning of a hash.
func labelOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return "" // cannot happen, because the options are checked
	}
	label := strings.NewReplacer("[", "", "]", "", ":", ".").Replace(u.Host)
	if strings.Trim(u.Path, "/") != "" || u.Scheme != "https" || u.Port() != "" {
		hash := hashOf("label", issuer, "")
		label += hashMark + hex.EncodeToString(hash[:4])
	}
	return label
}

// accountName returns the name of the account for a value within an issuer, such as
// idp.example.com:alice. Two values never have the same name: names are the same in upper
// and lower case, so a hash stands for a value that is not in lower case. No e-mail
// address, by which people register accounts, has a colon.
func accountName(issuer, value string) string {
	return labelOf(issuer) + ":" + plain(value, maxPlainName, "")
}

const (
	maxPlainName    = 120
	maxPlainSubject = 64
)

// plain returns the value if it consists of harmless characters, and a hash of it
// otherwise. The parameter also lists characters that are harmless beside lower-case
// letters, digits and some punctuation.
func plain(value string, most int, also string) string {
	ok := value != "" && len(value) <= most
	for _, c := range []byte(value) {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.@+|="+also, c) >= 0)
	}
	if ok {
		return value
	}
	hash := hashOf("value", "", value)
	return hashMark + hex.EncodeToString(hash[:])
}

const upperCase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// subjectOf returns the name of a subject for orders and logs, such as
// alice@idp.example.com.
func subjectOf(issuer, subject string) string {
	return plain(subject, maxPlainSubject, upperCase) + "@" + labelOf(issuer)
}

// lineageOf returns the lineage of all tokens of a subject.
func lineageOf(issuer, subject string) string {
	hash := hashOf("subject", issuer, subject)
	return "sub_" + hex.EncodeToString(hash[:])
}
