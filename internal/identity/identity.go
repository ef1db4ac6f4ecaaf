// Package identity defines the principals that make requests, and their rights. An
// Authenticator finds a request's principal by the request's credential.
//
// Package ops names the right that each operation needs, and checks in one place that
// the principal has it.
package identity

import (
	"errors"
	"math/bits"
	"net/http"
	"net/netip"
	"strings"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Right is a set of rights. An operation needs one right; a principal may have any
// number.
type Right uint16

// The rights.
const (
	View           Right = 1 << iota // read accounts, keys, charges, the journal and the audit log
	ManageKeys                       // create, change and delete keys
	ManageAccounts                   // create accounts and change their limits
	MoveCredits                      // credit and adjust accounts, refund any charge
	Operate                          // back up and archive the store, check the config's servers
	Spend                            // be charged, and see its own balance
	Charge                           // charge agents in one step
	Settle                           // reserve, renew, capture and release
	RefundOwn                        // refund charges that the principal itself has captured
	Relay                            // look keys up, follow their changes, keep bindings

	// Operator has all rights of the server's operator.
	Operator = View | ManageKeys | ManageAccounts | MoveCredits | Operate
)

var rightNames = [...]string{
	"view", "manage keys", "manage accounts", "move credits", "operate", "spend", "charge", "settle", "refund own charges", "relay",
}

// String returns the names of the rights.
func (r Right) String() string {
	var names []string
	for rest := r; rest != 0; rest &= rest - 1 {
		names = append(names, rightNames[bits.TrailingZeros16(uint16(rest))])
	}
	return strings.Join(names, ", ")
}

// Has reports whether r includes all rights of needed. It is false if needed is empty,
// so that an operation without a right is refused to every principal.
func (r Right) Has(needed Right) bool { return needed != 0 && r&needed == needed }

// byKind has the rights of stored keys by kind. The rights of personal keys follow from
// their scopes.
var byKind = map[keys.Kind]Right{
	keys.Agent:    Spend,
	keys.Provider: Charge | Settle,
	keys.Gateway:  Settle | RefundOwn | Relay,
	keys.Admin:    View | ManageKeys | ManageAccounts | MoveCredits,
}

// RightsOf returns the rights of a stored key.
func RightsOf(k *keys.Key) Right {
	if k.Kind.Rules().NamedRights && k.HasScope(keys.ScopeConnect) {
		return Spend
	}
	return byKind[k.Kind]
}

// KindsWith returns the kinds of keys that can have the right, in the order of
// their declaration.
func KindsWith(needed Right) (kinds []keys.Kind) {
	for _, name := range keys.Kinds() {
		kind, err := keys.ParseKind(name)
		if err == nil && RightsOf(&keys.Key{Kind: kind, Scopes: []string{keys.ScopeConnect}}).Has(needed) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Principal is the author of a request.
type Principal struct {
	Subject     string           // its name in the audit log: the id of a key, or a name such as "offline"
	Account     string           // id of its account; "" for an operator
	Key         *keys.Key        // the stored key that authenticated it; nil without one
	Rights      Right            //
	Environment keys.Environment // environment of its key; "" for an operator
	Client      netip.Addr       // the address of the client; zero if unknown
	Remote      string           // the listener's name for the client, if Client is zero; may be empty
}

// From returns the address of the principal's client, for the audit log.
func (p *Principal) From() string {
	if p.Client.IsValid() {
		return p.Client.String()
	}
	return p.Remote
}

// Authenticator finds the principal of a request. The parameter client is the
// address that the request came from, or zero if it is unknown.
//
// The errors ErrMissing, ErrInvalid and ErrExpired, which may be wrapped, say that the
// credential is refused. Any other error means that it could not be checked.
type Authenticator interface {
	Authenticate(r *http.Request, client netip.Addr) (Principal, error)
}

// Reasons to refuse a credential.
var (
	ErrMissing = errors.New("the request has no credential")
	ErrInvalid = errors.New("the credential is invalid")
	ErrExpired = errors.New("the credential has expired")
)

// As is an Authenticator that returns the same principal for every request.
type As Principal

// Authenticate returns the principal a.
func (a As) Authenticate(*http.Request, netip.Addr) (Principal, error) { return Principal(a), nil }
