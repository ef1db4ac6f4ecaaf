// Package remotestore implements the store of a gateway that has no database. It
// calls the API (package wire) of another Farebox, the platform.
//
// Every request is safe to repeat: the caller makes an id for each change, and for a
// repeated id the platform returns the first outcome again. A request that may have
// been lost is therefore retried up to two times within its deadline. The call fails
// with ledger.ErrUnavailable if the outcome is still unknown, or if the response is
// ambiguous or does not match the request. While the platform is down, a circuit
// breaker makes calls fail at once.
//
// The package has no operations for operators. Operators manage accounts, keys and
// charges at the platform.
package remotestore
