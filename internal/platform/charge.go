package platform

import (
	"context"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

// NewCharge is a request to charge an agent's account for one call.
type NewCharge struct {
	Token  string        `json:"token" maxLength:"512" doc:"The agent's token, as it was sent to the server"`
	Server string        `json:"server" maxLength:"64" doc:"The name of the server, as the operator has configured it"`
	Tool   string        `json:"tool" minLength:"1" maxLength:"1100" doc:"The tool that is charged for"`
	Amount ledger.Amount `json:"amount" example:"0.01"`
	Key    string        `json:"idempotency_key,omitempty" maxLength:"256" doc:"Of the provider's choice: a retry with the same key and content gets the first outcome"`
}

// Charged is a durable charge.
type Charged struct {
	ID       string        `json:"id" doc:"The id of the charge"`
	Amount   ledger.Amount `json:"amount" doc:"The amount that was paid"`
	Currency string        `json:"currency"`
	Balance  ledger.Amount `json:"balance" doc:"What the payer has left, reservations deducted"`
	Receipt  string        `json:"receipt" doc:"The signed proof of the charge, a compact JWS"`
}

func chargeOps() []ops.Op[*Platform] {
	return []ops.Op[*Platform]{ops.Define(ops.Operation{
		ID: "charge", Method: http.MethodPost, Path: "/charge", Needs: identity.Charge, Tag: "charging", Credential: "provider key",
		Summary: "Charge an agent for a call",
		Description: "In one step: after the response the charge is durable. Without an idempotency key, each request is a charge of its own. " +
			"A provider key that is not for the server is refused as an invalid one, whether or not there is such a server.",
		Problems: []wire.Code{wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap},
	}, charge)}
}

type chargeRequest struct {
	Key  string `header:"Idempotency-Key" maxLength:"256" doc:"The same as idempotency_key; both must be equal"`
	Body NewCharge
}

func charge(ctx context.Context, p *Platform, by *identity.Principal, in *chargeRequest) (none Charged, err error) {
	server, ok := p.serverFor(by.Key, in.Body.Server)
	if !ok {
		return none, ops.Problem(wire.TokenInvalid, "Invalid provider key", "It is not for this server")
	}
	if err := checkCall(in.Body.Tool, in.Body.Amount); err != nil {
		return none, err
	}
	id, err := p.chargeID(ctx, by.Key, in.Body.Key)
	if err != nil {
		return none, err
	}
	payer, err := p.payerByToken(ctx, by.Key, in.Body.Token, in.Body.Server, &server)
	if err != nil {
		return none, err
	}
	o := server.order(payer, in.Body.Server, in.Body.Tool, in.Body.Amount)
	if err := o.Check(); err != nil {
		return none, ops.Invalid("body.amount", "%v", err)
	}
	c, balance, err := p.o.Ledger.Charge(ctx, id, o, ledger.Terms{Key: ledger.CapsOf(payer.Limits.Spending())}, nil)
	if err != nil {
		return none, err
	}
	p.count(by.Key, &c)
	receipt := p.o.Signer.Sign(ledger.NewReceipt(&c, p.o.Currency))
	return Charged{ID: c.ID, Amount: c.Paid(), Currency: p.o.Currency, Balance: balance.Available(), Receipt: receipt}, nil
}

// count reports a charge to Options.Charged if a provider has made it. A retry makes no
// new charge, so it is not counted again.
func (p *Platform) count(caller *keys.Key, c *ledger.Charge) {
	if caller.Kind == keys.Provider && c.Made {
		p.o.Charged(c.Server, c.Paid(), c.Test)
	}
}

// chargeID returns the id of the charge. It derives the id from the provider's
// idempotency key, which comes from the header Idempotency-Key or, as inBody, from the
// request's body. Without an idempotency key, it returns a new id.
func (p *Platform) chargeID(ctx context.Context, caller *keys.Key, inBody string) (string, error) {
	inHeader := ops.VisitOf(ctx).Header.Values("Idempotency-Key")
	key := inBody
	switch {
	case len(inHeader) > 1:
		return "", ops.Invalid("header.Idempotency-Key", "there is more than one")
	case len(inHeader) == 1 && inBody != "" && inHeader[0] != inBody:
		return "", ops.Invalid("header.Idempotency-Key", "it is not the idempotency_key of the body")
	case len(inHeader) == 1:
		if key = inHeader[0]; key == "" {
			return "", ops.Invalid("header.Idempotency-Key", "it is empty")
		}
	case inBody == "":
		return p.o.NewID(chargePrefix), nil
	}
	if len(key) > ledger.MaxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", ops.Invalid("idempotency_key", "want 1 to %d bytes on one line", ledger.MaxIdempotencyKey)
	}
	return derivedID(caller, key), nil
}

// derivedID derives the id of a charge from the provider's account, the environment of
// its key and its idempotency key. The id is a UUID of version 8 (RFC 9562, 5.8) with
// the first bits of the SHA-256 of these three, each preceded by its length in four
// bytes. A retry therefore gets the id of the first attempt, on every node and after
// every crash, and the ledger compares the contents of the two attempts. Callers cannot
// choose such an id; see ofCaller.
func derivedID(caller *keys.Key, key string) string {
	sum := id.Hash("farebox charge", caller.Account, string(caller.Environment), key)
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // sets the version of the UUID to 8
	u[8] = u[8]&0x3f | 0x80 // sets the variant of the UUID (RFC 9562, 4.1)
	return chargePrefix + u.String()
}
