package keys

import (
	"errors"
	"slices"
	"time"
)

// Why a key was refused. They are kept apart for logs and metrics; what a
// client is told of them is decided by the gateway and is less.
var (
	ErrMalformed   = errors.New("not a key: wrong form or checksum")
	ErrUnknown     = errors.New("no such key")
	ErrDeleted     = errors.New("key is deleted")
	ErrDisabled    = errors.New("key is disabled")
	ErrExpired     = errors.New("key has expired")
	ErrKind        = errors.New("key is of the wrong kind")
	ErrEnvironment = errors.New("the server does not admit the key's environment")
	ErrServer      = errors.New("key may not call this server")
	ErrScope       = errors.New("key lacks the scope")
)

// Use is what a key is asked to be good for.
type Use struct {
	// Kinds that may be used so; empty admits all.
	Kinds []Kind
	// Scope that is needed; "" asks for none. The scopes that kinds imply
	// decide the kind: a key that lacks such a scope is of the wrong kind.
	Scope string
	// Server that is to be called; "" asks for none.
	Server string
	// Environments that the server admits; empty admits all.
	Environments []Environment
}

// Check reports whether the key may be used so at that time. The error is one
// of this package's, never wrapped; the first reason in the order of their
// declaration wins, so that a deleted key is never called merely expired.
// Check does not allocate.
func (k *Key) Check(now time.Time, use Use) error {
	switch {
	case !k.DeletedAt.IsZero():
		return ErrDeleted
	case !k.DisabledAt.IsZero():
		return ErrDisabled
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return ErrExpired
	case len(use.Kinds) > 0 && !slices.Contains(use.Kinds, k.Kind):
		return ErrKind
	case impliedByAnyKind(use.Scope) && !k.HasScope(use.Scope):
		return ErrKind
	case len(use.Environments) > 0 && !slices.Contains(use.Environments, k.Environment):
		return ErrEnvironment
	case use.Server != "" && !k.AllowsServer(use.Server):
		return ErrServer
	case use.Scope != "" && !k.HasScope(use.Scope):
		return ErrScope
	}
	return nil
}

// impliedByAnyKind reports whether the scope is one that decides the kind.
func impliedByAnyKind(scope string) bool {
	switch scope {
	case ScopeConnect, ScopeCharge, ScopeLookup, ScopeAdmin:
		return true
	default:
		return false
	}
}
