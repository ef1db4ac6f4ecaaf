package identity

import (
	"context"
	"net/http"
	"net/netip"
)

type principalKey struct{}

// With returns a context that contains the principal. InContext finds it there.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// InContext is an Authenticator for requests that this process sends to itself. It
// takes the principal from the request's context, where With has put it. The context of
// a request from the network has no principal, so InContext refuses such a request.
type InContext struct{}

// Authenticate returns the principal in the request's context, or ErrMissing.
func (InContext) Authenticate(r *http.Request, _ netip.Addr) (Principal, error) {
	p, ok := r.Context().Value(principalKey{}).(Principal)
	if !ok {
		return Principal{}, ErrMissing
	}
	return p, nil
}
