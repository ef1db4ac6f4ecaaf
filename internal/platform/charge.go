package platform

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// NewCharge asks an agent's account for the price of one call.
type NewCharge struct {
	Token  string        `json:"token" maxLength:"512" doc:"The agent's token, as it was sent to the server"`
	Server string        `json:"server" maxLength:"64" doc:"The name of the server, as the operator has configured it"`
	Tool   string        `json:"tool" minLength:"1" maxLength:"1100" doc:"What is charged for"`
	Amount ledger.Amount `json:"amount" example:"0.01"`
	Key    string        `json:"idempotency_key,omitempty" maxLength:"256" doc:"Of the provider's choice: a retry with the same key and content gets the first outcome"`
}

// Charged tells of a charge that is durable.
type Charged struct {
	ID       string        `json:"id" doc:"The id of the charge"`
	Amount   ledger.Amount `json:"amount" doc:"That was paid"`
	Currency string        `json:"currency"`
	Balance  ledger.Amount `json:"balance" doc:"That the payer has left, less what is reserved"`
	Receipt  string        `json:"receipt" doc:"The signed proof of the charge, a compact JWS"`
}

func (p *Platform) registerCharge() {
	register(p, operation{
		method: "POST", path: "/charge", id: "charge", tag: "charging", kinds: providers, maxBody: smallBody, charge: true,
		summary: "Charge an agent for a call",
		description: "In one step: when it is answered, the charge is durable. Without an idempotency key, each request is a charge of its own. " +
			"A provider key that is not for the server is refused as an invalid one, whether or not there is such a server.",
		refusals: []wire.Code{wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap},
	}, p.charge)
}

type chargeRequest struct {
	Key  string `header:"Idempotency-Key" maxLength:"256" doc:"The same as idempotency_key; both must be equal"`
	Body NewCharge
}

func (p *Platform) charge(ctx context.Context, in *chargeRequest) (*content[Charged], error) {
	caller := visitOf(ctx).key
	server, ok := p.serverFor(caller, in.Body.Server)
	if !ok {
		return nil, (&rule{charge: true}).unknown("It is not for this server")
	}
	if err := checkCall(in.Body.Tool, in.Body.Amount); err != nil {
		return nil, err
	}
	id, err := p.chargeID(ctx, caller, in.Body.Key)
	if err != nil {
		return nil, err
	}
	payer, err := p.payerByToken(ctx, in.Body.Token, in.Body.Server, &server)
	if err != nil {
		return nil, err
	}
	o := server.order(payer, in.Body.Server, in.Body.Tool, in.Body.Amount)
	if err := o.Check(); err != nil {
		return nil, invalid("body.amount", "%v", err)
	}
	c, balance, err := p.Ledger.Charge(ctx, id, o, ledger.Terms{Key: capsOf(payer)}, nil)
	if err != nil {
		return nil, err
	}
	p.count(caller, &c)
	receipt, err := p.Signer.Sign(ledger.NewReceipt(&c, p.Currency))
	if err != nil {
		return nil, err
	}
	return &content[Charged]{Charged{
		ID: c.ID, Amount: c.Paid(), Currency: p.Currency, Balance: balance.Available(), Receipt: receipt,
	}}, nil
}

// count counts a charge of a provider that was made now, and not before.
func (p *Platform) count(caller *keys.Key, c *ledger.Charge) {
	if caller.Kind == keys.Provider && c.Made {
		p.Charged(c.Server, c.Paid(), c.Test)
	}
}

// chargeID returns the id of the charge: one made of the provider's idempotency
// key, in the header or in the body, or a fresh one if there is none.
func (p *Platform) chargeID(ctx context.Context, caller *keys.Key, inBody string) (string, error) {
	inHeader := visitOf(ctx).idempotency
	key := inBody
	switch {
	case len(inHeader) > 1:
		return "", invalid("header.Idempotency-Key", "there is more than one")
	case len(inHeader) == 1 && inBody != "" && inHeader[0] != inBody:
		return "", invalid("header.Idempotency-Key", "it is not the idempotency_key of the body")
	case len(inHeader) == 1:
		if key = inHeader[0]; key == "" {
			return "", invalid("header.Idempotency-Key", "it is empty")
		}
	case inBody == "":
		return p.NewID(chargePrefix), nil
	}
	if len(key) > ledger.MaxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", invalid("idempotency_key", "want 1 to %d bytes on one line", ledger.MaxIdempotencyKey)
	}
	return derivedID(caller, key), nil
}

// derivedID makes the id of a charge of a provider's account, the environment of
// its key and its idempotency key: a UUID of version 8 (RFC 9562, 5.8) with the
// first bits of the SHA-256 of all, each after its length in four bytes. So a retry names the
// same charge, on every node and after every crash, and the ledger compares what
// is asked for. Nothing else can have such an id: see checkOrder.
func derivedID(caller *keys.Key, key string) string {
	sum := id.Hash("farebox charge", caller.Account, string(caller.Environment), key)
	u := uuid.UUID(sum[:16])
	u[6] = u[6]&0x0f | 0x80 // version 8
	u[8] = u[8]&0x3f | 0x80 // the variant of RFC 9562, 4.1
	return chargePrefix + u.String()
}
