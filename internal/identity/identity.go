// Package identity defines the principals that make requests, and their rights. An
// Authenticator finds a request's principal by the request's credential.
//
// Package ops declares the right that each operation needs, and checks that the
// principal has this right.
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
	ManageAccounts                   // create accounts, and change the limits of accounts
	MoveCredits                      // credit and adjust accounts, refund any charge
	Operate                          // back up and archive the store, and check the servers in the config
	Spend                            // be charged for calls, and see the balance of the key's account
	Charge                           // charge agents in one step
	Settle                           // reserve, renew, capture and release
	RefundOwn                        // refund charges that the principal itself has captured
	Relay                            // look up keys, follow changes of keys, keep bindings
	ManagePeople                     // invite, change and remove people, and end their sessions; no kind of key has this right
	ManageAlerts                     // choose which alerts accounts get

	// Operator has all rights of the server's operator.
	Operator = View | ManageKeys | ManageAccounts | MoveCredits | Operate | ManagePeople | ManageAlerts
)

var rightNames = [...]string{
	"view", "manage keys", "manage accounts", "move credits", "operate", "spend", "charge", "settle", "refund own charges", "relay", "manage people", "manage alerts",
}

// String returns the names of the rights.
func (r Right) String() string {
	var names []string
	for rest := r; rest != 0; rest &= rest - 1 {
		names = append(names, rightNames[bits.TrailingZeros16(uint16(rest))])
	}
	return strings.Join(names, ", ")
}

// Has reports whether r includes all rights of needed. Has returns false if needed is
// empty. So every principal is refused an operation for which no right was declared.
func (r Right) Has(needed Right) bool { return needed != 0 && r&needed == needed }

// byKind has the rights of stored keys by their kind. Personal keys are missing,
// because their rights follow from their scopes.
var byKind = map[keys.Kind]Right{
	keys.Agent:    Spend,
	keys.Provider: Charge | Settle,
	keys.Gateway:  Settle | RefundOwn | Relay,
	keys.Admin:    View | ManageKeys | ManageAccounts | MoveCredits | ManageAlerts,
	keys.Access:   Spend,
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

// Principal is the party that makes a request: an operator or the holder of a key.
type Principal struct {
	Subject     string           // the principal's name in the audit log: the id of a key, or a name such as "offline"
	Account     string           // id of the principal's account; "" for an operator
	Key         *keys.Key        // the stored key with which the request was authenticated; nil if it was authenticated otherwise
	Rights      Right            // the rights of the principal
	Environment keys.Environment // environment of the principal's key; "" for an operator
	Client      netip.Addr       // the address of the client; zero if unknown
	Remote      string           // the listener's name for the client, if Client is zero; may be empty
}

// From returns the address of the principal's client, as the audit log has it.
func (p *Principal) From() string {
	if p.Client.IsValid() {
		return p.Client.String()
	}
	return p.Remote
}

// Authenticator finds the principal of a request. It is given the request and the
// client's address, which is zero if it is unknown.
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
