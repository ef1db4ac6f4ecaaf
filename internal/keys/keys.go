// Package keys defines Farebox keys: their kinds, the form of their secrets and
// digests, and the one check of a key's rights.
//
// A key is a credential in a store. Its secret is shown only one time, when the key
// is created; afterwards only the secret's SHA-256 exists (a plain hash suffices for
// secrets of 112 bits or more: OWASP ASVS 5.0, 6.5.2). The package does no I/O and
// imports only the standard library. Its functions are safe for concurrent use; a
// Key is never changed after it has been handed out.
package keys

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"time"
)

// Kind is the purpose of a key. A key of one kind never passes for a key of another
// (OWASP ASVS 5.0, 9.2.2): the scope that the kind implies decides. The zero Kind is
// not valid. The rules of each kind are a row of the table kindRules.
type Kind uint8

// The kinds of keys.
const (
	// Agent keys call MCP servers and are charged for it.
	Agent Kind = iota + 1
	// Provider keys charge agents on behalf of the servers of their account.
	Provider
	// Gateway keys let a gateway without a store of its own look keys up and reserve
	// calls at a platform.
	Gateway
	// Personal keys have only the rights of the scopes that they name, and always
	// expire.
	Personal
	// Admin keys manage accounts, keys and charges through the API.
	Admin
)

// The scopes that kinds imply. Key.Scopes does not name them.
const (
	ScopeConnect = "agent:connect"   // call servers, be charged
	ScopeCharge  = "provider:charge" // charge agents for the servers of the key's account
	ScopeLookup  = "gateway:lookup"  // look keys up, follow revocations, reserve
	ScopeAdmin   = "admin"           // manage everything
)

// Environment separates real credits from test credits. Test keys spend a test
// balance and reach only servers that admit them.
type Environment string

// The environments.
const (
	Live Environment = "live"
	Test Environment = "test"
)

// ParseEnvironment returns the environment of that name.
func ParseEnvironment(name string) (Environment, error) {
	switch e := Environment(name); e {
	case Live, Test:
		return e, nil
	default:
		return "", fmt.Errorf("unknown environment %q: want live or test", name)
	}
}

// Digest is the SHA-256 of a secret, the only form in which a secret is stored.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a secret.
func DigestOf(secret string) Digest { return sha256.Sum256([]byte(secret)) }

// Key is a credential as a store keeps it. Zero times mean "never".
type Key struct {
	ID          string      // "key_" and a UUIDv7
	Account     string      // the account that owns it: "acct_" and a UUIDv7
	Lineage     string      // the ID of the first key of its chain of rotations
	Kind        Kind        //
	Environment Environment //
	Name        string      // chosen by the operator; may be empty
	Hint        string      // prefix and last four digits of the secret, for display
	Digest      Digest      //
	Scopes      []string    // besides the scope that Kind implies
	Servers     []string    // servers it may call; empty means all
	Limits      *Limits     // on spending and requests; nil for none. Immutable
	CreatedAt   time.Time   //
	ExpiresAt   time.Time   // from this instant on it is expired
	DisabledAt  time.Time   // reversible
	DeletedAt   time.Time   // final
	LastUsedAt  time.Time   // coarse: not written at every use
	Successor   string      // the ID of the key that replaced it in a rotation; or ""
	// Proof lets a gateway charge the key for a while. A platform issues it when the
	// gateway looks the key up by its digest, because a gateway that knows the
	// digest has seen the secret. Proof is nil if the store is local. It is never
	// stored, and is immutable. It is a pointer to save memory, since most cached
	// keys have none.
	Proof *string
}

// ProofText returns the platform's proof, or "".
func (k *Key) ProofText() string {
	if k.Proof == nil {
		return ""
	}
	return *k.Proof
}

// Limits bound the spending and the requests of all keys of one lineage together, at
// all servers. Call, Day and Month bound the spending per call, UTC day and UTC month,
// in micro-units of the installation's currency. Zero means that there is no bound.
type Limits struct {
	Call  int64 `json:"call,omitempty"`
	Day   int64 `json:"day,omitempty"`
	Month int64 `json:"month,omitempty"`
	// Rate bounds the requests of the lineage.
	Rate Rate `json:"rate,omitzero"`
}

// Spending returns the bounds on spending. They are zero if l is nil.
func (l *Limits) Spending() (call, day, month int64) {
	if l == nil {
		return 0, 0, 0
	}
	return l.Call, l.Day, l.Month
}

// Check returns an error if one of the limits is out of range.
func (l *Limits) Check() error {
	if l.Call < 0 || l.Day < 0 || l.Month < 0 {
		return fmt.Errorf("a limit of a key is below zero: %+v", *l)
	}
	if !l.Rate.IsZero() {
		return l.Rate.Check()
	}
	return nil
}

// HasScope reports whether the key carries the scope. A key carries the scope that
// its kind implies and the scopes that the key names. A named scope that some kind
// implies counts only for keys with NamedRights.
func (k *Key) HasScope(scope string) bool {
	if impliedByAnyKind(scope) && !k.Kind.Rules().NamedRights {
		return scope == k.Kind.Implied() // k.Scopes cannot add such a scope
	}
	for _, s := range k.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// AllowsServer reports whether the key may call the server of that name.
func (k *Key) AllowsServer(server string) bool {
	if len(k.Servers) == 0 {
		return true
	}
	for _, s := range k.Servers {
		if s == server {
			return true
		}
	}
	return false
}

var serverForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// ValidServer reports whether the name is valid for a server: 1 to 64 ASCII letters,
// digits, '_', '.' and '-', beginning with a letter or digit.
func ValidServer(name string) bool { return serverForm.MatchString(name) }
