// Package keys says what a Farebox key is: its kinds, the form of its secret,
// its digest, and the one check that decides whether it may do what is asked.
//
// A key is a credential in a store. Its secret is shown once, when it is made;
// afterwards only the SHA-256 of it exists (a plain hash is right for secrets
// of 112 bits or more: OWASP ASVS 5.0, 6.5.2). The package does no I/O and
// imports nothing but the standard library. All of its functions may be used
// by many goroutines at once; a Key that was handed out is never changed.
package keys

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Kind says what a key is for. A key of one kind never passes for another
// (OWASP ASVS 5.0, 9.2.2): what it is for is the scope that it implies. The
// zero Kind is not valid.
type Kind uint8

// The kinds of keys.
const (
	// Agent keys call MCP servers and are charged for it.
	Agent Kind = iota + 1
	// Provider keys charge agents on behalf of the servers of their account.
	Provider
	// Gateway keys look keys up and reserve for a gateway without a store.
	Gateway
	// Personal keys do what their named scopes say, and always expire.
	Personal
	// Admin keys manage accounts, keys and charges through the API.
	Admin
)

var kindNames = [...]string{Agent: "agent", Provider: "provider", Gateway: "gateway", Personal: "personal", Admin: "admin"}

// Kinds lists the names of all kinds, in the order of their declaration.
func Kinds() []string { return append([]string(nil), kindNames[1:]...) }

// String returns the kind's name, or "Kind(n)" for a value that is none.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// ParseKind returns the kind of that name.
func ParseKind(name string) (Kind, error) {
	for k := Agent; int(k) < len(kindNames); k++ {
		if kindNames[k] == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown kind of key %q: want one of %s", name, strings.Join(Kinds(), ", "))
}

// The scopes that a kind carries without being named in Key.Scopes.
const (
	ScopeConnect = "agent:connect"   // call servers, be charged
	ScopeCharge  = "provider:charge" // charge agents for the servers of the key's account
	ScopeLookup  = "gateway:lookup"  // look keys up, follow revocations, reserve
	ScopeAdmin   = "admin"           // manage everything
)

// Implied returns the scope that every key of the kind carries, or "".
func (k Kind) Implied() string {
	switch k {
	case Agent:
		return ScopeConnect
	case Provider:
		return ScopeCharge
	case Gateway:
		return ScopeLookup
	case Admin:
		return ScopeAdmin
	default:
		return ""
	}
}

// Environment separates real credits from a sandbox. Test keys spend a sandbox
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
	Name        string      // given by the operator; may be empty
	Hint        string      // prefix and last four digits of the secret, for display
	Digest      Digest      //
	Scopes      []string    // beyond what Kind implies
	Servers     []string    // servers it may call; empty means all
	Limits      *Limits     // what it may spend; nil for no limits. Never changed once set
	CreatedAt   time.Time   //
	ExpiresAt   time.Time   // from this instant on it is expired
	DisabledAt  time.Time   // reversible
	DeletedAt   time.Time   // final
	LastUsedAt  time.Time   // coarse: written now and then, not at every use
	Successor   string      // the ID of the key that a rotation made of it; "" if none did
	// Proof is a platform's word that a gateway has asked for the key by its
	// digest, and so was shown the secret: who says it may have the key charged
	// for a while. Nil where the store is the process's own; never stored, and
	// never changed once set. A pointer, since most cached keys have none.
	Proof *string
}

// ProofText returns the platform's word, "" where there is none.
func (k *Key) ProofText() string {
	if k.Proof == nil {
		return ""
	}
	return *k.Proof
}

// Limits bound what the keys of one lineage do together, at all servers: what
// they spend, in micro-units of the installation's currency and in UTC days and
// months, and how often they ask. Zero is no bound.
type Limits struct {
	Call  int64 `json:"call,omitempty"`
	Day   int64 `json:"day,omitempty"`
	Month int64 `json:"month,omitempty"`
	// Rate bounds the requests of the lineage, at all servers together.
	Rate Rate `json:"rate,omitzero"`
}

// Check returns an error if one of the limits is not within its bounds.
func (l *Limits) Check() error {
	if l.Call < 0 || l.Day < 0 || l.Month < 0 {
		return fmt.Errorf("a limit of a key is below zero: %+v", *l)
	}
	if !l.Rate.IsZero() {
		return l.Rate.Check()
	}
	return nil
}

// HasScope reports whether the key carries the scope, by its kind or by name.
// Only personal keys carry by name a scope that comes with a kind.
func (k *Key) HasScope(scope string) bool {
	if impliedByAnyKind(scope) && k.Kind != Personal {
		return scope == k.Kind.Implied() // a name in Scopes makes no key of another kind
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
