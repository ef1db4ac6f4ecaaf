package platform

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
)

// matrix lists every operation with the principals that may perform it. A new
// operation or principal must be added here too.
var matrix = map[string]string{
	"account.list": "operator admin", "account.create": "operator admin", "account.show": "operator admin", "account.update": "operator admin",
	"account.credit": "operator admin", "account.adjust": "operator admin",
	"key.list": "operator admin", "key.create": "operator admin", "key.show": "operator admin", "key.update": "operator admin",
	"key.delete": "operator admin", "key.disable": "operator admin", "key.enable": "operator admin", "key.rotate": "operator admin",
	"charge.list": "operator admin", "charge.sum": "operator admin", "charge.show": "operator admin", "charge.refund": "operator admin",
	"journal.list": "operator admin", "ledger.verify": "operator admin", "ledger.verification.start": "operator admin", "ledger.verification.show": "operator admin", "ledger.archive.show": "operator admin",
	"audit.list": "operator admin", "receipt.keys": "operator admin", "usage.show": "operator admin", "call.list": "operator admin",
	"ledger.archive.part": "operator", "ledger.archive": "operator", "backup": "operator",
	"server.list": "operator", "server.show": "operator", "server.check": "operator", "health.show": "operator", "node.list": "operator",
	"invitation.create": "operator", "invitation.list": "operator", "invitation.withdraw": "operator",
	"person.list": "operator", "person.show": "operator", "person.update": "operator", "person.disable": "operator", "person.enable": "operator", "person.remove": "operator",
	"alert.list": "operator admin", "alert.settings": "operator admin", "alert.set": "operator admin", "alert.test": "operator",
	"grant.list": "operator admin", "grant.show": "operator admin", "grant.revoke": "operator admin",
	"session.list": "operator", "session.end": "operator",

	"charge":       "provider",
	"balance.show": "agent, access, personal with agent:connect",
	"key.lookup":   "gateway", "key.used": "gateway", "revocation.follow": "gateway", "revocation.leave": "gateway", "revocation.stream": "gateway",
	"binding.put": "gateway", "binding.show": "gateway",
	"reservation.create": "gateway provider", "reservation.renew": "gateway provider", "reservation.capture": "gateway provider", "reservation.release": "gateway provider",
	"reservation.refund": "gateway",
}

// principals returns every kind of principal, by the name used in the matrix.
func principals() map[string]identity.Principal {
	of := func(k keys.Key) identity.Principal { return identity.Principal{Key: &k, Rights: identity.RightsOf(&k)} }
	all := map[string]identity.Principal{
		"operator":                    {Rights: identity.Operator},
		"nobody":                      {},
		"personal":                    of(keys.Key{Kind: keys.Personal}),
		"personal with other scopes":  of(keys.Key{Kind: keys.Personal, Scopes: []string{"reports:read", keys.ScopeCharge, keys.ScopeLookup, keys.ScopeAdmin}}),
		"personal with agent:connect": of(keys.Key{Kind: keys.Personal, Scopes: []string{keys.ScopeConnect}}),
		"no kind":                     of(keys.Key{Scopes: []string{keys.ScopeAdmin}}),
	}
	for _, kind := range []keys.Kind{keys.Agent, keys.Provider, keys.Gateway, keys.Admin, keys.Access, keys.Refresh} {
		all[kind.String()] = of(keys.Key{Kind: kind})
		// A scope in the list of a key must not give it the rights of another kind.
		all["scoped "+kind.String()] = of(keys.Key{Kind: kind, Environment: keys.Test, Scopes: []string{keys.ScopeAdmin, keys.ScopeLookup, keys.ScopeCharge, keys.ScopeConnect}})
	}
	return all
}

// mayPerform reports whether the matrix allows the operation to the principal.
func mayPerform(operation, principal string) bool {
	principal = strings.TrimPrefix(principal, "scoped ")
	if allowed := matrix[operation]; strings.Contains(allowed, ",") {
		return slices.Contains(strings.Split(allowed, ", "), principal)
	}
	return slices.Contains(strings.Fields(matrix[operation]), principal)
}

// fixed authenticates every request as the same principal.
type fixed struct{ identity.Principal }

func (f *fixed) Authenticate(*http.Request, netip.Addr) (identity.Principal, error) {
	return f.Principal, nil
}

// TestRightsMatrix checks, on a mount that serves all operations, that each operation
// is open to exactly the principals in the matrix. A refused request never reaches
// its operation.
func TestRightsMatrix(t *testing.T) {
	s := newSite(t)
	caller := new(fixed)
	m := ops.NewMount(ops.MountOptions{Base: "/all", Auth: caller, Logger: s.platform.o.Logger})
	entered := false
	ops.Register(m, counting(&entered, s.platform), Operations())
	ops.Register(m, counting(&entered, s.service), ops.Store())
	ops.Register(m, counting[*people.Service](&entered, nil), ops.OnPeople())
	ops.Register(m, counting[*alert.Service](&entered, nil), ops.OnAlerts())
	ops.Register(m, counting[*ops.Grants](&entered, nil), ops.OnGrants())
	ops.Register(m, counting[ops.Servers](&entered, nil), ops.OnServers())
	ops.Register(m, counting[ops.Nodes](&entered, nil), ops.OnNodes())
	ops.Register(m, counting[ops.Health](&entered, nil), ops.OnHealth())
	all := slices.Concat(ops.All(), ops.Describe(Operations()))
	seen := make(map[string]bool)
	for _, op := range all {
		seen[op.ID] = true
		if matrix[op.ID] == "" {
			t.Errorf("the matrix does not have %s", op.ID)
		}
		for name, p := range principals() {
			caller.Principal, entered = p, false
			path := strings.NewReplacer("{id}", "x", "{ref}", "x", "{hash}", strings.Repeat("a", 32), "{name}", "x", "{node}", "x").Replace(op.Path)
			w := httptest.NewRecorder()
			m.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), op.Method, "/all"+path, nil))
			want := mayPerform(op.ID, name)
			if p.Rights.Has(op.Needs) != want {
				t.Errorf("%s by %s: right %v, want %v", op.ID, name, !want, want)
			}
			if refused := w.Code == http.StatusForbidden && strings.Contains(w.Body.String(), "KIND_WRONG"); refused == want || entered && !want {
				t.Errorf("%s by %s: %d %s, entered %v; allowed is %v", op.ID, name, w.Code, w.Body, entered, want)
			}
		}
	}
	for id := range matrix {
		if !seen[id] {
			t.Errorf("there is no operation %s", id)
		}
	}
}

// counting records that an operation was entered, and ends the operation there.
func counting[E any](entered *bool, _ E) ops.Open[E] {
	return func() (e E, release func(), err error) {
		*entered = true
		return e, nil, ops.Invalid("", "entered")
	}
}
