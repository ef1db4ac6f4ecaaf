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

// Bind remembers a binding, in the place of the one of its server with its mark if
// there is one, and returns when that is durable. Errors: ledger.ErrInvalid for a
// payload that is too long, ledger.ErrUnavailable.
func (s *Store) Bind(ctx context.Context, b ledger.Binding) error {
	if len(b.Payload) > ledger.MaxBinding {
		return fmt.Errorf("%w: the payload of a binding is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBinding)
	}
	if b.Payload == nil {
		b.Payload = []byte{}
	}
	return only(s.ask(ctx, request{method: http.MethodPut, path: bondPath(b.HandleHash), in: wire.BindingOf(b), most: smallAnswer, within: s.settleTimeout}))
}

// Binding returns the server's binding of that mark. Errors: ledger.ErrNotFound if there is
// none or it has ended, ledger.ErrUnavailable.
func (s *Store) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	var got wire.Binding
	if err := s.ask(ctx, request{method: http.MethodGet, path: bondPath(m), query: url.Values{"server": {server}}, out: &got, most: smallAnswer}); err != nil {
		return ledger.Binding{}, only(err, ledger.ErrNotFound)
	}
	b, err := got.Binding()
	if err != nil || b.HandleHash != m || b.Server != server {
		return ledger.Binding{}, doubt("another binding")
	}
	return b, nil
}

func bondPath(m ledger.HandleHash) []string { return []string{"bindings", hex.EncodeToString(m[:])} }
