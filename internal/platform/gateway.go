package platform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

func gatewayOps() []ops.Op[*Platform] {
	return []ops.Op[*Platform]{
		ops.Define(ops.Operation{
			ID: "key.lookup", Method: http.MethodPost, Path: "/keys/lookup", Needs: identity.Relay, Tag: "gateways",
			Summary: "Find a key by the digest of its secret", Problems: []wire.Code{wire.NotFound},
			Description: "The response comes from the store, not from a cache. Keys that cannot call any of the gateway's servers are not found. " +
				"The proof goes with the orders of the key.",
		}, lookup),
		ops.Define(ops.Operation{
			ID: "key.used", Method: http.MethodPost, Path: "/keys/used", Needs: identity.Relay, Tag: "gateways", MaxBody: usedBody,
			Summary: "Report when keys were last used",
		}, used),
		ops.Define(ops.Operation{
			ID: "revocation.follow", Method: http.MethodPost, Path: "/keys/revocations/follow", Needs: identity.Relay, Tag: "gateways",
			Summary:     "Read the changes of keys, and take a lease",
			Description: "Until the lease ends, a change of a key is not reported done before this node has read it.",
		}, follow),
		ops.Define(ops.Operation{
			ID: "revocation.leave", Method: http.MethodDelete, Path: "/keys/revocations/nodes/{node}", Needs: identity.Relay, Tag: "gateways",
			Summary: "End a node's lease",
		}, leave),
		ops.DefineRaw[*Platform, streamRequest, ops.None](ops.Operation{
			ID: "revocation.stream", Method: http.MethodGet, Path: "/keys/revocations", Needs: identity.Relay, Tag: "gateways", Content: "text/event-stream",
			Summary: "Receive the changes of keys as they happen",
			Description: "Each event has the position as its id and the changes as its data. " +
				"A stream is no lease: a node that caches keys must follow as well.",
		}, stream),
		ops.Define(ops.Operation{
			ID: "binding.put", Method: http.MethodPut, Path: "/bindings/{hash}", Needs: identity.Relay, Tag: "gateways",
			Summary: "Bind a handle of a server to an account", Problems: []wire.Code{wire.ServerForbidden},
		}, bind),
		ops.Define(ops.Operation{
			ID: "binding.show", Method: http.MethodGet, Path: "/bindings/{hash}", Needs: identity.Relay, Tag: "gateways",
			Summary: "Show the account that a handle of a server is bound to", Problems: []wire.Code{wire.ServerForbidden, wire.NotFound},
		}, binding),
	}
}

func lookup(ctx context.Context, p *Platform, by *identity.Principal, in *body[wire.Lookup]) (none wire.Key, err error) {
	digest, err := wire.ParseDigest(in.Body.Digest)
	if err != nil {
		return none, ops.Invalid("body.digest", "%v", err)
	}
	key, err := p.o.Store.KeyByDigest(ctx, digest)
	if errors.Is(err, keys.ErrUnknown) || err == nil && !p.visible(by.Key, key) {
		return none, ops.Problem(wire.NotFound, "There is no such key", "")
	}
	if err != nil {
		return none, err
	}
	found := wire.KeyOf(key)
	found.AccountName = p.accountName(ctx, key.Account)
	found.Proof = p.prove(by.Key, key.ID)
	return found, nil
}

// nameTime bounds the query for an account's name.
const nameTime = time.Second

// accountName returns the name of an account, or "" if the store fails. The name is
// used only in texts, so a lookup of a key must neither fail nor wait long because of
// the name.
func (p *Platform) accountName(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	names, _ := p.o.Store.AccountNames(ctx, []string{id})
	return names[id]
}

// perWrite is the number of key uses that one transaction writes. It is small, because
// captures wait for the transaction.
const perWrite = 256

func used(ctx context.Context, p *Platform, _ *identity.Principal, in *body[wire.Used]) (none ops.None, err error) {
	now := p.o.Now()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(in.Body.Keys)), perWrite) {
		batch := make(map[string]time.Time, len(part))
		for _, id := range part {
			batch[id] = in.Body.Keys[id]
			if batch[id].After(now) {
				batch[id] = now
			}
		}
		if err := p.o.Store.TouchKeys(ctx, batch); err != nil {
			return none, err
		}
	}
	return none, nil
}

// maxNodes bounds how many nodes with the same gateway key may follow key changes at
// the same time. There is a bound because each key change waits for every node.
const maxNodes = 64

// nodes records when the lease of each node ends. A node is identified by the
// lineage of its gateway's key and by its own name.
type nodes struct {
	mu     *sync.Mutex
	leases map[string]map[string]time.Time
}

func newNodes() nodes {
	return nodes{mu: new(sync.Mutex), leases: make(map[string]map[string]time.Time)}
}

// admit reports whether a node may follow key changes. If so, admit records the end of
// the node's lease.
func (n *nodes) admit(lineage, node string, now, until time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	mine := n.leases[lineage]
	if mine == nil {
		mine = make(map[string]time.Time)
		n.leases[lineage] = mine
	}
	if _, known := mine[node]; !known && len(mine) >= maxNodes {
		maps.DeleteFunc(mine, func(_ string, end time.Time) bool { return !now.Before(end) })
		if len(mine) >= maxNodes {
			return false
		}
	}
	mine[node] = until
	return true
}

func (n *nodes) forget(lineage, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	mine := n.leases[lineage]
	delete(mine, node)
	if len(mine) == 0 {
		delete(n.leases, lineage)
	}
}

// nodeOf returns the name of a gateway's node in the log of key changes. The name
// contains the lineage, so that gateways with different keys cannot end each other's
// leases.
func nodeOf(key *keys.Key, node string) string { return key.Lineage + "/" + node }

func follow(ctx context.Context, p *Platform, by *identity.Principal, in *body[wire.Follow]) (none wire.Revocations, err error) {
	key, lease, now := by.Key, time.Duration(in.Body.LeaseMS)*time.Millisecond, p.o.Now()
	if !p.nodes.admit(key.Lineage, in.Body.Node, now, now.Add(lease)) {
		return none, ops.Problem(wire.TooMany, "Too many nodes follow with this key", fmt.Sprintf("At most %d may: end the leases of those that have left", maxNodes))
	}
	r, err := p.o.Changes.Follow(ctx, nodeOf(key, in.Body.Node), in.Body.Seen, lease)
	if err != nil {
		return none, err
	}
	return wire.RevocationsOf(r), nil
}

type nodePath struct {
	Node string `path:"node" maxLength:"64"`
}

func leave(ctx context.Context, p *Platform, by *identity.Principal, in *nodePath) (none ops.None, err error) {
	p.nodes.forget(by.Key.Lineage, in.Node)
	return none, p.o.Changes.Leave(ctx, nodeOf(by.Key, in.Node))
}

type bindingPath struct {
	Hash   string `path:"hash" minLength:"32" maxLength:"32"`
	Server string `query:"server" required:"true" maxLength:"64"`
}

type bindRequest struct {
	Hash string `path:"hash" minLength:"32" maxLength:"32"`
	Body wire.Binding
}

// bind stores a binding. Each server has its own set of hashes, so that no server can
// change the bindings of another.
func bind(ctx context.Context, p *Platform, by *identity.Principal, in *bindRequest) (none ops.None, err error) {
	b, err := in.Body.Binding()
	switch {
	case err != nil:
		return none, ops.Invalid("body.hash", "%v", err)
	case in.Body.HandleHash != in.Hash:
		return none, ops.Invalid("body.hash", "it differs from the hash in the path")
	case len(b.Payload) > ledger.MaxBinding:
		return none, ops.Invalid("body.payload", "it may have %d bytes", ledger.MaxBinding)
	case !slices.Contains(by.Key.Servers, in.Body.Server):
		return none, forbidden()
	}
	return none, p.o.Store.Bind(ctx, b)
}

func binding(ctx context.Context, p *Platform, by *identity.Principal, in *bindingPath) (none wire.Binding, err error) {
	w := wire.Binding{HandleHash: in.Hash}
	asked, err := w.Binding()
	if err != nil {
		return none, ops.Invalid("path.hash", "%v", err)
	}
	if !slices.Contains(by.Key.Servers, in.Server) {
		return none, forbidden()
	}
	b, err := p.o.Store.Binding(ctx, in.Server, asked.HandleHash)
	if err != nil {
		return none, err
	}
	return wire.BindingOf(b), nil
}

// forbidden returns the problem for a valid key that is not allowed at the server.
func forbidden() *wire.Problem {
	return ops.Problem(wire.ServerForbidden, "The key is not for this server", "")
}
