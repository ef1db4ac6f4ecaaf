package platform

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

func reservationOps() []ops.Op[*Platform] {
	return []ops.Op[*Platform]{
		ops.Define(ops.Operation{
			ID: "reservation.create", Method: http.MethodPost, Path: "/reservations", Needs: identity.Settle, Tag: "charging", Status: http.StatusCreated,
			Summary:     "Hold the price of a call",
			Description: "For two minutes, unless it is renewed. Repeating the same order under the same id changes nothing.",
			Problems: []wire.Code{
				wire.ServerForbidden, wire.NotFound, wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap,
				wire.InFlight, wire.KeyReused, wire.ResultGone,
			},
		}, reserve),
		ops.Define(ops.Operation{
			ID: "reservation.renew", Method: http.MethodPost, Path: "/reservations/{id}/renew", Needs: identity.Settle, Tag: "charging",
			Summary: "Hold the price for two more minutes", Problems: []wire.Code{wire.NotFound, wire.Settled},
		}, renew),
		ops.Define(ops.Operation{
			ID: "reservation.capture", Method: http.MethodPost, Path: "/reservations/{id}/capture", Needs: identity.Settle, Tag: "charging", MaxBody: captureBody,
			Summary:     "Charge the price that is held",
			Description: "After the response the charge is durable. Repeating it returns the first outcome.",
			Problems:    []wire.Code{wire.ServerForbidden, wire.NotFound, wire.Conflict, wire.Settled, wire.InsufficientBalance, wire.SpendingCap},
		}, capture),
		ops.Define(ops.Operation{
			ID: "reservation.release", Method: http.MethodDelete, Path: "/reservations/{id}", Needs: identity.Settle, Tag: "charging",
			Summary:     "Give the held price back, for good",
			Description: "A released reservation is never captured, even if a capture arrives later or a restart forgot the reservation. In that case it is not found, and released all the same.",
			Problems:    []wire.Code{wire.NotFound, wire.Settled},
		}, release),
		ops.Define(ops.Operation{
			ID: "reservation.refund", Method: http.MethodPost, Path: "/reservations/{id}/refund", Needs: identity.RefundOwn, Tag: "charging",
			Summary:     "Refund a charge that the caller has captured, in whole or in part",
			Description: "Within two hours. The provider pays, also below zero, and the operator's fee goes back in proportion. Repeating the same refund under the same id changes nothing.",
			Problems:    []wire.Code{wire.NotFound, wire.Conflict, wire.Settled},
		}, refund),
	}
}

// chargePath identifies a charge or its reservation.
type chargePath struct {
	ID string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
}

func balanceOf(p ledger.Balance) wire.Balance { return wire.Balance(p) }

func reserve(ctx context.Context, p *Platform, by *identity.Principal, in *body[wire.Order]) (out wire.Reserved, err error) {
	o, terms, err := p.order(ctx, by, &in.Body)
	if err != nil {
		return out, err
	}
	r, err := p.o.Ledger.Reserve(ctx, in.Body.ID, o, terms)
	if err != nil {
		return out, err
	}
	out = wire.Reserved{Balance: balanceOf(r.Balance), Waived: r.Waived}
	if r.First != nil {
		out.First = &wire.Answer{Charge: wire.ChargeOf(&r.First.Charge), Balance: balanceOf(r.First.Balance), Body: r.First.Body}
		out.Balance = out.First.Balance
	}
	return out, nil
}

// reserved returns the order of a reservation or a charge that the caller has made.
// For reservations and charges of other callers it returns ledger.ErrNotFound.
func (p *Platform) reserved(ctx context.Context, by *identity.Principal, id string) (ledger.Order, error) {
	o, err := p.o.Ledger.OrderByID(ctx, id)
	if err == nil && !p.covers(by.Key, &o) {
		err = ledger.ErrNotFound
	}
	return o, err
}

func renew(ctx context.Context, p *Platform, by *identity.Principal, in *chargePath) (none ops.None, err error) {
	if _, err := p.reserved(ctx, by, in.ID); err != nil {
		return none, err
	}
	return none, p.o.Ledger.Renew(ctx, in.ID)
}

// release voids a reservation, even one that the ledger has forgotten, because a late
// capture could otherwise still charge it.
func release(ctx context.Context, p *Platform, by *identity.Principal, in *chargePath) (none ops.None, err error) {
	o, err := p.o.Ledger.OrderByID(ctx, in.ID)
	switch {
	case err == nil && !p.covers(by.Key, &o), !ofCaller(chargePrefix, in.ID):
		return none, ledger.ErrNotFound
	case err != nil && !errors.Is(err, ledger.ErrNotFound):
		return none, err
	}
	return none, p.o.Ledger.Void(ctx, in.ID)
}

type captureRequest struct {
	ID   string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
	Body wire.Capture
}

// capture charges a reservation. If the ledger does not know the reservation and the
// request contains the order, capture makes the charge under the same id, provided
// that the order could be reserved now.
func capture(ctx context.Context, p *Platform, by *identity.Principal, in *captureRequest) (none wire.Captured, err error) {
	asked := in.Body.Order
	if asked != nil && asked.ID != in.ID {
		return none, ops.Invalid("body.order.id", "it differs from the id in the path")
	}
	known, err := p.reserved(ctx, by, in.ID)
	switch {
	case err == nil && asked != nil && !sameCall(asked, &known):
		return none, ledger.ErrConflict
	case err == nil:
		charge, balance, err := p.o.Ledger.Capture(ctx, in.ID, in.Body.Answer)
		if err == nil && charge.Order != known {
			err = ledger.ErrConflict
		}
		if err == nil || asked == nil || !errors.Is(err, ledger.ErrNotFound) {
			return p.captured(by, &charge, balance, err)
		}
	case asked == nil || !errors.Is(err, ledger.ErrNotFound):
		return none, err
	}
	o, terms, err := p.order(ctx, by, asked)
	if err != nil {
		return none, err
	}
	charge, balance, err := p.o.Ledger.Charge(ctx, in.ID, o, terms, in.Body.Answer)
	return p.captured(by, &charge, balance, err)
}

// sameCall reports whether w asks for the order o. If w has no key, sameCall does not
// compare the keys: a provider sends a token instead, and the ledger does not have the
// token.
func sameCall(w *wire.Order, o *ledger.Order) bool {
	return (w.Key == "" || w.Key == o.Key) && w.Server == o.Server && w.Tool == o.Tool && w.Amount == o.Amount
}

func (p *Platform) captured(by *identity.Principal, c *ledger.Charge, balance ledger.Balance, err error) (wire.Captured, error) {
	if err != nil {
		return wire.Captured{}, err
	}
	p.count(by.Key, c)
	return wire.Captured{Charge: wire.ChargeOf(c), Balance: balanceOf(balance), Made: c.Made}, nil
}

type refundRequest struct {
	ID   string `path:"id" pattern:"^chg_[0-9a-f-]{36}$" doc:"The id of the charge"`
	Body OwnRefund
}

// OwnRefund is wire.Refund with an optional id. Without an id, each request is a
// separate refund.
type OwnRefund struct {
	ID     string         `json:"id,omitempty" doc:"txn_ and a UUIDv7, made by the caller and reused by each retry; without one, each request is a refund of its own" pattern:"^txn_[0-9a-f-]{36}$"`
	Amount *ledger.Amount `json:"amount,omitempty" doc:"All that is left of it, if absent"`
	Reason string         `json:"reason" minLength:"1" maxLength:"500"`
}

const txnPrefix = "txn_"

func refund(ctx context.Context, p *Platform, by *identity.Principal, in *refundRequest) (none wire.Refunded, err error) {
	var amount ledger.Amount // 0 means all that is left of the charge
	if in.Body.Amount != nil {
		amount = *in.Body.Amount
	}
	switch {
	case strings.TrimSpace(in.Body.Reason) == "":
		return none, ops.Invalid("body.reason", "a reason is needed")
	case in.Body.Amount != nil && amount <= 0:
		return none, ops.Invalid("body.amount", "it must be more than zero; leave it out to refund all that is left")
	case in.Body.ID == "":
		in.Body.ID = p.o.NewID(txnPrefix)
	case !ofCaller(txnPrefix, in.Body.ID):
		return none, ops.Invalid("body.id", "want txn_ and a UUIDv7 (RFC 9562, 5.7)")
	}
	if err := p.refundable(ctx, by, in.ID); err != nil {
		return none, err
	}
	detail, err := json.Marshal(in.Body)
	if err != nil {
		return none, err
	}
	now := p.o.Now()
	t, balance, err := p.o.Ledger.PostTransaction(ctx,
		ledger.Transaction{ID: in.Body.ID, Kind: ledger.KindRefund, Charge: in.ID, Amount: amount, At: now, Reason: in.Body.Reason},
		ledger.Audit{At: now, Actor: by.Subject, From: by.From(), Action: "charge.refund", Target: in.ID, Detail: string(detail)})
	if errors.Is(err, ledger.ErrInsufficient) {
		return none, ops.Invalid("body.amount", "that is more than is left of the charge")
	}
	if err != nil {
		return none, err
	}
	return wire.Refunded{ID: t.ID, Charge: in.ID, Amount: t.Amount, At: t.At.UTC(), Balance: balanceOf(balance)}, nil
}

// refundable returns nil if the caller itself captured the charge less than
// ledger.SettleTime ago. For an older charge that has been refunded completely it
// returns ledger.ErrSettled, so that the gateway stops trying. Otherwise it returns
// ledger.ErrNotFound.
func (p *Platform) refundable(ctx context.Context, by *identity.Principal, id string) error {
	c, err := p.o.Ledger.ChargeByID(ctx, id)
	switch {
	case err != nil:
		return err
	case !p.covers(by.Key, &c.Order):
		return ledger.ErrNotFound
	case p.o.Now().Sub(c.At) < ledger.SettleTime:
		return nil
	case c.Refunded >= c.Paid():
		return ledger.ErrSettled
	}
	return ledger.ErrNotFound
}
