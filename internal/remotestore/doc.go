// Package remotestore is the store of a gateway without a database: it calls another
// Farebox, the platform, over its API (package wire).
//
// Every request is safe to repeat: each change has an id made by the caller, and the
// platform returns the first outcome again. So a request that may have been lost is
// retried up to two times within its deadline. If the outcome is still unknown, the
// call fails with ledger.ErrUnavailable, as it does for a response that is ambiguous
// or does not match the request. While the platform is down, a circuit breaker makes
// calls fail at once.
//
// The package has no operations for operators: accounts, keys and charges are managed
// at the platform.
package remotestore
