package console

import (
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/ops"
)

// grants shows the clients that may call servers by OAuth, which the pages call apps.
func (v *visit) grants() error {
	filters := v.filters("account", "client", "server", "key", "all")
	if v.account != "" {
		filters.Set("account", v.account)
	}
	rows, err := list[ops.GrantView](v, "grants", filters)
	if err != nil {
		return err
	}
	return v.show("grants", "grants", "Connected apps", rows)
}

// grantData is the data of grant.html.
type grantData struct {
	Grant   ops.GrantView
	By      string // name of the person that gave the grant; "" for a key
	Reason  string // why the grant was revoked, unless somebody wanted to; see History
	History []event
}

func (v *visit) grantPage() error {
	history, err := v.history("target", v.grant.ID)
	if err != nil {
		return err
	}
	title := v.grant.ClientName
	if title == "" {
		title = "App " + v.grant.Client
	}
	data := grantData{Grant: *v.grant, History: history}
	if v.grant.Person != "" {
		data.By = v.nameOf(v.grant.Person)
	}
	if !strings.HasPrefix(v.grant.Reason, oauth.RevokedBy) {
		data.Reason = v.grant.Reason
	}
	return v.show("grant", "grants", title, data)
}

// revokeGrant revokes the grant if the form confirms it.
func (v *visit) revokeGrant() error {
	if v.r.PostForm.Get("confirm") != "yes" {
		return &inField{&failure{http.StatusBadRequest, "The app is still connected", "To disconnect it, tick the box."}, "confirm"}
	}
	if _, err := change[ops.GrantView](v, http.MethodDelete, "grants/"+v.grant.ID, nil, nil); err != nil {
		return err
	}
	return v.done("revoked", "grants", v.grant.ID)
}
