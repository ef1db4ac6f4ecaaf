package telemetry

import (
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Source gives the collectors the state of a running store and its cache. Its methods
// must be safe for concurrent use, and fast, because a scrape waits for them.
type Source interface {
	State() State
	// ExpiringKeys returns, for each duration, the number of usable keys that expire
	// within it, or false if they cannot be counted.
	ExpiringKeys(within []time.Duration) ([]int64, bool)
	// Sizes returns the sizes of the store at the latest measurement, or false if they
	// could not be measured.
	Sizes() (ledger.Sizes, bool)
	// Verified returns the result of the latest verification of the books, or false if
	// this process has not verified them yet.
	Verified() (Verified, bool)
	// UsageProgress returns the progress of the sums of usage, or false if it is
	// unknown or if the platform keeps the sums.
	UsageProgress() (ledger.UsageProgress, bool)
}

// State is the state of a Source at one moment.
type State struct {
	Up               bool
	OpenReservations int
	RefundsOwed      int // number of refunds that are due but could not be made yet
	CacheEntries     int
	Sessions         int // sessions with request ids in memory
	// RevocationLag is the time since the source last looked for changes of keys by
	// other processes. When the lag reaches RevocationLimit, the source stops trusting
	// its cached keys. Both are 0 if no other process changes keys.
	RevocationLag, RevocationLimit time.Duration
	// VerifyEvery is the pause between two verifications of the books, or 0 if the
	// books are not verified. If Verifies is false, the platform keeps the books, and
	// VerifyEvery has no meaning.
	VerifyEvery time.Duration
	Verifies    bool
	// Queue is the number of writes that wait. It is at most QueueLimit, which is 0 if
	// the store has no queue.
	Queue, QueueLimit int
	Connections       Connections
	Kind              string // the kind of store, as the config names it
}

// Connections describes the connections of a store to its database. It leaves out
// connections that only write. All fields are 0 if the database is a file.
type Connections struct {
	InUse, Idle, Limit int
	// Waited is the total time that callers have waited for a connection.
	Waited time.Duration
}

// Verified is the result of a verification of the books.
type Verified struct {
	At          time.Time // the time at which the verification ended
	Took        time.Duration
	Differences int
}
