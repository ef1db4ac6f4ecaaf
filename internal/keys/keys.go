// Package keys defines Farebox keys: their kinds, the form of their secrets and
// digests, and the one check of a key's rights.
//
// A key is a credential in a store. Its secret is shown only once, when the key is
// created; afterwards only the secret's SHA-256 exists (a plain hash suffices for
// secrets of 112 bits or more: OWASP ASVS 5.0, 6.5.2). The package does no I/O and
// imports only the standard library. Its functions are safe for concurrent use; a Key
// is never changed after it has been handed out.
package keys

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unsafe"
)

// Kind is the purpose of a key. A key of one kind never passes for a key of another,
// because each kind implies a scope of its own (OWASP ASVS 5.0, 9.2.2). The zero Kind
// is not valid. The rules of each kind are a row of the table kindRules.
type Kind uint8

// The kinds of keys.
const (
	// Agent keys call MCP servers and are charged for the calls.
	Agent Kind = iota + 1
	// Provider keys charge agents for the servers of the key's account.
	Provider
	// Gateway keys let a gateway without a store of its own look keys up and reserve
	// calls at a platform.
	Gateway
	// Personal keys have only the rights of the scopes that they name, and always
	// expire.
	Personal
	// Admin keys manage accounts, keys and charges through the API.
	Admin
	// Access tokens call one MCP server, as agent keys do. The authorization server
	// issues them to OAuth clients.
	Access
	// Refresh tokens get new access tokens from the authorization server.
	Refresh
)

// The scopes that kinds of keys imply. A key does not list the scope that its kind
// implies. Only a personal key can have one of these scopes in Key.Scopes, because its
// kind implies no scope.
const (
	ScopeConnect = "agent:connect"   // to call servers and be charged
	ScopeCharge  = "provider:charge" // to charge agents for the servers of the key's account
	ScopeLookup  = "gateway:lookup"  // to look keys up, follow revocations and reserve calls
	ScopeAdmin   = "admin"           // to manage accounts, keys and charges
	ScopeRefresh = "oauth:refresh"   // to get access tokens
)

// Environment separates real credits from test credits. Test keys spend a test
// balance and reach only servers that admit them.
type Environment string

// The environments.
const (
	Live Environment = "live"
	Test Environment = "test"
)

// ParseEnvironment returns the environment with the given name.
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

// DigestOf returns the digest of a secret. It does not allocate: the secret is read through
// a view, because a copy of a long secret would be on the heap.
func DigestOf(secret string) Digest {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(secret), len(secret)))
}

// Key is a credential as a store keeps it. Zero times mean "never".
type Key struct {
	ID          string      // "key_" and a UUIDv7
	Account     string      // the account that owns the key: "acct_" and a UUIDv7
	Lineage     string      // the ID of the first key in this key's chain of rotations
	Kind        Kind        // may imply a scope; see Kind.Implied
	Environment Environment // live or test
	Name        string      // chosen by the operator; may be empty
	Hint        string      // prefix and last four digits of the secret, for display
	Digest      Digest      // the SHA-256 of the secret
	Scopes      []string    // scopes beside the one that Kind implies
	Servers     []string    // names of the servers that the key may call; empty means all
	Limits      *Limits     // immutable limits on spending and requests; nil for none
	CreatedAt   time.Time   // the time when the key was created
	ExpiresAt   time.Time   // the key is expired from this instant on
	DisabledAt  time.Time   // the time when the key was disabled; zero again after it is enabled
	DeletedAt   time.Time   // the time when the key was deleted, which is final
	LastUsedAt  time.Time   // the approximate time of the last use, because not every use is written
	Successor   string      // the ID of the key that replaced this key in a rotation; or ""
	// Proof lets a gateway charge calls to the key for a limited time. A platform
	// issues the proof when the gateway looks the key up by its digest, because a
	// gateway that knows the digest has seen the secret. Proof is nil if the store is
	// local. Stores never keep a proof, and its text is immutable. Proof is a pointer
	// to save memory, because most cached keys have no proof.
	Proof *string
}

// IsCredentialID reports whether a text has the form of the id of a credential, as charges
// and records have ids: that of a stored key, the name of a subject of another issuer
// (such as alice@idp.example.com), or the lineage of such a subject. Secrets that Farebox has
// minted have none of these forms.
func IsCredentialID(text string) bool {
	return strings.HasPrefix(text, "key_") || strings.HasPrefix(text, "sub_") || strings.Contains(text, "@")
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

// AllowsServer reports whether the key may call the server with the given name.
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
