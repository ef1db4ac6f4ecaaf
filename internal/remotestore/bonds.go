package remotestore

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// Bind remembers a bond, in the place of the one of its server with its mark if
// there is one, and returns when that is durable. Errors: ledger.ErrInvalid for a
// payload that is too long, ledger.ErrUnavailable.
func (s *Store) Bind(ctx context.Context, b ledger.Bond) error {
	if len(b.Payload) > ledger.MaxBond {
		return fmt.Errorf("%w: the payload of a bond is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBond)
	}
	if b.Payload == nil {
		b.Payload = []byte{}
	}
	return only(s.ask(ctx, request{method: http.MethodPut, path: bondPath(b.Mark), in: wire.BondOf(b), most: smallAnswer, within: s.settleTimeout}))
}

// Bond returns the server's bond of that mark. Errors: ledger.ErrNotFound if there is
// none or it has ended, ledger.ErrUnavailable.
func (s *Store) Bond(ctx context.Context, server string, m ledger.Mark) (ledger.Bond, error) {
	var got wire.Bond
	if err := s.ask(ctx, request{method: http.MethodGet, path: bondPath(m), query: url.Values{"server": {server}}, out: &got, most: smallAnswer}); err != nil {
		return ledger.Bond{}, only(err, ledger.ErrNotFound)
	}
	b, err := got.Bond()
	if err != nil || b.Mark != m || b.Server != server {
		return ledger.Bond{}, doubt("another bond")
	}
	return b, nil
}

func bondPath(m ledger.Mark) []string { return []string{"bonds", hex.EncodeToString(m[:])} }
