// Package remotestore is the store of a gateway that has none of its own: it
// asks another Farebox, the platform, over its API (package wire).
//
// Every request is safe to repeat: what changes something goes under an id that
// the caller made, and the platform answers a repetition with the first outcome.
// So a request that may have been lost is sent again, two times at the most and
// within its deadline; what is not known after that is ledger.ErrUnavailable,
// and so is every answer that cannot be read with certainty or is about
// something else than was asked. While the platform does not answer at all, a
// breaker lets calls fail at once.
//
// A store here has no operations of operators: accounts, keys and charges are
// managed at the platform.
package remotestore
