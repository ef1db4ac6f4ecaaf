package client

import (
	"context"
	"time"
)

// Registration is the row of a registered client.
type Registration struct {
	ID       string
	Name     string // as Client.Name, for lists
	Metadata []byte // JSON of the accepted metadata
	Secret   Digest // zero for a client without a secret
	Source   string // network from which the client registered, such as 203.0.113.7 or 2001:db8::/64
	// CreatedAt and UsedAt are when the client registered, and when it was last used. UsedAt
	// is zero until a grant was made: the registration is then unfinished. It lags by up to
	// a day.
	CreatedAt, UsedAt time.Time
}

// Document is the row of a metadata document that was used for a grant.
type Document struct {
	URL       string
	Body      []byte    // as it was received, at most MaxDocument bytes
	FetchedAt time.Time // when it was last fetched without a failure
	FreshTo   time.Time // it need not be fetched again before this time
	FailedAt  time.Time // the first failed fetch since FetchedAt; zero without one
}

// Store keeps registered clients, the documents of clients that were used, and the ids of
// assertions. It is safe for concurrent use. Methods that look for one row return
// ledger.ErrNotFound if it does not exist. Failures wrap ledger.ErrUnavailable. Methods
// that delete return the number of deleted rows.
type Store interface {
	Registration(ctx context.Context, id string) (Registration, error)
	InsertRegistration(ctx context.Context, r *Registration) error
	// TouchRegistration writes UsedAt. A row that is gone is not an error.
	TouchRegistration(ctx context.Context, id string, used time.Time) error
	// CountUnfinished counts the registrations without UsedAt: those of a source, and all.
	CountUnfinished(ctx context.Context, source string) (bySource, total int64, err error)
	// DeleteRegistrations deletes the unfinished registrations that were created before
	// unfinished, and the others that were last used before unused.
	DeleteRegistrations(ctx context.Context, unfinished, unused time.Time) (int64, error)

	Document(ctx context.Context, url string) (Document, error)
	// PutDocument inserts or replaces the row of a URL.
	PutDocument(ctx context.Context, d *Document) error
	CountDocuments(ctx context.Context) (int64, error)
	// DeleteDocuments deletes the documents that were fetched before the time.
	DeleteDocuments(ctx context.Context, fetched time.Time) (int64, error)

	// UseOnce stores a digest. It returns ledger.ErrExists if the store has the digest, on
	// any node, even when it has expired.
	UseOnce(ctx context.Context, d Digest, expires time.Time) error
	// DeleteUsed deletes the digests that expired before the time.
	DeleteUsed(ctx context.Context, expired time.Time) (int64, error)
}
