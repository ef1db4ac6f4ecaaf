package ops

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/people"
	"github.com/fareboxhq/farebox/internal/wire"
)

// OnPeople returns the operations on the people of the console. Only the operator may
// perform them, because no key has the right ManagePeople.
func OnPeople() []Op[*people.Service] {
	return []Op[*people.Service]{
		CreateInvitation, ListInvitations, WithdrawInvitation,
		ListPersons, ShowPerson, UpdatePerson, DisablePerson, EnablePerson, RemovePerson,
		ListSessions, EndSession,
	}
}

// MembershipView is the role of a person at an account, in JSON.
type MembershipView struct {
	Account     string `json:"account" doc:"The name or the id of the account"`
	AccountName string `json:"account_name,omitempty"`
	Role        string `json:"role" doc:"owner or viewer"`
}

// PasskeyView is a passkey in JSON.
type PasskeyView struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at"`
}

// PersonView is a person in JSON.
type PersonView struct {
	ID         string           `json:"id"`
	Email      string           `json:"email" doc:"The name for signing in; nobody has verified it"`
	Name       string           `json:"name"`
	State      string           `json:"state" doc:"active or disabled"`
	Operator   bool             `json:"operator"`
	Accounts   []MembershipView `json:"accounts"`
	SignsInBy  []string         `json:"signs_in_by" doc:"password, passkey and provider, as far as the person has them"`
	Passkeys   []PasskeyView    `json:"passkeys"`
	CreatedAt  time.Time        `json:"created_at"`
	LastSignIn *time.Time       `json:"last_sign_in"`
	DisabledAt *time.Time       `json:"disabled_at"`
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// viewPersons returns the views of persons, with the names of their accounts.
func viewPersons(ctx context.Context, s *people.Service, list []people.Person) ([]PersonView, error) {
	var ids []string
	for i := range list {
		for _, m := range list[i].Accounts {
			ids = append(ids, m.Account)
		}
	}
	names, err := s.AccountNames(ctx, ids)
	views := make([]PersonView, len(list))
	for i := range list {
		views[i] = viewPerson(&list[i], names)
	}
	return views, err
}

func viewPerson(p *people.Person, names map[string]string) PersonView {
	v := PersonView{
		ID: p.ID, Email: p.Email, Name: p.Name, State: "active", Operator: p.Operator, Accounts: []MembershipView{}, SignsInBy: []string{}, Passkeys: []PasskeyView{},
		CreatedAt: p.CreatedAt, LastSignIn: timeOrNull(p.LastSignIn), DisabledAt: timeOrNull(p.DisabledAt),
	}
	if v.DisabledAt != nil {
		v.State = "disabled"
	}
	for _, m := range p.Accounts {
		v.Accounts = append(v.Accounts, MembershipView{m.Account, names[m.Account], string(m.Role)})
	}
	for _, k := range p.Passkeys {
		v.Passkeys = append(v.Passkeys, PasskeyView{k.ID, k.Name, k.CreatedAt, timeOrNull(k.UsedAt)})
	}
	for by, has := range map[string]bool{"passkey": len(p.Passkeys) > 0, "password": p.HasPassword, "provider": p.HasProvider} {
		if has {
			v.SignsInBy = append(v.SignsInBy, by)
		}
	}
	slices.Sort(v.SignsInBy)
	return v
}

// onePerson turns the results of a method of people.Service into those of an operation:
// it returns the view of p, or err if that is not nil.
func onePerson(ctx context.Context, s *people.Service, p people.Person, err error) (PersonView, error) {
	if err != nil {
		return PersonView{}, err
	}
	views, err := viewPersons(ctx, s, []people.Person{p})
	return views[0], err
}

// PersonPath identifies a person.
type PersonPath struct {
	Ref string `path:"ref" maxLength:"254" doc:"The id or the e-mail address of the person"`
}

type listPersons struct {
	Account string `query:"account" maxLength:"254" doc:"Only members of the account with this name or id"`
	Page
}

// ListPersons lists persons.
var ListPersons = Define(Operation{
	ID: "person.list", Method: http.MethodGet, Path: "/persons", Needs: identity.ManagePeople, Tag: "people",
	Summary: "List the people of the console", Command: "person list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, _ *identity.Principal, in *listPersons) (admin.List[PersonView], error) {
	list, next, err := s.Persons(ctx, people.PersonQuery{Page: in.page(), Account: in.Account})
	if err != nil {
		return admin.List[PersonView]{}, err
	}
	views, err := viewPersons(ctx, s, list)
	return admin.List[PersonView]{Items: views, Next: next}, err
})

// ShowPerson shows a person.
var ShowPerson = Define(Operation{
	ID: "person.show", Method: http.MethodGet, Path: "/persons/{ref}", Needs: identity.ManagePeople, Tag: "people",
	Summary: "Show a person", Command: "person show <person>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, _ *identity.Principal, in *PersonPath) (PersonView, error) {
	p, err := s.Person(ctx, in.Ref)
	return onePerson(ctx, s, p, err)
})

// PersonChange describes a change of a person. An absent member means no change.
type PersonChange struct {
	Name     *string             `json:"name,omitempty" doc:"For display"`
	Email    *string             `json:"email,omitempty" doc:"The name for signing in"`
	Operator *bool               `json:"operator,omitempty" doc:"Whether the person has the rights of the operator: true or false"`
	Accounts *[]MembershipChange `json:"accounts,omitempty" doc:"All accounts of the person with the roles, in place of the former ones"`
}

// MembershipChange is a membership that a person gets.
type MembershipChange struct {
	Account string `json:"account" doc:"The name or the id of the account"`
	Role    string `json:"role" doc:"owner or viewer"`
}

type updatePerson struct {
	PersonPath
	Body PersonChange
}

// UpdatePerson changes a person.
var UpdatePerson = Define(Operation{
	ID: "person.update", Method: http.MethodPatch, Path: "/persons/{ref}", Needs: identity.ManagePeople, Tag: "people",
	Summary:     "Change a person",
	Description: "Absent members stay. The sessions of the person go on with the new rights. If the person loses rights, its unused invitations become unusable.",
	Command:     "person update <person>", Audited: true, Problems: []wire.Code{wire.NotFound, wire.Exists},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *updatePerson) (PersonView, error) {
	c := people.PersonChange{Name: in.Body.Name, Email: in.Body.Email, Operator: in.Body.Operator}
	if in.Body.Accounts != nil {
		list := []people.Membership{}
		for _, m := range *in.Body.Accounts {
			list = append(list, people.Membership{Account: m.Account, Role: people.Role(m.Role)})
		}
		c.Accounts = &list
	}
	p, err := s.Update(ctx, actor(by), in.Ref, c)
	return onePerson(ctx, s, p, err)
})

// DisablePerson disables a person.
var DisablePerson = Define(Operation{
	ID: "person.disable", Method: http.MethodPost, Path: "/persons/{ref}/disable", Needs: identity.ManagePeople, Tag: "people",
	Summary: "End the sessions of a person, and refuse the person until it is enabled", Command: "person disable <person>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *PersonPath) (PersonView, error) {
	p, err := s.Disable(ctx, actor(by), in.Ref)
	return onePerson(ctx, s, p, err)
})

// EnablePerson enables a disabled person.
var EnablePerson = Define(Operation{
	ID: "person.enable", Method: http.MethodPost, Path: "/persons/{ref}/enable", Needs: identity.ManagePeople, Tag: "people",
	Summary: "Let a disabled person sign in again", Command: "person enable <person>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *PersonPath) (PersonView, error) {
	p, err := s.Enable(ctx, actor(by), in.Ref)
	return onePerson(ctx, s, p, err)
})

// RemovePerson removes a person.
var RemovePerson = Define(Operation{
	ID: "person.remove", Method: http.MethodDelete, Path: "/persons/{ref}", Needs: identity.ManagePeople, Tag: "people",
	Summary:     "Remove a person with its credentials and sessions, for good",
	Description: "A user of an OpenID provider becomes a new person at the next sign-in there: disable such a person instead.",
	Command:     "person remove <person>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *PersonPath) (PersonView, error) {
	p, err := s.Remove(ctx, actor(by), in.Ref)
	return onePerson(ctx, s, p, err)
})

// SessionView is a session in JSON.
type SessionView struct {
	ID        string    `json:"id"`
	Person    string    `json:"person"`
	Address   string    `json:"address" doc:"Of the latest request"`
	Agent     string    `json:"agent"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at" doc:"Exact to a minute"`
	ExpiresAt time.Time `json:"expires_at" doc:"If no further request comes"`
}

func viewSession(s people.Session) SessionView {
	return SessionView{
		ID: s.ID, Person: s.Person, Address: strings.TrimPrefix(s.Client.Address.String(), "invalid IP"), Agent: s.Client.Agent,
		CreatedAt: s.CreatedAt, SeenAt: s.SeenAt, ExpiresAt: s.ExpiresAt,
	}
}

// ListSessions lists the sessions of a person.
var ListSessions = Define(Operation{
	ID: "session.list", Method: http.MethodGet, Path: "/persons/{ref}/sessions", Needs: identity.ManagePeople, Tag: "people",
	Summary: "List the sessions of a person, newest first", Command: "session list <person>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, _ *identity.Principal, in *PersonPath) (admin.List[SessionView], error) {
	p, err := s.Person(ctx, in.Ref)
	if err != nil {
		return admin.List[SessionView]{}, err
	}
	list, err := s.Sessions(ctx, p.ID)
	return admin.ViewList(list, "", viewSession), err
})

// SessionPath identifies a session.
type SessionPath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the session"`
}

// EndedSession identifies a session that was ended, in JSON.
type EndedSession struct {
	ID string `json:"id"`
}

// EndSession ends a session.
var EndSession = Define(Operation{
	ID: "session.end", Method: http.MethodDelete, Path: "/sessions/{id}", Needs: identity.ManagePeople, Tag: "people",
	Summary: "End a session, at once and on all nodes", Command: "session end <session-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *people.Service, by *identity.Principal, in *SessionPath) (EndedSession, error) {
	return EndedSession(*in), s.EndSession(ctx, actor(by), "", in.ID)
})
