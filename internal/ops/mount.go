package ops

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/wire"
)

// MountOptions configure a Mount. Base, Auth and Logger are required.
type MountOptions struct {
	Base        string // prefix of all paths, such as /api/v1
	Auth        identity.Authenticator
	Logger      *slog.Logger
	Title       string // title of the OpenAPI document
	Version     string
	Description string

	Unknown     string // hint in the refusal of an unknown path
	Credential  string // the word for a credential; "" means "key"
	Missing     string // hint in the refusal of a request without a credential
	Wrong       string // hint in the refusal of an invalid credential
	Realm       string // realm in the header WWW-Authenticate; "" means "farebox"
	Unavailable string // hint after an operation that failed, such as where to read the cause
	Private     bool   // requests without a valid credential are refused alike on every path, to hide which paths exist

	Memory *share.Budget // bounds the request bodies in memory; nil means no bound
	Done   func(*Visit)  // called after each successful operation; may be nil
}

// Mount serves operations over HTTP, on paths that begin with a common base. It is safe
// for concurrent use after all operations are registered.
type Mount struct {
	o     MountOptions
	mux   *http.ServeMux
	api   huma.API
	rules map[string]*Operation // by the pattern of mux; nil for pages that need no credential
}

// NewMount returns a mount without operations.
func NewMount(o MountOptions) *Mount {
	o.Realm, o.Credential = cmp.Or(o.Realm, "farebox"), cmp.Or(o.Credential, "key")
	m := &Mount{o: o, mux: http.NewServeMux(), rules: make(map[string]*Operation)}
	m.api = m.newAPI()
	return m
}

// bodyTime is how long a request body may take to arrive.
const bodyTime = 30 * time.Second

// ServeHTTP serves a request. It uses the remote address as the client's address.
func (m *Mount) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero address for a unix socket
	m.Serve(w, r, from.Addr(), nil)
}

// Serve serves a request of the given client. The client's address may be the zero Addr
// if it is unknown. If known is not nil, Serve calls known(principal) before the
// operation begins.
func (m *Mount) Serve(w http.ResponseWriter, r *http.Request, client netip.Addr, known func(*identity.Principal)) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	op, refused := m.route(w, r)
	if refused != nil {
		if m.o.Private {
			if _, denied := m.authenticate(r, client, m.o.Credential); denied != nil {
				w.Header().Del("Allow")
				refused = denied
			}
		}
		m.refuse(w, refused)
		return
	}
	if op == nil {
		m.mux.ServeHTTP(w, r)
		return
	}
	v := &Visit{Client: client, Header: r.Header}
	if v.By, refused = m.admit(r, client, op); refused != nil {
		m.refuse(w, refused)
		return
	}
	if known != nil {
		known(&v.By)
	}
	var memory share.Allocation
	if m.o.Memory != nil && v.By.Key != nil { // operators give out keys, so their holders count as paying clients
		m.o.Memory.Open(&memory, share.Holder{Address: client, Account: v.By.Account, Lineage: v.By.Key.Lineage, Paid: true})
		defer memory.Close()
	}
	// Replace the body in a copy of the request, because the server needs the
	// original body to reuse the connection.
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	if refused = readBody(w, r, &memory, op.MaxBody); refused == nil && op.MaxBody > 0 {
		// Check the credential again, because it may have become invalid while the body
		// arrived. The client decides how long that takes.
		v.By, refused = m.admit(r, client, op)
	}
	if refused != nil {
		m.refuse(w, refused)
		return
	}
	m.mux.ServeHTTP(w, r)
}

func (m *Mount) refuse(w http.ResponseWriter, p *wire.Problem) {
	writeProblem(w, p, m.o.Realm)
}

// Visit describes a request that a mount has admitted.
type Visit struct {
	By     identity.Principal
	Client netip.Addr  // zero if unknown
	Header http.Header // request headers
	Payer  *keys.Key   // the key that the operation charged, if it is not the caller's own; otherwise nil
}

type visitKey struct{}

// VisitOf returns the visit in the context of an operation.
func VisitOf(ctx context.Context) *Visit { return ctx.Value(visitKey{}).(*Visit) }

func (m *Mount) done(ctx context.Context) {
	if m.o.Done != nil {
		m.o.Done(VisitOf(ctx))
	}
}

// methods are the methods that operations can have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// route returns the operation of a request, or nil for a page that needs no
// credential. Paths are taken literally and never cleaned or redirected, because a
// client that follows a redirect would send its key again.
func (m *Mount) route(w http.ResponseWriter, r *http.Request) (*Operation, *wire.Problem) {
	if escaped := r.URL.EscapedPath(); path.Clean(escaped) == escaped { // EscapedPath keeps an escaped slash, which is a part of a name
		if _, pattern := m.mux.Handler(r); pattern != "" {
			if op := m.rules[pattern]; r.Method != http.MethodHead || op == nil {
				return op, nil
			}
		}
		if allowed := m.allowed(r); len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			return nil, Problem(wire.MethodNotAllowed, "The path does not have this method", "It has: "+strings.Join(allowed, ", "))
		}
	}
	return nil, Problem(wire.NotFound, "There is no such operation", strings.TrimSpace("there is no "+r.Method+" of this path: "+m.o.Unknown))
}

// allowed returns the methods for which the request's path has an operation.
func (m *Mount) allowed(r *http.Request) []string {
	return slices.DeleteFunc(slices.Clone(methods), func(method string) bool {
		probe := *r
		probe.Method = method
		_, pattern := m.mux.Handler(&probe)
		return pattern == ""
	})
}

// admit authenticates the request and checks that its principal has the right that
// the operation needs. No other code checks rights.
func (m *Mount) admit(r *http.Request, client netip.Addr, op *Operation) (identity.Principal, *wire.Problem) {
	by, refused := m.authenticate(r, client, cmp.Or(op.Credential, m.o.Credential))
	if refused == nil && !by.Rights.Has(op.Needs) {
		refused = Problem(wire.KindWrong, "The key is of the wrong kind", "This is for "+kindNames(op.Needs))
	}
	return by, refused
}

// authenticate returns the principal of the request. Problems call the credential by
// the given name, such as "key".
func (m *Mount) authenticate(r *http.Request, client netip.Addr, name string) (identity.Principal, *wire.Problem) {
	by, err := m.o.Auth.Authenticate(r, client)
	switch {
	case err == nil:
		return by, nil
	case errors.Is(err, identity.ErrMissing):
		return by, Problem(wire.TokenInvalid, "Invalid "+name, m.o.Missing)
	case errors.Is(err, identity.ErrInvalid):
		return by, Problem(wire.TokenInvalid, "Invalid "+name, m.o.Wrong)
	case errors.Is(err, identity.ErrExpired):
		return by, Problem(wire.TokenExpired, strings.ToUpper(name[:1])+name[1:]+" expired", "")
	}
	return by, m.problem(r.Context(), "authenticate", err)
}

// Admit authenticates the request again. It returns the current principal, or a
// problem if the request would now be refused.
func (x *Exchange) Admit() (identity.Principal, *wire.Problem) {
	return x.mount.admit(x.R, VisitOf(x.R.Context()).Client, x.op)
}

// kindNames describes the holders of a right: the kinds of keys, or the operator.
func kindNames(needed identity.Right) string {
	var names []string
	for _, kind := range identity.KindsWith(needed) {
		name := kind.String()
		if kind.Rules().NamedRights {
			name += " with the scope " + keys.ScopeConnect
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "the operator alone"
	}
	return "keys of kind " + strings.Join(names, " or ")
}
