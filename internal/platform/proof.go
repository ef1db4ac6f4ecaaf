package platform

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Sealer authenticates what the platform gives out, to itself and to all its
// nodes, also after a restart: see gate.Sealer.
type Sealer interface {
	Tag(content []byte, parts ...string) []byte
	Opens(tag, content []byte, parts ...string) bool
}

// A proof says that a gateway has asked for a key by its digest, and so was shown
// its secret: a gateway names keys by their ids, which are no secrets. It is the
// key's id, a point, and the time of the lookup with a tag, in base64. The tag is
// for the lineage of the gateway's key, so that its nodes share their proofs, and
// a rotation of the key loses none.
const (
	sealedProof = "proof of a key/1"
	stampSize   = 8
	// aheadMost is how much the clock of the node that gave a proof may be ahead.
	aheadMost = 5 * time.Minute
)

// prove makes a proof of the key for whoever has asked for it.
func (p *Platform) prove(caller *keys.Key, id string) string {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(p.o.Now().Unix()))
	tag := p.o.Sealer.Tag(stamp, sealedProof, caller.Lineage, id)
	return id + "." + base64.RawURLEncoding.EncodeToString(append(stamp, tag...))
}

// proven returns the id of the key that the proof is of, if the platform gave it
// to the caller, and not longer ago than it is good for.
func (p *Platform) proven(caller *keys.Key, proof string) (id string, ok bool) {
	id, text, _ := strings.Cut(proof, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= stampSize || !p.o.Sealer.Opens(raw[stampSize:], raw[:stampSize], sealedProof, caller.Lineage, id) {
		return "", false
	}
	age := p.o.Now().Sub(time.Unix(int64(binary.BigEndian.Uint64(raw)), 0))
	return id, age >= -aheadMost && age < wire.ProofLife
}

// visible reports whether a gateway may learn of the key: one that can call a
// server of the gateway's. What the gateway refuses such a key for, such as that
// it has ended, is for the gateway to tell.
func (p *Platform) visible(caller, key *keys.Key) bool {
	return slices.Contains(payable, key.Kind) && slices.ContainsFunc(caller.Servers, func(name string) bool {
		server := p.o.Servers[name] // of one that nothing is charged at the platform need not know
		admitted := environments(caller, &server)
		return key.AllowsServer(name) && (len(admitted) == 0 || slices.Contains(admitted, key.Environment))
	})
}

// payerByProof returns the key that a gateway names, if it has proved it, or
// another key of the same account: a task is taken up by whichever key asks for
// its result. Both must be good now. But the named one may have expired if a
// rotation made the other of it.
func (p *Platform) payerByProof(ctx context.Context, caller *keys.Key, w *wire.Order, server *Server) (*keys.Key, error) {
	id, ok := p.proven(caller, w.Proof)
	if !ok {
		return nil, notPaying(keys.ErrUnknown, "body.proof")
	}
	key, err := p.payer(ctx, w.Key)
	if err != nil {
		return nil, err
	}
	shown := key
	if id != key.ID {
		if shown, err = p.payer(ctx, id); err != nil {
			return nil, err
		}
		if shown.Account != key.Account || shown.Environment != key.Environment {
			return nil, notPaying(keys.ErrUnknown, "body.proof")
		}
		err := p.checkPayer(key, caller, w.Server, server)
		if err != nil && (!errors.Is(err, keys.ErrExpired) || shown.Lineage != key.Lineage) {
			return nil, notPaying(err, "body.key")
		}
	}
	if err := p.checkPayer(shown, caller, w.Server, server); err != nil {
		return nil, notPaying(err, "body.key")
	}
	return key, nil
}

// payer reads a key as the store has it.
func (p *Platform) payer(ctx context.Context, id string) (*keys.Key, error) {
	key, err := p.o.Store.Key(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, notPaying(keys.ErrUnknown, "body.key")
	}
	return &key, err
}
