package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/recent"
)

// How long documents are used.
const (
	minFresh     = 5 * time.Minute  // even if its server wants no caching
	maxFresh     = 24 * time.Hour   // even if its server allows more
	defaultFresh = time.Hour        // without Cache-Control
	retryAfter   = 30 * time.Second // from a failed fetch to the next one
	// KeepFailing is how long the last good document is used while fetching fails, from the
	// first failure on. A client with a valid token asks for nothing, so the first failure
	// can be weeks after the last good fetch.
	KeepFailing = 7 * 24 * time.Hour
	// KeepDocument is how long a document is used at all after it was fetched: the life of a
	// refresh token and KeepFailing.
	KeepDocument = 30*24*time.Hour + KeepFailing
)

// loadTime bounds a fetch and the queries of the store around it.
const loadTime = 10 * time.Second

// Bounds of the documents in memory and in the store.
const (
	MaxDocuments     = 10_000
	maxDocumentBytes = 32 << 20 // in memory
)

// document is a metadata document in memory. It does not change: another one replaces it.
type document struct {
	row    Document
	client *Client
	saved  bool // the store has the row
}

// size returns an estimate of the memory that a document takes.
func (d *document) size() int { return 2*len(d.row.Body) + len(d.row.URL) + 512 }

// failure is a failed fetch. Within retryAfter, nothing is fetched from the URL again.
type failure struct {
	at  time.Time
	err error
}

// documents finds the clients that publish a document.
type documents struct {
	policy policy
	fetch  *fetch.Client
	store  Store
	now    func() time.Time
	logger *slog.Logger
	flight singleflight.Group

	mu       sync.Mutex
	good     *lru
	failures *recent.Map[string, failure]
}

func newDocuments(o *Options, p policy) *documents {
	return &documents{
		policy: p, fetch: o.Fetch, store: o.Store, now: o.Now, logger: o.Logger,
		good: newLRU(MaxDocuments, maxDocumentBytes), failures: recent.New[string, failure](MaxDocuments / 2),
	}
}

// find returns the client that publishes its document at the URL. The source is the
// address that asks.
func (d *documents) find(ctx context.Context, source netip.Addr, id string) (*Client, error) {
	if err := d.policy.checkID(id); err != nil {
		return nil, refuse(InvalidClient, err.Error())
	}
	if doc, err := d.cached(id); doc != nil || err != nil {
		return result(doc, err)
	}
	// One fetch serves all that wait for the URL, so it goes on when one of them leaves.
	done := d.flight.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
		defer cancel()
		return d.load(ctx, source, id)
	})
	select {
	case r := <-done:
		doc, _ := r.Val.(*document)
		return result(doc, r.Err)
	case <-ctx.Done():
		return nil, &Error{Code: Unavailable, Reason: "the request was given up", Cause: ctx.Err()}
	}
}

func result(d *document, err error) (*Client, error) {
	if err != nil {
		return nil, err
	}
	return d.client, nil
}

// cached returns the document of a URL if it need not be fetched now, or the error of
// the last fetch if it must not be fetched again yet. It returns nil and nil if the
// document must be loaded.
func (d *documents) cached(id string) (*document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, doc := d.now(), d.good.get(id)
	if doc != nil && now.Before(doc.row.FreshTo) {
		return doc, nil
	}
	f, failed := d.failures.Get(id)
	if !failed || now.Sub(f.at) >= retryAfter {
		return nil, nil
	}
	if d.usable(doc) {
		return doc, nil
	}
	return nil, refusal(f)
}

// usable reports whether a document may be used although it could not be fetched again.
func (d *documents) usable(doc *document) bool {
	if doc == nil {
		return false
	}
	now, failed := d.now(), doc.row.FailedAt
	return now.Sub(doc.row.FetchedAt) < KeepDocument && (failed.IsZero() || now.Sub(failed) < KeepFailing)
}

// load finds a document in the store, or fetches it.
func (d *documents) load(ctx context.Context, source netip.Addr, id string) (*document, error) {
	if doc, err := d.cached(id); doc != nil || err != nil {
		return doc, err
	}
	d.mu.Lock()
	old := d.good.get(id)
	d.mu.Unlock()
	if old == nil {
		var err error
		if old, err = d.stored(ctx, id); err != nil {
			return nil, storeDown(err)
		}
		if old != nil {
			d.keep(old)
			if d.now().Before(old.row.FreshTo) {
				return old, nil
			}
		}
	}
	doc, err := d.fetched(ctx, source, id)
	if err != nil {
		return d.failed(ctx, id, old, err)
	}
	d.replace(ctx, old, doc)
	return doc, nil
}

// replace puts a newer state of a document into memory and, if the store has the older
// one, into the store. The store is only for later: without it, the client goes on.
func (d *documents) replace(ctx context.Context, old, doc *document) {
	if old != nil && old.saved {
		doc.saved = d.store.PutDocument(ctx, &doc.row) == nil // otherwise the next use stores it
	}
	d.keep(doc)
}

// keep puts a document into memory.
func (d *documents) keep(doc *document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.good.put(doc)
}

// stored returns the store's document of a URL, or nil if the store has none that can be
// used. A document is parsed again, so that it obeys today's config.
func (d *documents) stored(ctx context.Context, id string) (*document, error) {
	row, err := d.store.Document(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := d.policy.published(id, row.Body)
	if err != nil {
		return nil, nil
	}
	if latest := d.now().Add(maxFresh); row.FreshTo.After(latest) {
		row.FreshTo = latest // the clock was set back
	}
	return &document{row: row, client: c, saved: true}, nil
}

// fetched fetches a document.
func (d *documents) fetched(ctx context.Context, source netip.Addr, id string) (*document, error) {
	got, err := d.fetch.JSON(ctx, source, id, MaxDocument)
	if err != nil {
		return nil, err
	}
	c, err := d.policy.published(id, got.Body)
	if err != nil {
		return nil, &Error{Code: InvalidClient, Reason: asReason(err.Error())}
	}
	now := d.now()
	return &document{row: Document{URL: id, Body: got.Body, FetchedAt: now, FreshTo: now.Add(freshFor(got.MaxAge))}, client: c}, nil
}

// freshFor returns how long a response is used without fetching it again.
func freshFor(maxAge time.Duration) time.Duration {
	if maxAge < 0 {
		return defaultFresh
	}
	return min(max(maxAge, minFresh), maxFresh)
}

// failed remembers a failed fetch, and returns the last good document while it may be
// used.
func (d *documents) failed(ctx context.Context, id string, old *document, err error) (*document, error) {
	busy := errors.Is(err, fetch.ErrBusy)
	if !busy {
		d.mu.Lock()
		d.failures.Put(id, failure{d.now(), err})
		d.mu.Unlock()
		if old != nil && old.row.FailedAt.IsZero() {
			first := *old
			first.row.FailedAt = d.now()
			d.replace(ctx, old, &first)
			old = &first
		}
	}
	if d.usable(old) {
		d.logger.Warn("a client's metadata document cannot be fetched: the last one is used", "client", id, "fetched", old.row.FetchedAt, "error", err)
		return old, nil
	}
	if busy {
		return nil, &Error{Code: Unavailable, Reason: "too many metadata documents are being fetched: try again", Wait: fetch.DefaultTimeout, Cause: err}
	}
	d.logger.Info("a client's metadata document cannot be used", "client", id, "error", err)
	return nil, refusal(failure{d.now(), err})
}

// refusal returns the error for a failed fetch. It says why a document was refused, but
// not why it could not be fetched.
func refusal(f failure) error {
	var refused *Error
	if errors.As(f.err, &refused) {
		return refused
	}
	return &Error{Code: Unavailable, Reason: "the client's metadata document could not be fetched", Wait: retryAfter, Cause: f.err}
}

// save stores the document of a client that is used, so that the client goes on without
// its server after a restart, and on other nodes. A full table takes no other client; such a
// client depends on its server.
func (d *documents) save(ctx context.Context, id string) error {
	d.mu.Lock()
	doc := d.good.get(id)
	d.mu.Unlock()
	if doc == nil || doc.saved {
		return nil
	}
	switch n, err := d.store.CountDocuments(ctx); {
	case err != nil:
		return fmt.Errorf("counting documents: %w", err)
	case n >= MaxDocuments:
		return nil
	}
	if err := d.store.PutDocument(ctx, &doc.row); err != nil {
		return fmt.Errorf("storing the document of client %s: %w", id, err)
	}
	saved := *doc
	saved.saved = true
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.good.get(id) == doc {
		d.good.put(&saved)
	}
	return nil
}
