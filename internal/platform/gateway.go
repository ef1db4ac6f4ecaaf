package platform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// The kinds of keys that may do what.
var (
	gateways  = []keys.Kind{keys.Gateway}
	providers = []keys.Kind{keys.Provider}
	settlers  = []keys.Kind{keys.Gateway, keys.Provider}
	managers  = []keys.Kind{keys.Admin}
	refunders = []keys.Kind{keys.Gateway, keys.Admin}
)

func (p *Platform) registerGateway() {
	register(p, operation{
		method: "POST", path: "/keys/lookup", id: "lookup-key", tag: "gateways", kinds: gateways, maxBody: smallBody,
		summary: "Find a key by the digest of its secret", refusals: []wire.Code{wire.NotFound},
		description: "What is answered is as the store has it, and no cache. Keys that cannot call any of the gateway's servers are not found. " +
			"The proof goes with the orders of the key.",
	}, p.lookup)
	register(p, operation{
		method: "POST", path: "/keys/used", id: "report-use", tag: "gateways", kinds: gateways, maxBody: usedBody,
		summary: "Tell when keys were last used",
	}, p.used)
	register(p, operation{
		method: "POST", path: "/keys/revocations/follow", id: "follow-revocations", tag: "gateways", kinds: gateways, maxBody: smallBody,
		summary:     "Hear of the changes of keys, and be waited for",
		description: "Until the lease ends, a change of a key is not reported done before this node has asked again.",
	}, p.follow)
	register(p, operation{
		method: "DELETE", path: "/keys/revocations/nodes/{node}", id: "leave-revocations", tag: "gateways", kinds: gateways,
		summary: "End a node's lease",
	}, p.leave)
	register(p, operation{
		method: "GET", path: "/keys/revocations", id: "stream-revocations", tag: "gateways", kinds: gateways, stream: true,
		summary: "Hear of the changes of keys as they happen",
		description: "Each event has the position as its id and the changes as its data. " +
			"To be told is no lease: who keeps keys in memory follows.",
	}, p.stream)
	p.registerReservations()
	register(p, operation{
		method: "PUT", path: "/bindings/{hash}", id: "bind", tag: "gateways", kinds: gateways, maxBody: smallBody,
		summary: "Remember whose a handle of a server is", refusals: []wire.Code{wire.ServerForbidden},
	}, p.bind)
	register(p, operation{
		method: "GET", path: "/bindings/{hash}", id: "show-binding", tag: "gateways", kinds: gateways,
		summary: "Tell whose a handle of a server is", refusals: []wire.Code{wire.ServerForbidden, wire.NotFound},
	}, p.binding)
}

func (p *Platform) lookup(ctx context.Context, in *content[wire.Lookup]) (*content[wire.Key], error) {
	digest, err := wire.ParseDigest(in.Body.Digest)
	if err != nil {
		return nil, invalid("body.digest", "%v", err)
	}
	key, err := p.Store.KeyByDigest(ctx, digest)
	caller := visitOf(ctx).key
	if errors.Is(err, keys.ErrUnknown) || err == nil && !p.visible(caller, key) {
		return nil, problem(wire.NotFound, "There is no such key", "")
	}
	if err != nil {
		return nil, err
	}
	names := p.accountNames(ctx, key.Account)
	told := wire.KeyOf(key)
	told.AccountName = names[key.Account]
	told.Proof = p.prove(caller, key.ID)
	return &content[wire.Key]{told}, nil
}

// nameTime bounds the query of an account's name.
const nameTime = time.Second

// accountNames returns the name of an account by its id. The name is only for texts,
// so a lookup neither fails nor waits long for it.
func (p *Platform) accountNames(ctx context.Context, id string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	names, _ := p.Store.AccountNames(ctx, []string{id})
	return names
}

// perWrite is how many uses are written in one transaction: captures wait for
// it.
const perWrite = 256

func (p *Platform) used(ctx context.Context, in *content[wire.Used]) (*none, error) {
	now := p.Now()
	for part := range slices.Chunk(slices.Sorted(maps.Keys(in.Body.Keys)), perWrite) {
		batch := make(map[string]time.Time, len(part))
		for _, id := range part {
			batch[id] = in.Body.Keys[id]
			if batch[id].After(now) {
				batch[id] = now
			}
		}
		if err := p.Store.TouchKeys(ctx, batch); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// maxNodes bounds how many nodes may follow by one key at a time. Each is one
// that changes of keys wait for.
const maxNodes = 64

// nodes are those that follow, with the ends of their leases, by the lineage of
// their key.
type nodes struct {
	mu     *sync.Mutex
	leases map[string]map[string]time.Time
}

func newNodes() nodes {
	return nodes{mu: new(sync.Mutex), leases: make(map[string]map[string]time.Time)}
}

// admit reports whether a node may follow, which it then does until then.
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
	delete(n.leases[lineage], node)
}

// nodeOf is a node's name in the log. Its key is a part of it, so that gateways
// of different keys cannot end each other's leases.
func nodeOf(key *keys.Key, node string) string { return key.Lineage + "/" + node }

func (p *Platform) follow(ctx context.Context, in *content[wire.Follow]) (*content[wire.Revocations], error) {
	key, lease, now := visitOf(ctx).key, time.Duration(in.Body.LeaseMS)*time.Millisecond, p.Now()
	if !p.nodes.admit(key.Lineage, in.Body.Node, now, now.Add(lease)) {
		return nil, problem(wire.TooMany, "Too many nodes follow by this key", fmt.Sprintf("At most %d may: end the leases of those that have left", maxNodes))
	}
	r, err := p.Changes.Follow(ctx, nodeOf(key, in.Body.Node), in.Body.Seen, lease)
	if err != nil {
		return nil, err
	}
	return &content[wire.Revocations]{wire.RevocationsOf(r)}, nil
}

type nodePath struct {
	Node string `path:"node" maxLength:"64"`
}

func (p *Platform) leave(ctx context.Context, in *nodePath) (*none, error) {
	key := visitOf(ctx).key
	p.nodes.forget(key.Lineage, in.Node)
	return nil, p.Changes.Leave(ctx, nodeOf(key, in.Node))
}

type bindingPath struct {
	Hash   string `path:"hash" minLength:"32" maxLength:"32"`
	Server string `query:"server" required:"true" maxLength:"64"`
}

type bindRequest struct {
	Hash string `path:"hash" minLength:"32" maxLength:"32"`
	Body wire.Binding
}

// bind remembers a binding. What one server has given is nothing to another: each
// has hashes of its own.
func (p *Platform) bind(ctx context.Context, in *bindRequest) (*none, error) {
	b, err := in.Body.Binding()
	switch {
	case err != nil:
		return nil, invalid("body.hash", "%v", err)
	case in.Body.HandleHash != in.Hash:
		return nil, invalid("body.hash", "it is not the one of the path")
	case len(b.Payload) > ledger.MaxBinding:
		return nil, invalid("body.payload", "it may have %d bytes", ledger.MaxBinding)
	case !slices.Contains(visitOf(ctx).key.Servers, in.Body.Server):
		return nil, forbidden()
	}
	return nil, p.Store.Bind(ctx, b)
}

func (p *Platform) binding(ctx context.Context, in *bindingPath) (*content[wire.Binding], error) {
	w := wire.Binding{HandleHash: in.Hash}
	asked, err := w.Binding()
	if err != nil {
		return nil, invalid("path.hash", "%v", err)
	}
	if !slices.Contains(visitOf(ctx).key.Servers, in.Server) {
		return nil, forbidden()
	}
	b, err := p.Store.Binding(ctx, in.Server, asked.HandleHash)
	if err != nil {
		return nil, err
	}
	return &content[wire.Binding]{wire.BindingOf(b)}, nil
}

func statusName(status int) string { return fmt.Sprintf("%03d", status) }

// forbidden refuses a key that is good, but not for the server.
func forbidden() *wire.Problem {
	return problem(wire.ServerForbidden, "The key is not for this server", "")
}
