package keys

import (
	"errors"
	"slices"
	"time"
)

// The reasons to refuse a key, for logs and metrics. Clients see less detail.
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

// Use is a purpose that a key is checked for.
type Use struct {
	// Kinds are the admitted kinds; empty admits all.
	Kinds []Kind
	// Scope is the required scope, or "". If some kind implies the scope, a key that
	// lacks it is refused with ErrKind instead of ErrScope.
	Scope string
	// Server is the name of the called server, or "".
	Server string
	// Environments are the environments that the server admits; empty admits all.
	Environments []Environment
}

// Check returns nil if the key may be used now. Otherwise it returns one of this
// package's errors, unwrapped. If several errors apply, Check returns the one that is
// declared first, so a deleted key is never reported as merely expired. Check does not
// allocate.
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
