package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
	"github.com/fareboxhq/farebox/internal/oauth/rate"
)

// Options are the parts of a Registry. Store and Fetch must be set.
type Options struct {
	Store  Store
	Fetch  *fetch.Client
	Now    func() time.Time // nil means the time in microseconds
	Logger *slog.Logger     // nil means no logging

	Static []Declared
	// RedirectURIs are the operator's additions to KnownRedirectURIs.
	RedirectURIs []string
	// NoDocuments refuses clients with a metadata document, and NoRegistration new
	// registrations.
	NoDocuments, NoRegistration bool
	// DocumentHosts lists the hosts from which metadata documents are fetched; empty for all.
	DocumentHosts []string
	// Denied lists client ids, and hosts of client ids, that are refused.
	Denied []string
}

// Registry finds, registers and authenticates clients. It is safe for concurrent use.
type Registry struct {
	options       Options
	policy        policy
	store         Store
	now           func() time.Time
	static        map[string]*Client
	documents     *documents
	keys          *keySets
	registrations *rate.Limiter
	assertions    *rate.Limiter
}

// Rate of assertions of one client. Hosted agents have one client for all persons.
const (
	assertionBurst = 600
	assertionEvery = 100 * time.Millisecond
)

// errUnknown refuses a client id. A client that registered forgets the id then, and
// registers again.
var errUnknown = refuse(InvalidClient, "the client is unknown, or was not used for long: register again")

// New returns a registry, or an error that names the mistake in the config.
func New(o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = func() time.Time { return clock.Now().Truncate(time.Microsecond) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := newPolicy(o.RedirectURIs, o.Fetch.Private())
	if err != nil {
		return nil, err
	}
	r := &Registry{
		options: o, policy: p, store: o.Store, now: o.Now, static: make(map[string]*Client),
		documents: newDocuments(&o, p), keys: newKeySets(&o),
		registrations: rate.New(registrationEvery, registrationBurst),
		assertions:    rate.New(assertionEvery, assertionBurst),
	}
	for i := range o.Static {
		c, err := o.Static[i].static()
		if err != nil {
			return nil, err
		}
		if r.static[c.ID] != nil {
			return nil, fmt.Errorf("client %s is declared twice", c.ID)
		}
		r.static[c.ID] = c
	}
	if o.Fetch.Private() {
		o.Logger.Warn("clients may have documents at private addresses: strangers can have requests sent into this network")
	}
	return r, nil
}

// Find returns the client with an id, or an *Error. The source is the address that asks;
// it bounds how many documents one network can have fetched at once.
func (r *Registry) Find(ctx context.Context, source netip.Addr, id string) (*Client, error) {
	if c := r.static[id]; c != nil {
		return c, nil
	}
	if slices.Contains(r.options.Denied, id) {
		return nil, errDenied
	}
	if !isURL(id) {
		return r.registered(ctx, id)
	}
	host := (&Client{ID: id}).Host()
	switch {
	case r.options.NoDocuments:
		return nil, refuse(InvalidClient, "this server does not fetch metadata documents: register instead")
	case slices.Contains(r.options.Denied, host), len(r.options.DocumentHosts) > 0 && !slices.Contains(r.options.DocumentHosts, host):
		return nil, errDenied
	}
	return r.documents.find(ctx, source, id)
}

// errDenied refuses a client by the operator's config.
var errDenied = refuse(InvalidClient, "the operator of this server does not admit the client")

// Used records that a client was used for a grant or a token, so that it is kept. Call it
// when a person has consented, and for each token.
func (r *Registry) Used(ctx context.Context, c *Client) error {
	switch c.Kind {
	case Published:
		return r.documents.save(ctx, c.ID)
	case Registered:
		now := r.now()
		if now.Sub(c.UsedAt) < touchEvery {
			return nil
		}
		if err := r.store.TouchRegistration(ctx, c.ID, now); err != nil {
			return fmt.Errorf("recording the use of client %s: %w", c.ID, err)
		}
	case Static:
	}
	return nil
}

// touchEvery is how much Registration.UsedAt may lag. Most requests then write nothing.
const touchEvery = 24 * time.Hour

// Expire deletes registrations, documents and ids of assertions that are no longer needed.
// Call it about once in ten minutes. It returns the number of deleted rows.
func (r *Registry) Expire(ctx context.Context) (int64, error) {
	now := r.now()
	var deleted int64
	var failed error
	for _, do := range []func() (int64, error){
		func() (int64, error) {
			return r.store.DeleteRegistrations(ctx, now.Add(-KeepUnfinished), now.Add(-KeepUnused))
		},
		func() (int64, error) { return r.store.DeleteDocuments(ctx, now.Add(-KeepDocument)) },
		func() (int64, error) { return r.store.DeleteUsed(ctx, now) },
	} {
		n, err := do()
		deleted += n
		failed = errors.Join(failed, err)
	}
	return deleted, failed
}
