package ops

import (
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/wire"
)

// NewInvitation describes an invitation to create.
type NewInvitation struct {
	Account  string `json:"account,omitempty" doc:"The name or the id of the account that the person becomes a member of"`
	Role     string `json:"role,omitempty" doc:"owner or viewer; absent: viewer"`
	Operator bool   `json:"operator,omitempty" doc:"The person gets the rights of the operator"`
	Person   string `json:"person,omitempty" doc:"The id or the e-mail address of a person who lost the credentials: the link replaces them all"`
	Email    string `json:"email,omitempty" doc:"The only e-mail address that may accept the invitation"`
	Life     string `json:"life,omitempty" doc:"How long the link is valid, such as 30m, 12h or 7d; absent: as the config says, or 30m"`
}

// InvitationView is an invitation in JSON. Link is set only in the response to the
// creation of the invitation.
type InvitationView struct {
	ID        string    `json:"id"`
	Link      string    `json:"link,omitempty" doc:"Opens the invitation, once"`
	Account   string    `json:"account,omitempty"`
	Role      string    `json:"role,omitempty"`
	Operator  bool      `json:"operator,omitempty"`
	Person    string    `json:"person,omitempty" doc:"Whose credentials it replaces"`
	Email     string    `json:"email,omitempty"`
	Registers bool      `json:"registers,omitempty" doc:"A registration that was begun: it creates the account"`
	By        string    `json:"by" doc:"Its author, as in the audit log"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func viewInvitation(i people.Invitation) InvitationView {
	return InvitationView{
		ID: i.ID, Account: i.Account, Role: string(i.Role), Operator: i.Operator, Person: i.Person, Email: i.Email,
		Registers: i.Registers, By: i.By, CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt,
	}
}

// errNoConsole refuses to create an invitation while no console is configured, because
// nobody could open its link.
var errNoConsole = &admin.Error{Code: admin.Invalid, Message: "no console is configured, so nobody could open the link: configure the console, reload the server, and repeat the command"}

// CreateInvitation creates an invitation.
var CreateInvitation = Define(Operation{
	ID: "invitation.create", Method: http.MethodPost, Path: "/invitations", Needs: identity.ManagePeople, Tag: "people",
	Summary:     "Make a link that lets one person in, once",
	Description: "The link is in this response and in no other. It is for a member of an account, for an operator, or for a person who lost the credentials.",
	Command:     "console invite [<account>]", Audited: true, Status: http.StatusCreated, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *content[NewInvitation]) (InvitationView, error) {
	if _, ok := s.Link(""); !ok {
		return InvitationView{}, errNoConsole
	}
	n := people.NewInvitation{Account: in.Body.Account, Role: people.Role(in.Body.Role), Operator: in.Body.Operator, Email: in.Body.Email}
	if in.Body.Life != "" {
		life, err := clock.ParseDuration(in.Body.Life)
		if err != nil || life <= 0 {
			return InvitationView{}, Invalid("life", "%q is not a time, such as 30m, 12h or 7d", in.Body.Life)
		}
		n.Life = life
	}
	if in.Body.Person != "" {
		p, err := s.Person(ctx, in.Body.Person)
		if err != nil {
			return InvitationView{}, err
		}
		n.Person = p.ID
	}
	i, secret, err := s.Invite(ctx, actor(by), n)
	if err != nil {
		return InvitationView{}, err
	}
	v := viewInvitation(i)
	v.Link, _ = s.Link(secret)
	return v, nil
})

type listInvitations struct {
	Account string `query:"account" maxLength:"254" doc:"Only invitations to the account with this name or id"`
	Page
}

// ListInvitations lists invitations.
var ListInvitations = Define(Operation{
	ID: "invitation.list", Method: http.MethodGet, Path: "/invitations", Needs: identity.ManagePeople, Tag: "people",
	Summary: "List the invitations that can still be accepted, newest first", Command: "invitation list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, _ *identity.Principal, in *listInvitations) (admin.List[InvitationView], error) {
	list, next, err := s.Invitations(ctx, people.InvitationQuery{Page: in.page(), Account: in.Account})
	return admin.ViewList(list, next, viewInvitation), err
})

// InvitationPath identifies an invitation.
type InvitationPath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the invitation"`
}

// WithdrawInvitation withdraws an invitation.
var WithdrawInvitation = Define(Operation{
	ID: "invitation.withdraw", Method: http.MethodDelete, Path: "/invitations/{id}", Needs: identity.ManagePeople, Tag: "people",
	Summary: "Make an invitation unusable", Command: "invitation withdraw <invitation-id>", Audited: true, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *InvitationPath) (InvitationView, error) {
	i, err := s.Withdraw(ctx, actor(by), "", in.ID)
	return viewInvitation(i), err
})
