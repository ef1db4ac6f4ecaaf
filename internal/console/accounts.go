package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/format"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

// pageSize is the number of rows on one page of a list.
const pageSize = 50

// listing is one page of a list, with the data that its links need.
type listing[T any] struct {
	admin.List[T]
	Query url.Values // the query of this page's URL
	First bool       // this is the first page of the list
}

// list reads one page of a list. It passes the filters to the operation as parameters.
// It takes the cursor from the URL of the console's page.
func list[T any](v *visit, path string, filters url.Values) (listing[T], error) {
	filters.Set("limit", strconv.Itoa(pageSize))
	after := v.r.URL.Query().Get("after")
	if after != "" {
		filters.Set("after", after)
	}
	found, err := get[admin.List[T]](v, path, filters)
	if err != nil {
		return listing[T]{}, err
	}
	return listing[T]{*found, v.r.URL.Query(), after == ""}, nil
}

// each calls use(row) for every row on all pages of a list, until use returns false. It
// changes the given filters.
func each[T any](v *visit, path string, filters url.Values, use func(T) bool) error {
	filters.Set("limit", strconv.Itoa(ledger.MaxPage))
	for {
		page, err := get[admin.List[T]](v, path, filters)
		if err != nil {
			return err
		}
		for _, row := range page.Items {
			if !use(row) {
				return nil
			}
		}
		if page.Next == "" {
			return nil
		}
		filters.Set("after", page.Next)
	}
}

// filters returns the named parameters in the page's URL. It leaves out empty ones.
func (v *visit) filters(names ...string) url.Values {
	all := make(url.Values)
	for _, name := range names {
		if value := strings.TrimSpace(v.r.URL.Query().Get(name)); value != "" {
			all.Set(name, value)
		}
	}
	return all
}

func (v *visit) accounts() error {
	rows, err := list[admin.AccountView](v, "accounts", v.filters("sort"))
	if err != nil {
		return err
	}
	return v.show("accounts", "accounts", "Accounts", rows)
}

func (v *visit) createAccount() error {
	a, err := post[admin.AccountView](v, "accounts", admin.NewAccount{Name: v.r.PostForm.Get("name")})
	if err != nil {
		return err
	}
	return v.done("created", "accounts", a.ID)
}

// accountData is the data of account.html.
type accountData struct {
	Account admin.AccountView
	Keys    []admin.KeyView
	Charges []admin.ChargeView
	Earned  []admin.ChargeView
	Calls   []admin.CallView
	Recent  recentUsage
	History []event
}

// recentRows is the number of rows of each list on an overview page.
const recentRows = "5"

func (v *visit) accountPage() error {
	a, err := v.accountView()
	if err != nil {
		return err
	}
	keys, err := get[admin.List[admin.KeyView]](v, "keys", url.Values{"account": {v.account}, "limit": {recentRows}, "usage_since": {usageSince}})
	if err != nil {
		return err
	}
	charges, err := get[admin.List[admin.ChargeView]](v, "charges", url.Values{"account": {v.account}, "limit": {recentRows}})
	if err != nil {
		return err
	}
	earned, err := get[admin.List[admin.ChargeView]](v, "charges", url.Values{"provider": {v.account}, "limit": {recentRows}})
	if err != nil {
		return err
	}
	calls, err := v.latestCalls(url.Values{"account": {v.account}})
	if err != nil {
		return err
	}
	recent, err := v.recent(url.Values{"account": {v.account}})
	if err != nil {
		return err
	}
	history, err := v.history("target", v.account)
	if err != nil {
		return err
	}
	return v.show("account", "account", a.Name, accountData{*a, keys.Items, charges.Items, v.discreet(earned.Items), calls, recent, history})
}

// amount returns the amount in a field of the form.
func (v *visit) amount(field string) (ledger.Amount, error) {
	text := strings.TrimSpace(v.r.PostForm.Get(field))
	a, err := ledger.ParseAmount(text)
	if err != nil {
		return 0, &inField{&failure{http.StatusBadRequest, "The amount cannot be read", sentence(err.Error())}, field}
	}
	return a, nil
}

// optionalAmount returns the amount in a field of the form, or zero if the field is
// empty.
func (v *visit) optionalAmount(field string) (*ledger.Amount, error) {
	if strings.TrimSpace(v.r.PostForm.Get(field)) == "" {
		return new(ledger.Amount), nil
	}
	a, err := v.amount(field)
	return &a, err
}

func (v *visit) credit() error { return v.fund("credits", "credited") }

func (v *visit) adjust() error { return v.fund("adjustments", "adjusted") }

// fund books a credit or an adjustment. The id of the booking comes from the form, so
// that a form that is sent twice is booked once.
func (v *visit) fund(operation, notice string) error {
	amount, err := v.amount("amount")
	if err != nil {
		return err
	}
	form := v.r.PostForm
	body := admin.Credit{ID: form.Get("id"), Amount: amount, Reason: form.Get("reason"), Test: form.Get("test") != ""}
	if _, err := post[admin.AccountView](v, "accounts/"+v.account+"/"+operation, body); err != nil {
		return err
	}
	return v.done(notice, "accounts", v.account)
}

func (v *visit) limit() error {
	limit, err := v.optionalAmount("credit_limit")
	if err != nil {
		return err
	}
	caps, err := v.caps()
	if err != nil {
		return err
	}
	body := admin.AccountChange{CreditLimit: limit, Caps: caps}
	if _, err := change[admin.AccountView](v, "PATCH", "accounts/"+v.account, nil, body); err != nil {
		return err
	}
	return v.done("limits", "accounts", v.account)
}

// caps returns the caps in the form. An empty field means no cap.
func (v *visit) caps() (*admin.Caps, error) {
	caps := &admin.Caps{}
	for field, to := range map[string]**ledger.Amount{"cap_call": &caps.Call, "cap_day": &caps.Day, "cap_month": &caps.Month} {
		var err error
		if *to, err = v.optionalAmount(field); err != nil {
			return nil, err
		}
	}
	return caps, nil
}

// membersData is the data of members.html.
type membersData struct {
	Account     string
	Persons     []people.Person
	Invitations []people.Invitation
	shownLink
}

func (v *visit) membersPage() error { return v.showMembers(shownLink{}) }

func (v *visit) showMembers(link shownLink) error {
	persons, _, err := v.people.Persons(v.ctx, people.PersonQuery{Account: v.account})
	if err != nil {
		return err
	}
	var invitations []people.Invitation
	if v.manages(v.account) {
		if invitations, _, err = v.people.Invitations(v.ctx, people.InvitationQuery{Account: v.account}); err != nil {
			return err
		}
	}
	return v.show("members", "people", "People", membersData{v.account, persons, invitations, link})
}

// inviteMember makes an invitation to the route's account. It calls the people service
// directly, because only operators may perform the operations on people. An owner
// cannot give more rights than it has: admit has checked the account, and the role is
// owner or viewer.
func (v *visit) inviteMember() error {
	form := v.r.PostForm
	role := people.Role(form.Get("role"))
	if !role.Valid() {
		return &inField{&failure{http.StatusBadRequest, "The invitation was not made", "Choose whether the person becomes an owner or a viewer."}, "role"}
	}
	i, secret, err := v.people.Invite(v.ctx, v.actor(), people.NewInvitation{Account: v.account, Role: role, Email: form.Get("email")})
	if err != nil {
		return err
	}
	link, _ := v.people.Link(secret)
	return v.showMembers(shownLink{link, format.Duration(i.ExpiresAt.Sub(v.now).Round(time.Minute))})
}

func (v *visit) withdrawMember() error {
	if _, err := v.people.Withdraw(v.ctx, v.actor(), v.account, v.r.PathValue("invitation")); err != nil {
		return err
	}
	return v.done("withdrawn", "accounts", v.account, "people")
}
