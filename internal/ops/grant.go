package ops

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/wire"
)

// OnGrants returns the operations on the OAuth grants, which let clients call servers at
// the expense of accounts.
func OnGrants() []Op[*Grants] { return []Op[*Grants]{ListGrants, ShowGrant, RevokeGrant} }

// Grants are the OAuth grants of a store, and the accounts that pay for them.
type Grants struct {
	OAuth    *oauth.Service
	Accounts *admin.Service
}

// GrantView is a grant in JSON.
type GrantView struct {
	ID           string      `json:"id"`
	State        string      `json:"state" doc:"live, revoked or expired"`
	Account      string      `json:"account" doc:"The account that pays"`
	AccountName  string      `json:"account_name,omitempty"`
	Environment  string      `json:"environment" doc:"live or test"`
	Server       string      `json:"server"`
	Client       string      `json:"client" doc:"The client_id"`
	ClientName   string      `json:"client_name,omitempty" doc:"As the client claims; nobody has verified it"`
	ClientHost   string      `json:"client_host,omitempty" doc:"The host that publishes the client's metadata; absent if the client_id is not a URL"`
	RedirectHost string      `json:"redirect_host,omitempty" doc:"The host to which the client's codes are sent; absent for a device"`
	Scopes       []string    `json:"scopes"`
	Allows       []string    `json:"allows" doc:"The descriptions of the scopes, in the same order; the scope itself if the config has none"`
	Caps         *admin.Caps `json:"caps,omitempty"`
	Rate         string      `json:"rate,omitempty"`
	Key          string      `json:"key,omitempty" doc:"The agent key that gave the grant"`
	Person       string      `json:"person,omitempty" doc:"The person that gave the grant; absent, like key, if the config did"`
	CreatedAt    time.Time   `json:"created_at"`
	LastUsedAt   *time.Time  `json:"last_used_at" doc:"The latest call or refresh by one of the latest tokens, exact to a minute or so; null if unused"`
	ExpiresAt    *time.Time  `json:"expires_at" doc:"No token lives longer; null means no end"`
	RevokedAt    *time.Time  `json:"revoked_at"`
	Reason       string      `json:"reason,omitempty" doc:"Why the grant was revoked"`
}

func (s *Grants) view(g *oauth.Grant, names map[string]string, uses map[string]time.Time) GrantView {
	v := GrantView{
		ID: g.ID, State: "live", Account: g.Account, AccountName: names[g.Account], Environment: string(g.Environment), Server: g.Server,
		Client: g.Client, ClientName: g.ClientName, ClientHost: g.ClientHost(), RedirectHost: g.Host, Scopes: append([]string{}, g.Scopes...), Allows: []string{},
		Key: g.Key, Person: g.Person, CreatedAt: g.CreatedAt, LastUsedAt: timeOrNull(uses[g.ID]),
		ExpiresAt: timeOrNull(g.ExpiresAt), RevokedAt: timeOrNull(g.RevokedAt), Reason: g.Reason,
	}
	for _, scope := range g.Scopes {
		v.Allows = append(v.Allows, cmp.Or(s.OAuth.Description(scope), scope))
	}
	v.Caps, v.Rate = admin.ViewLimits(g.Limits)
	switch {
	case v.RevokedAt != nil:
		v.State = "revoked"
	case !g.Live(s.OAuth.Now()):
		v.State = "expired"
	}
	return v
}

// views returns the views of grants, with the names of the accounts and the last uses.
func (s *Grants) views(ctx context.Context, grants []oauth.Grant) ([]GrantView, error) {
	accounts := make([]string, len(grants))
	for i := range grants {
		accounts[i] = grants[i].Account
	}
	names, err := s.Accounts.AccountNames(ctx, accounts)
	if err != nil {
		return nil, err
	}
	uses, err := s.OAuth.LastUses(ctx, grants)
	if err != nil {
		return nil, err
	}
	views := make([]GrantView, len(grants))
	for i := range grants {
		views[i] = s.view(&grants[i], names, uses)
	}
	return views, nil
}

// one returns the view of the grant, or err if that is not nil.
func (s *Grants) one(ctx context.Context, g oauth.Grant, err error) (GrantView, error) {
	if err != nil {
		return GrantView{}, err
	}
	views, err := s.views(ctx, []oauth.Grant{g})
	if err != nil {
		return GrantView{}, err
	}
	return views[0], nil
}

type listGrants struct {
	Account string `query:"account" maxLength:"254" doc:"Only grants at the expense of the account with this name or id"`
	Client  string `query:"client" maxLength:"2048" doc:"Only grants to the client with this client_id"`
	Server  string `query:"server" maxLength:"64" doc:"Only grants for this server"`
	Key     string `query:"key" maxLength:"64" doc:"Only grants that the agent key with this id gave"`
	All     bool   `query:"all" doc:"Also grants that were revoked or have expired"`
	Page
}

// ListGrants lists grants.
var ListGrants = Define(Operation{
	ID: "grant.list", Method: http.MethodGet, Path: "/grants", Needs: identity.View, Tag: "grants",
	Summary: "List the clients that may call servers by OAuth, newest first", Command: "grant list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *Grants, _ *identity.Principal, in *listGrants) (admin.List[GrantView], error) {
	q := oauth.GrantQuery{Page: in.page(), Client: in.Client, Server: in.Server, Key: in.Key}
	if in.Account != "" {
		a, err := s.Accounts.Account(ctx, in.Account)
		if err != nil {
			return admin.List[GrantView]{}, err
		}
		q.Account = a.ID
	}
	if !in.All {
		q.Live = s.OAuth.Now()
	}
	grants, next, err := s.OAuth.Grants(ctx, q)
	if err != nil {
		return admin.List[GrantView]{}, err
	}
	views, err := s.views(ctx, grants)
	return admin.List[GrantView]{Items: views, Next: next}, err
})

// GrantPath identifies a grant.
type GrantPath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the grant"`
}

// ShowGrant shows a grant.
var ShowGrant = Define(Operation{
	ID: "grant.show", Method: http.MethodGet, Path: "/grants/{id}", Needs: identity.View, Tag: "grants",
	Summary: "Show a grant", Command: "grant show <grant-id>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *Grants, _ *identity.Principal, in *GrantPath) (GrantView, error) {
	g, err := s.OAuth.Grant(ctx, in.ID)
	return s.one(ctx, g, err)
})

// RevokeGrant revokes a grant.
var RevokeGrant = Define(Operation{
	ID: "grant.revoke", Method: http.MethodDelete, Path: "/grants/{id}", Needs: identity.ManageKeys, Tag: "grants",
	Summary: "Revoke a grant with all of its tokens, for good", Description: "After the response, no lookup that begins accepts a token of the grant. Revoking it again changes nothing.",
	Command: "grant revoke <grant-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *Grants, by *identity.Principal, in *GrantPath) (GrantView, error) {
	g, err := s.OAuth.RevokeGrant(ctx, actor(by), in.ID)
	return s.one(ctx, g, err)
})
