package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/format"
	"github.com/fareboxhq/farebox/internal/ops"
)

// personsData is the data of people.html.
type personsData struct {
	listing[ops.PersonView]
	Invitations []ops.InvitationView
	shownLink
}

// shownLink is the link of an invitation that was just made, and the time until it
// expires. Both are "" if no invitation was made.
type shownLink struct{ Link, Life string }

func (v *visit) persons() error { return v.showPersons(shownLink{}) }

func (v *visit) showPersons(link shownLink) error {
	persons, err := list[ops.PersonView](v, "persons", url.Values{})
	if err != nil {
		return err
	}
	invitations, err := get[admin.List[ops.InvitationView]](v, "invitations", nil)
	if err != nil {
		return err
	}
	return v.show("people", "people", "People", personsData{persons, invitations.Items, link})
}

func (v *visit) invitePerson() error {
	form := v.r.PostForm
	n := ops.NewInvitation{Email: form.Get("email"), Operator: form.Get("role") == "operator"}
	if !n.Operator {
		n.Account, n.Role = form.Get("account"), form.Get("role")
	}
	err := v.inviteBy(n, v.showPersons)
	var refused *admin.Error
	if errors.As(err, &refused) && refused.Code == admin.NotFound {
		return &inField{err, "account"}
	}
	return err
}

// inviteBy makes an invitation and calls show(link) with its link. The link is shown
// only once.
func (v *visit) inviteBy(n ops.NewInvitation, show func(shownLink) error) error {
	i, err := post[ops.InvitationView](v, "invitations", n)
	if err != nil {
		return err
	}
	return show(shownLink{i.Link, format.Duration(i.ExpiresAt.Sub(v.now).Round(time.Minute))})
}

// personData is the data of person.html.
type personData struct {
	Person   ops.PersonView
	Sessions []ops.SessionView
	Self     bool // the page is about the visitor
	shownLink
}

// personPath returns the path of the operation on the page's person.
func (v *visit) personPath() string { return "persons/" + pathSegment(v.r.PathValue("person")) }

func (v *visit) personPage() error { return v.showPerson(shownLink{}) }

func (v *visit) showPerson(link shownLink) error {
	p, err := get[ops.PersonView](v, v.personPath(), nil)
	if err != nil {
		return err
	}
	sessions, err := get[admin.List[ops.SessionView]](v, v.personPath()+"/sessions", nil)
	if err != nil {
		return err
	}
	return v.show("person", "people", p.Email, personData{*p, sessions.Items, p.ID == v.who.Person.ID, link})
}

// setMembership gives the person a role at an account, or removes the membership.
func (v *visit) setMembership() error {
	p, err := get[ops.PersonView](v, v.personPath(), nil)
	if err != nil {
		return err
	}
	a, err := get[admin.AccountView](v, "accounts/"+pathSegment(v.r.PostForm.Get("account")), nil)
	if err != nil {
		return &inField{err, "account"}
	}
	memberships := []ops.MembershipChange{}
	for _, m := range p.Accounts {
		if m.Account != a.ID {
			memberships = append(memberships, ops.MembershipChange{Account: m.Account, Role: m.Role})
		}
	}
	if role := v.r.PostForm.Get("role"); role != "" {
		memberships = append(memberships, ops.MembershipChange{Account: a.ID, Role: role})
	}
	return v.changePerson(http.MethodPatch, "", ops.PersonChange{Accounts: &memberships})
}

// changePerson performs an operation on the person and shows the person's page.
func (v *visit) changePerson(method, operation string, body any) error {
	p, err := change[ops.PersonView](v, method, v.personPath()+operation, nil, body)
	if err != nil {
		return err
	}
	return v.done("person", "people", p.ID)
}

func (v *visit) disablePerson() error {
	if ref := v.r.PathValue("person"); ref == v.who.Person.ID || strings.EqualFold(ref, v.who.Person.Email) {
		return &failure{http.StatusConflict, "You cannot disable yourself", "Ask another operator to do it."}
	}
	return v.changePerson(http.MethodPost, "/disable", nil)
}

func (v *visit) enablePerson() error { return v.changePerson(http.MethodPost, "/enable", nil) }

func (v *visit) removePerson() error {
	p, err := get[ops.PersonView](v, v.personPath(), nil)
	switch {
	case err != nil:
		return err
	case p.ID == v.who.Person.ID:
		return &failure{http.StatusConflict, "You cannot remove yourself", "Ask another operator to do it."}
	case v.r.PostForm.Get("confirm") != p.Email:
		return &inField{&failure{http.StatusBadRequest, "The person was not removed", "To confirm, type the e-mail address, " + p.Email + "."}, "confirm"}
	}
	if _, err := change[ops.PersonView](v, http.MethodDelete, "persons/"+pathSegment(p.ID), nil, nil); err != nil {
		return err
	}
	return v.done("removed", "people")
}

func (v *visit) recoverPerson() error {
	return v.inviteBy(ops.NewInvitation{Person: v.r.PathValue("person")}, v.showPerson)
}

// endSessionsOf ends all sessions of the person.
func (v *visit) endSessionsOf() error {
	person := v.r.PathValue("person")
	if _, err := v.people.EndSessions(v.ctx, v.actor(), person, ""); err != nil {
		return err
	}
	return v.done("session", "people", person)
}

func (v *visit) withdraw() error {
	if _, err := change[ops.InvitationView](v, http.MethodDelete, "invitations/"+pathSegment(v.r.PathValue("invitation")), nil, nil); err != nil {
		return err
	}
	return v.done("withdrawn", "people")
}
