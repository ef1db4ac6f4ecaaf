package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

func accountOps() []Op[*admin.Service] {
	return []Op[*admin.Service]{ListAccounts, CreateAccount, ShowAccount, UpdateAccount, CreditAccount, AdjustAccount}
}

// Page selects a page of a listing.
type Page struct {
	After string `query:"after" maxLength:"128" doc:"Begin after this cursor: the next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" doc:"At most this many items; 500 if absent"`
}

func (p Page) page() ledger.Page { return ledger.Page{After: p.After, Limit: p.Limit} }

// sorted returns p as a ledger.Page of a listing in the given order.
func (p Page) sorted(by string) ledger.Page {
	page := p.page()
	page.Sort = ledger.Sort(by)
	return page
}

// AccountPath identifies an account.
type AccountPath struct {
	Ref string `path:"ref" maxLength:"254" doc:"The name or the id of the account"`
}

type listAccounts struct {
	Sort string `query:"sort" maxLength:"16" doc:"The order: created (the default), -created, name or -name"`
	Page
}

// ListAccounts lists accounts.
var ListAccounts = Define(Operation{
	ID: "account.list", Method: http.MethodGet, Path: "/accounts", Needs: identity.View, Tag: "accounts",
	Summary: "List accounts", Command: "account list",
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *listAccounts) (admin.List[admin.AccountView], error) {
	rows, next, err := s.Accounts(ctx, in.sorted(in.Sort))
	return admin.ViewList(rows, next, admin.ViewAccount), err
})

// CreateAccount creates an account.
var CreateAccount = Define(Operation{
	ID: "account.create", Method: http.MethodPost, Path: "/accounts", Needs: identity.ManageAccounts, Tag: "accounts",
	Summary: "Create an account", Command: "account create <name>", Audited: true,
	Status: http.StatusCreated, Problems: []wire.Code{wire.Exists},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *content[admin.NewAccount]) (admin.AccountView, error) {
	a, err := s.CreateAccount(ctx, actor(by), in.Body)
	return admin.ViewAccount(a), err
})

// ShowAccount shows an account.
var ShowAccount = Define(Operation{
	ID: "account.show", Method: http.MethodGet, Path: "/accounts/{ref}", Needs: identity.View, Tag: "accounts",
	Summary: "Show an account", Command: "account show <account>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *AccountPath) (admin.AccountView, error) {
	a, err := s.Account(ctx, in.Ref)
	return admin.ViewAccount(a), err
})

type updateAccount struct {
	AccountPath
	Body admin.AccountChange
}

// UpdateAccount changes the limits of an account.
var UpdateAccount = Define(Operation{
	ID: "account.update", Method: http.MethodPatch, Path: "/accounts/{ref}", Needs: identity.ManageAccounts, Tag: "accounts",
	Summary: "Change the limits of an account", Description: "Absent limits stay; a cap of zero removes the cap.",
	Command: "account update <account>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *updateAccount) (admin.AccountView, error) {
	a, err := s.UpdateAccount(ctx, actor(by), in.Ref, in.Body)
	return admin.ViewAccount(a), err
})

type fundAccount struct {
	AccountPath
	Body admin.Credit
}

// CreditAccount tops an account up.
var CreditAccount = Define(Operation{
	ID: "account.credit", Method: http.MethodPost, Path: "/accounts/{ref}/credits", Needs: identity.MoveCredits, Tag: "accounts",
	Summary: "Top an account up", Description: "Repeating the same credit under the same id changes nothing.",
	Command: "credit <account> <amount>", Audited: true, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *fundAccount) (admin.AccountView, error) {
	in.Body.Account = in.Ref
	a, err := s.Credit(ctx, actor(by), in.Body)
	return admin.ViewAccount(a), err
})

// AdjustAccount corrects the balance of an account.
var AdjustAccount = Define(Operation{
	ID: "account.adjust", Method: http.MethodPost, Path: "/accounts/{ref}/adjustments", Needs: identity.MoveCredits, Tag: "accounts",
	Summary: "Correct a balance, up or down", Description: "Repeating the same adjustment under the same id changes nothing.",
	Command: "adjust <account> --by <amount>", Audited: true, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *fundAccount) (admin.AccountView, error) {
	in.Body.Account = in.Ref
	a, err := s.Adjust(ctx, actor(by), in.Body)
	return admin.ViewAccount(a), err
})

// actor returns the principal as an Actor for the audit log.
func actor(by *identity.Principal) admin.Actor { return admin.Actor{Name: by.Subject, From: by.From()} }
