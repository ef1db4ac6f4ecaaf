package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

func chargeOps() []Op[*admin.Service] {
	return []Op[*admin.Service]{ListCharges, SumCharges, ShowCharge, RefundCharge}
}

// ChargePath identifies a charge.
type ChargePath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the charge"`
}

// ChargeFilter selects the charges that match all of its parameters.
type ChargeFilter struct {
	Account  string `query:"account" maxLength:"254" doc:"Only charges that the account with this name or id paid"`
	Provider string `query:"provider" maxLength:"254" doc:"Only charges that the account with this name or id earned"`
	Key      string `query:"key" maxLength:"64" doc:"Only charges by the key with this id"`
	Server   string `query:"server" maxLength:"64" doc:"Only charges at this server"`
	Tool     string `query:"tool" maxLength:"1100" doc:"Only charges for this tool"`
	Since    string `query:"since" maxLength:"64" doc:"Only charges since then: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"2026-11-30"`
	Until    string `query:"until" maxLength:"64" doc:"Only charges before then; in the form of since"`
}

func (f *ChargeFilter) query(p ledger.Page) admin.ChargeQuery {
	return admin.ChargeQuery{
		Page: p, Account: f.Account, Provider: f.Provider, Key: f.Key, Server: f.Server, Tool: f.Tool, Since: f.Since, Until: f.Until,
	}
}

type listCharges struct {
	ChargeFilter
	Sort string `query:"sort" maxLength:"16" doc:"The order: -time (newest first, the default), or time for the charges of all accounts"`
	Page
}

// ListCharges lists charges.
var ListCharges = Define(Operation{
	ID: "charge.list", Method: http.MethodGet, Path: "/charges", Needs: identity.View, Tag: "charges",
	Summary: "List charges, newest first unless sorted otherwise", Description: "A page may have fewer items than its limit, or none, and not be the last.",
	Command: "charge list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *listCharges) (admin.List[admin.ChargeView], error) {
	return s.Charges(ctx, in.query(in.sorted(in.Sort)))
})

type sumCharges struct {
	ChargeFilter
	After string `query:"after" maxLength:"128" doc:"Begin after this cursor: the next of the part before"`
}

// SumCharges sums charges up.
var SumCharges = Define(Operation{
	ID: "charge.sum", Method: http.MethodGet, Path: "/charges/sum", Needs: identity.View, Tag: "charges",
	Summary: "Sum charges up", Description: "The sum of a long list comes in parts, each with the next of the part after it: add the sums of all parts.",
	Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *sumCharges) (admin.ChargeSums, error) {
	return s.SumCharges(ctx, in.query(ledger.Page{After: in.After}))
})

// ShowCharge shows a charge.
var ShowCharge = Define(Operation{
	ID: "charge.show", Method: http.MethodGet, Path: "/charges/{id}", Needs: identity.View, Tag: "charges",
	Summary: "Show a charge with its entries in the ledger", Command: "charge show <charge-id>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *ChargePath) (admin.ChargeView, error) {
	return s.ShowCharge(ctx, in.ID)
})

type refundCharge struct {
	ChargePath
	Body admin.Refund
}

// RefundCharge refunds a charge.
var RefundCharge = Define(Operation{
	ID: "charge.refund", Method: http.MethodPost, Path: "/charges/{id}/refunds", Needs: identity.MoveCredits, Tag: "charges",
	Summary:     "Refund a charge, in whole or in part",
	Description: "The provider pays, also below zero, and the operator's fee goes back in proportion. Repeating the same refund under the same id changes nothing.",
	Command:     "charge refund <charge-id>", Audited: true, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *refundCharge) (admin.ChargeView, error) {
	in.Body.Charge = in.ID
	c, err := s.Refund(ctx, actor(by), in.Body)
	return viewCharge(ctx, s, c, err)
})

func viewCharge(ctx context.Context, s *admin.Service, c ledger.Charge, err error) (admin.ChargeView, error) {
	if err != nil {
		return admin.ChargeView{}, err
	}
	return s.ViewCharge(ctx, c), nil
}
