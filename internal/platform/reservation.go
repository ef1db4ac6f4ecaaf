package platform

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

func (p *Platform) registerReservations() {
	register(p, operation{
		method: "POST", path: "/reservations", id: "reserve", tag: "charging", kinds: settlers, maxBody: smallBody, status: http.StatusCreated,
		summary:     "Hold the price of a call",
		description: "For two minutes, unless it is renewed. The same order under the same id changes nothing.",
		refusals: []wire.Code{
			wire.ServerForbidden, wire.NotFound, wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap,
			wire.InFlight, wire.KeyReused, wire.ResultGone,
		},
	}, p.reserve)
	register(p, operation{
		method: "POST", path: "/reservations/{id}/renew", id: "renew", tag: "charging", kinds: settlers,
		summary: "Hold the price for two more minutes", refusals: []wire.Code{wire.NotFound, wire.Settled},
	}, p.renew)
	register(p, operation{
		method: "POST", path: "/reservations/{id}/capture", id: "capture", tag: "charging", kinds: settlers, maxBody: captureBody,
		summary:     "Take the price that is held",
		description: "When it is answered, the charge is durable. Captured before, the first outcome is given again.",
		refusals:    []wire.Code{wire.ServerForbidden, wire.NotFound, wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap},
	}, p.capture)
	register(p, operation{
		method: "DELETE", path: "/reservations/{id}", id: "release", tag: "charging", kinds: settlers,
		summary:     "Give the price back that is held, for good",
		description: "What is released is never captured, also if a capture comes later, or a restart forgot the reservation. Then it is not found, and given up all the same.",
		refusals:    []wire.Code{wire.NotFound, wire.Settled},
	}, p.release)
	register(p, operation{
		method: "POST", path: "/charges/{id}/refund", id: "refund", tag: "charges", kinds: refunders, maxBody: smallBody,
		summary:     "Give a charge back, in whole or in part",
		description: "The provider pays, also below zero, and the operator's fee goes back in proportion. The same refund under the same id changes nothing. A gateway gives back what it captured itself, within two hours.",
		refusals:    []wire.Code{wire.NotFound, wire.Conflict, wire.Settled},
	}, p.refund)
}

// chargePath names a charge or its reservation.
type chargePath struct {
	ID string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
}

func balanceOf(p ledger.Balance) wire.Balance { return wire.Balance(p) }

func (p *Platform) reserve(ctx context.Context, in *content[wire.Order]) (*content[wire.Reserved], error) {
	o, terms, err := p.order(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	r, err := p.Ledger.Reserve(ctx, in.Body.ID, o, terms)
	if err != nil {
		return nil, err
	}
	out := wire.Reserved{Balance: balanceOf(r.Balance), Waived: r.Waived}
	if r.First != nil {
		out.First = &wire.Answer{Charge: wire.ChargeOf(&r.First.Charge), Balance: balanceOf(r.First.Balance), Body: r.First.Body}
		out.Balance = out.First.Balance
	}
	return &content[wire.Reserved]{out}, nil
}

// reserved returns the order of a reservation or a charge, if the caller has
// made it. Those of others do not exist, as far as it is told.
func (p *Platform) reserved(ctx context.Context, id string) (ledger.Order, error) {
	o, err := p.Ledger.OrderByID(ctx, id)
	if err == nil && !p.covers(visitOf(ctx).key, &o) {
		err = ledger.ErrNotFound
	}
	return o, err
}

func (p *Platform) renew(ctx context.Context, in *chargePath) (*none, error) {
	if _, err := p.reserved(ctx, in.ID); err != nil {
		return nil, err
	}
	return nil, p.Ledger.Renew(ctx, in.ID)
}

// release gives a reservation up for good. One that is not known any more is
// given up, too: its capture may still be on its way.
func (p *Platform) release(ctx context.Context, in *chargePath) (*none, error) {
	o, err := p.Ledger.OrderByID(ctx, in.ID)
	switch {
	case err == nil && !p.covers(visitOf(ctx).key, &o), !ofCaller(chargePrefix, in.ID):
		return nil, ledger.ErrNotFound
	case err != nil && !errors.Is(err, ledger.ErrNotFound):
		return nil, err
	}
	return nil, p.Ledger.Void(ctx, in.ID)
}

type captureRequest struct {
	ID   string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
	Body wire.Capture
}

// capture pays a reservation, or, if the ledger knows none and the request says
// what was ordered, makes the charge under the same id. For that the order must
// be one that could be reserved now.
func (p *Platform) capture(ctx context.Context, in *captureRequest) (*content[wire.Captured], error) {
	asked := in.Body.Order
	if asked != nil && asked.ID != in.ID {
		return nil, invalid("body.order.id", "it is not the one of the path")
	}
	known, err := p.reserved(ctx, in.ID)
	switch {
	case err == nil && asked != nil && !sameCall(asked, &known):
		return nil, ledger.ErrConflict
	case err == nil:
		charge, balance, err := p.Ledger.Capture(ctx, in.ID, in.Body.Answer)
		if err == nil && charge.Order != known {
			err = ledger.ErrConflict
		}
		if err == nil || asked == nil || !errors.Is(err, ledger.ErrNotFound) {
			return p.captured(ctx, &charge, balance, err)
		}
	case asked == nil || !errors.Is(err, ledger.ErrNotFound):
		return nil, err
	}
	o, terms, err := p.order(ctx, asked)
	if err != nil {
		return nil, err
	}
	charge, balance, err := p.Ledger.Charge(ctx, in.ID, o, terms, in.Body.Answer)
	return p.captured(ctx, &charge, balance, err)
}

// sameCall reports whether an order is of what is known already. A provider
// names the key by its token, which the ledger does not have.
func sameCall(w *wire.Order, o *ledger.Order) bool {
	return (w.Key == "" || w.Key == o.Key) && w.Server == o.Server && w.Tool == o.Tool && w.Amount == o.Amount
}

func (p *Platform) captured(ctx context.Context, c *ledger.Charge, balance ledger.Balance, err error) (*content[wire.Captured], error) {
	if err != nil {
		return nil, err
	}
	p.count(visitOf(ctx).key, c)
	return &content[wire.Captured]{wire.Captured{Charge: wire.ChargeOf(c), Balance: balanceOf(balance), Made: c.Made}}, nil
}

// refundRequest gives a charge back.
type refundRequest struct {
	ID   string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
	Body Refund
}

// Refund says what to give back. It is wire.Refund, whose id may be left out: a
// retry is another refund then.
type Refund struct {
	ID     string        `json:"id,omitempty" doc:"txn_ and a UUIDv7, made by the caller and reused by each retry; without one, each request is a refund of its own" pattern:"^txn_[0-9a-f-]{36}$"`
	Amount ledger.Amount `json:"amount,omitzero" doc:"All that is left of it, if absent"`
	Reason string        `json:"reason" minLength:"1" maxLength:"500"`
}

const txnPrefix = "txn_"

func (p *Platform) refund(ctx context.Context, in *refundRequest) (*content[wire.Refunded], error) {
	v := visitOf(ctx)
	switch {
	case strings.TrimSpace(in.Body.Reason) == "":
		return nil, invalid("body.reason", "a reason is needed")
	case in.Body.Amount < 0:
		return nil, invalid("body.amount", "it must be more than zero; leave it out to give back all that is left")
	case in.Body.ID == "":
		in.Body.ID = p.NewID(txnPrefix)
	case !ofCaller(txnPrefix, in.Body.ID):
		return nil, invalid("body.id", "want txn_ and a UUIDv7 (RFC 9562, 5.7)")
	}
	if v.key.Kind != managers[0] {
		if err := p.refundable(ctx, in.ID); err != nil {
			return nil, err
		}
	}
	detail, err := json.Marshal(in.Body)
	if err != nil {
		return nil, err
	}
	now := p.Now()
	t, balance, err := p.Ledger.PostTransaction(ctx,
		ledger.Transaction{ID: in.Body.ID, Kind: ledger.KindRefund, Charge: in.ID, Amount: in.Body.Amount, At: now, Reason: in.Body.Reason},
		ledger.Audit{At: now, Actor: v.key.ID, From: v.from(), Action: "charge.refund", Target: in.ID, Detail: string(detail)})
	if errors.Is(err, ledger.ErrInsufficient) {
		return nil, invalid("body.amount", "that is more than is left of the charge")
	}
	if err != nil {
		return nil, err
	}
	return &content[wire.Refunded]{wire.Refunded{ID: t.ID, Charge: in.ID, Amount: t.Amount, At: t.At.UTC(), Balance: balanceOf(balance)}}, nil
}

// refundable reports, as ledger.ErrNotFound, whether a gateway may give the
// charge back: what it has captured itself, and a short while ago. Of an older
// one it is told when an operator has given it back, so that it owes no more.
func (p *Platform) refundable(ctx context.Context, id string) error {
	c, err := p.Ledger.ChargeByID(ctx, id)
	switch {
	case err != nil:
		return err
	case !p.covers(visitOf(ctx).key, &c.Order):
		return ledger.ErrNotFound
	case p.Now().Sub(c.At) < ledger.SettleTime:
		return nil
	case c.Refunded >= c.Paid():
		return ledger.ErrSettled
	}
	return ledger.ErrNotFound
}

// from is the caller's address, for the audit.
func (v *visit) from() string {
	if !v.client.IsValid() {
		return ""
	}
	return v.client.String()
}
