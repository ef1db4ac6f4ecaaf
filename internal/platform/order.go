package platform

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

const (
	chargePrefix = "chg_"
	// maxTool bounds the name of a tool in bytes.
	maxTool = 1100
)

// payable lists the kinds of keys that can be charged.
var payable = keys.PayingKinds()

// serverFor returns the server with the given name, if the caller may charge for it.
// A gateway may charge for the servers that its key lists. A provider may charge for
// the servers at which its account earns.
func (p *Platform) serverFor(caller *keys.Key, name string) (Server, bool) {
	server, known := p.o.Servers[name]
	if caller.Kind == keys.Gateway {
		return server, known && slices.Contains(caller.Servers, name)
	}
	return server, known && server.Provider == caller.Account && caller.AllowsServer(name)
}

// covers reports whether the order was made by the caller or a key of its lineage, and
// whether the caller could still make the order.
func (p *Platform) covers(caller *keys.Key, o *ledger.Order) bool {
	if o.Settler != caller.Lineage || caller.Environment == keys.Test && !o.Test {
		return false
	}
	if caller.Kind == keys.Gateway {
		return slices.Contains(caller.Servers, o.Server)
	}
	return o.Provider == caller.Account && caller.AllowsServer(o.Server)
}

// environments returns the environments of the keys that may pay at the server when
// this caller charges. An empty result admits all keys. If the caller has a test
// key, the result never admits live keys, so no live credits are moved.
func environments(caller *keys.Key, server *Server) []keys.Environment {
	if caller.Environment != keys.Test {
		return server.Environments
	}
	if len(server.Environments) > 0 && !slices.Contains(server.Environments, keys.Test) {
		return []keys.Environment{""} // the text "" matches no environment, so that no key may pay
	}
	return []keys.Environment{keys.Test}
}

// order returns the ledger's order and its terms for a request of a gateway or a
// provider. The payer and its caps come from the stored key. The account that earns
// and the operator's fee come from the config of the server. Only the caller may
// settle the order.
func (p *Platform) order(ctx context.Context, by *identity.Principal, w *wire.Order) (ledger.Order, ledger.Terms, error) {
	caller := by.Key
	server, ok := p.serverFor(caller, w.Server)
	if !ok {
		return ledger.Order{}, ledger.Terms{}, forbidden()
	}
	if w.Currency != "" && w.Currency != p.o.Currency {
		return ledger.Order{}, ledger.Terms{}, ops.Invalid("body.currency", "amounts are in %s here, not in %s: the two configs must say the same currency", p.o.Currency, w.Currency)
	}
	if err := checkOrder(w, caller.Kind); err != nil {
		return ledger.Order{}, ledger.Terms{}, err
	}
	var key *keys.Key
	var err error
	if caller.Kind == keys.Gateway {
		key, err = p.payerByProof(ctx, caller, w, &server)
	} else {
		key, err = p.payerByToken(ctx, caller, w.Token, w.Server, &server)
	}
	if err != nil {
		return ledger.Order{}, ledger.Terms{}, err
	}
	terms, err := w.Terms()
	if err != nil {
		return ledger.Order{}, ledger.Terms{}, ops.Invalid("body", "%v", err)
	}
	terms.Key = ledger.CapsOf(key.Limits.Spending())
	o := server.order(key, w.Server, w.Tool, w.Amount)
	o.Settler = caller.Lineage
	if err := o.Check(); err != nil {
		return o, terms, ops.Invalid("body.amount", "%v", err)
	}
	return o, terms, nil
}

// order returns the order for a call with the key at the server.
func (s *Server) order(key *keys.Key, name, tool string, amount ledger.Amount) ledger.Order {
	return s.Order(ledger.Order{
		Account: key.Account, Key: key.ID, Lineage: key.Lineage,
		Server: name, Tool: tool, Amount: amount, Test: key.Environment == keys.Test,
	})
}

// ofCaller reports whether an id consists of the prefix and a UUIDv7, the only kind of
// UUID that callers may choose. UUIDs of version 8 are reserved for ids that are
// derived from idempotency keys. A caller that took such a UUID, even under another
// prefix, would block the charge with the derived id, because all prefixes share one
// set of UUIDs.
func ofCaller(prefix, id string) bool {
	text, prefixed := strings.CutPrefix(id, prefix)
	u, err := uuid.Parse(text)
	return prefixed && err == nil && u.Version() == 7 && u.Variant() == uuid.RFC4122
}

// checkOrder refuses an order that a caller with a key of this kind must not place.
func checkOrder(w *wire.Order, kind keys.Kind) error {
	if !ofCaller(chargePrefix, w.ID) {
		return ops.Invalid("body.id", "want chg_ and a UUIDv7 (RFC 9562, 5.7)")
	}
	switch {
	case kind == keys.Gateway && w.Token != "":
		return ops.Invalid("body.token", "a gateway names the key by its id")
	case kind == keys.Gateway && w.Key == "":
		return ops.Invalid("body.key", "it is missing")
	case kind == keys.Provider && (w.Key != "" || w.Proof != ""):
		return ops.Invalid("body.key", "a provider sends the agent's token")
	case kind == keys.Provider && w.Token == "":
		return ops.Invalid("body.token", "it is missing")
	case kind == keys.Provider && (w.Caps != wire.Caps{} || w.FreeCalls != 0 || w.Idempotency != nil):
		return ops.Invalid("body", "caps, free_calls and idempotency are for gateways")
	case w.Idempotency != nil && (w.Idempotency.Key == "" || len(w.Idempotency.Key) > ledger.MaxIdempotencyKey):
		return ops.Invalid("body.idempotency.key", "want 1 to %d bytes", ledger.MaxIdempotencyKey)
	}
	return checkCall(w.Tool, w.Amount)
}

// checkCall refuses a tool's name or an amount that no paid call can have.
func checkCall(tool string, amount ledger.Amount) error {
	switch {
	case tool == "" || len(tool) > maxTool || strings.ContainsFunc(tool, unicode.IsControl):
		return ops.Invalid("body.tool", "want 1 to %d bytes on one line", maxTool)
	case amount <= 0:
		return ops.Invalid("body.amount", "it must be more than zero")
	}
	return nil
}

// payerByToken returns the key of the token that an agent sent to a provider.
func (p *Platform) payerByToken(ctx context.Context, caller *keys.Key, token, name string, server *Server) (*keys.Key, error) {
	v := ops.VisitOf(ctx)
	digest, err := p.o.Secrets.Parse(token)
	if err != nil {
		return nil, notPaying(err, "body.token")
	}
	key, err := p.o.Keys.Lookup(ctx, v.Client, digest)
	if err == nil {
		err = p.checkPayer(key, caller, name, server)
		if err == nil {
			v.Payer = key
			return key, nil
		}
	}
	if refused := notPaying(err, "body.token"); refused != nil {
		return nil, refused
	}
	if errors.Is(err, ErrFlood) {
		return nil, flooded()
	}
	return nil, err
}

func (p *Platform) checkPayer(key, caller *keys.Key, name string, server *Server) error {
	return key.Check(p.o.Now(), keys.Use{Kinds: payable, Scope: keys.ScopeConnect, Server: name, Environments: environments(caller, server)})
}

// notPaying returns the problem for an error that concerns the paying key, or nil for
// other errors.
func notPaying(err error, field string) *wire.Problem {
	var p *wire.Problem
	switch {
	case errors.Is(err, keys.ErrExpired):
		p = ops.Problem(wire.TokenExpired, "Agent token expired", "")
	case errors.Is(err, keys.ErrKind):
		p = ops.Problem(wire.KindWrong, "The agent's key is of the wrong kind", "Only agent keys are charged, and personal ones with the scope "+keys.ScopeConnect)
	case errors.Is(err, keys.ErrMalformed), isRefusal(err):
		p = ops.Problem(wire.TokenInvalid, "Invalid agent token", "")
	default:
		return nil
	}
	p.Field = strings.TrimPrefix(field, "body.")
	return p
}
