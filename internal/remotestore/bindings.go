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

// Bind stores a binding and returns as soon as the binding is durable. It replaces a
// binding with the same server and handle hash. Errors: ledger.ErrInvalid for a
// payload that is too long, ledger.ErrUnavailable.
func (s *Store) Bind(ctx context.Context, b ledger.Binding) error {
	if len(b.Payload) > ledger.MaxBinding {
		return fmt.Errorf("%w: the payload of a binding is longer than %d bytes", ledger.ErrInvalid, ledger.MaxBinding)
	}
	if b.Payload == nil {
		b.Payload = []byte{}
	}
	return filterError(s.ask(ctx, request{method: http.MethodPut, path: bindingPath(b.HandleHash), in: wire.BindingOf(b), limit: smallResponse, within: s.settleTimeout}))
}

// Binding returns the binding with that server and handle hash. Errors:
// ledger.ErrNotFound if the binding is unknown or expired, ledger.ErrUnavailable.
func (s *Store) Binding(ctx context.Context, server string, m ledger.HandleHash) (ledger.Binding, error) {
	var got wire.Binding
	if err := s.ask(ctx, request{method: http.MethodGet, path: bindingPath(m), query: url.Values{"server": {server}}, out: &got, limit: smallResponse}); err != nil {
		return ledger.Binding{}, filterError(err, ledger.ErrNotFound)
	}
	b, err := got.Binding()
	if err != nil || b.HandleHash != m || b.Server != server {
		return ledger.Binding{}, mismatch("another binding")
	}
	return b, nil
}

func bindingPath(m ledger.HandleHash) []string { return []string{"bindings", hex.EncodeToString(m[:])} }
