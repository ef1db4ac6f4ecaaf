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

// Sealer authenticates data that the platform hands out and later receives back, on
// all its nodes and across restarts; see gate.Sealer.
type Sealer interface {
	Tag(content []byte, parts ...string) []byte
	Opens(tag, content []byte, parts ...string) bool
}

// A proof shows that a gateway has looked a key up by its digest, and therefore has
// seen its secret. Proofs are needed because orders name keys by their ids, which
// are not secret. A proof consists of three parts: the key's id, a dot, and base64
// text with the time of the lookup and a tag. The tag covers the lineage of the
// gateway's key. So all nodes with that key share proofs, and proofs survive a
// rotation of the key.
const (
	sealedProof = "proof of a key/1"
	stampSize   = 8
	// aheadMost bounds how far the clock of the node that made a proof may be ahead.
	aheadMost = 5 * time.Minute
)

// prove returns a proof of the key with the given id for the caller.
func (p *Platform) prove(caller *keys.Key, id string) string {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(p.o.Now().Unix()))
	tag := p.o.Sealer.Tag(stamp, sealedProof, caller.Lineage, id)
	return id + "." + base64.RawURLEncoding.EncodeToString(append(stamp, tag...))
}

// proven returns the id of the key for which the proof was made. ok is true if the
// platform made the proof for the caller, less than wire.ProofLife ago.
func (p *Platform) proven(caller *keys.Key, proof string) (id string, ok bool) {
	id, text, _ := strings.Cut(proof, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= stampSize || !p.o.Sealer.Opens(raw[stampSize:], raw[:stampSize], sealedProof, caller.Lineage, id) {
		return "", false
	}
	age := p.o.Now().Sub(time.Unix(int64(binary.BigEndian.Uint64(raw)), 0))
	return id, age >= -aheadMost && age < wire.ProofLife
}

// visible reports whether the platform may show the key to a gateway. The key must be
// allowed at one of the gateway's servers. An expired, disabled or deleted key is
// visible, too, because the gateway itself refuses it.
func (p *Platform) visible(caller, key *keys.Key) bool {
	return slices.Contains(payable, key.Kind) && slices.ContainsFunc(caller.Servers, func(name string) bool {
		server := p.o.Servers[name] // the zero Server if the config has no server of this name
		admitted := environments(caller, &server)
		return key.AllowsServer(name) && (len(admitted) == 0 || slices.Contains(admitted, key.Environment))
	})
}

// payerByProof returns the key that a gateway names in an order. The gateway must have
// a proof of this key or of another key of the same account, because any key of the
// account may fetch the result of a task. Both keys must be valid now, except that the
// named key may have expired if the other key is its successor.
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

// payer returns the key with the given id from the store.
func (p *Platform) payer(ctx context.Context, id string) (*keys.Key, error) {
	key, err := p.o.Store.Key(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, notPaying(keys.ErrUnknown, "body.key")
	}
	return &key, err
}
