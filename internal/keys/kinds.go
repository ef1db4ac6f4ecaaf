package keys

import (
	"fmt"
	"strings"
)

// KindRules are the rules of one kind of key. A new kind is a new row of
// kindRules and a constant.
type KindRules struct {
	// Name is the name of the kind in stores, in commands and on the wire.
	Name string
	// Implied is the scope that every key of the kind carries, or "". A key of a kind
	// that implies another scope never carries it; a key with NamedRights can.
	Implied string
	// NamedRights says that a key has only the rights that its scopes name. Such a key
	// needs at least one scope, for instance ScopeConnect. A key that is created
	// without scopes gets the catalogue's default scopes.
	NamedRights bool
	// Personal says that the key belongs to a person: it has the secret prefix of
	// personal keys, needs a name, and always expires.
	Personal bool
	// Pays says that the key may call MCP servers and be charged for the calls.
	Pays bool
	// Token is the prefix of the kind's secrets, such as "at", if only the authorization
	// server issues keys of this kind. It is "" for kinds that people create.
	Token string
}

var kindRules = [...]KindRules{
	Agent:    {Name: "agent", Implied: ScopeConnect, Pays: true},
	Provider: {Name: "provider", Implied: ScopeCharge},
	Gateway:  {Name: "gateway", Implied: ScopeLookup},
	Personal: {Name: "personal", NamedRights: true, Personal: true, Pays: true},
	Admin:    {Name: "admin", Implied: ScopeAdmin},
	Access:   {Name: "access", Implied: ScopeConnect, Pays: true, Token: "at"},
	Refresh:  {Name: "refresh", Implied: ScopeRefresh, Token: "rt"},
}

// valid reports whether k is one of the declared kinds.
func (k Kind) valid() bool { return k > 0 && int(k) < len(kindRules) }

// Rules returns the rules of the kind, which the caller must not change. An invalid
// kind has the zero rules, which allow nothing.
func (k Kind) Rules() *KindRules {
	if !k.valid() {
		return &kindRules[0]
	}
	return &kindRules[k]
}

// Kinds returns the names of all kinds, in the order of their declaration.
func Kinds() []string {
	names := make([]string, 0, len(kindRules)-1)
	for _, rules := range kindRules[1:] {
		names = append(names, rules.Name)
	}
	return names
}

// CreatedKinds returns the names of the kinds that people create. These are all kinds
// except tokens.
func CreatedKinds() []string {
	names := make([]string, 0, len(kindRules)-1)
	for _, rules := range kindRules[1:] {
		if rules.Token == "" {
			names = append(names, rules.Name)
		}
	}
	return names
}

// PayingKinds returns the kinds that may be charged.
func PayingKinds() (kinds []Kind) {
	for k := Agent; k.valid(); k++ {
		if k.Rules().Pays {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// String returns the kind's name, or "Kind(n)" for an invalid kind.
func (k Kind) String() string {
	if !k.valid() {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindRules[k].Name
}

// ParseKind returns the kind with the given name.
func ParseKind(name string) (Kind, error) {
	for k := Agent; k.valid(); k++ {
		if kindRules[k].Name == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown kind of key %q: want one of %s", name, strings.Join(Kinds(), ", "))
}

// Implied returns the scope that every key of the kind carries, or "".
func (k Kind) Implied() string { return k.Rules().Implied }

// impliedByAnyKind reports whether some kind implies the scope.
func impliedByAnyKind(scope string) bool {
	if scope == "" {
		return false
	}
	for i := range kindRules {
		if kindRules[i].Implied == scope {
			return true
		}
	}
	return false
}
