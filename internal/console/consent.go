package console

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/server"
	"github.com/fareboxhq/farebox/internal/people"
)

// Connector is the authorization server. *server.Server implements it.
type Connector interface {
	OpenConsole(ctx context.Context, by *server.Person, name, sealed string) (*server.Pending, error)
	AllowAtConsole(ctx context.Context, by *server.Person, p *server.Pending, d *server.Decision) (string, error)
	DenyAtConsole(ctx context.Context, p *server.Pending) (string, error)
}

// consentData is the data of consent.html.
type consentData struct {
	Server, Sealed string
	Pending        *server.Pending
	Owned          []accountLink // accounts that the visitor owns; empty for operators, because they can name any account
	Test, Live     bool          // environments of keys that the server admits
}

// pending returns the request of a client that waits for the visitor's decision.
func (v *visit) pending() (Connector, *server.Person, *server.Pending, error) {
	if v.c.o.Connect == nil || v.c.o.Connect() == nil {
		return nil, nil, nil, errNotFound
	}
	to := v.c.o.Connect()
	by := &server.Person{Actor: v.actor(), Source: clientOf(v.r).Address, Operator: v.operator()}
	p, err := to.OpenConsole(v.ctx, by, v.r.FormValue("server"), v.r.FormValue("request"))
	return to, by, p, notConnected(err)
}

// notConnected returns the failure for an error of the authorization server.
func notConnected(err error) error {
	if refused, ok := errors.AsType[*oauth.Error](err); ok {
		return &failure{http.StatusBadRequest, "The app is not connected", sentence(refused.Description)}
	}
	return err
}

// consentPage shows the app that asks to be connected. After the decision the browser is
// sent to the app, which can have an address of any scheme, so the policy of this page does
// not bound the targets of forms.
func (v *visit) consentPage() error {
	_, _, p, err := v.pending()
	if err != nil {
		return err
	}
	data := consentData{Server: v.r.FormValue("server"), Sealed: v.r.FormValue("request"), Pending: p, Live: len(p.Environments) == 0, Test: len(p.Environments) == 0}
	for _, e := range p.Environments {
		data.Live, data.Test = data.Live || e == keys.Live, data.Test || e == keys.Test
	}
	for _, link := range v.links() {
		if v.role(link.ID) == people.Owner {
			data.Owned = append(data.Owned, link)
		}
	}
	v.w.Header().Set("Content-Security-Policy", strings.Replace(policy, "form-action 'self'; ", "", 1))
	return v.show("consent", "grants", "Connect an app", data)
}

// consent receives the decision, and sends the browser back to the app.
func (v *visit) consent() error {
	to, by, p, err := v.pending()
	if err != nil {
		return err
	}
	form := v.r.PostForm
	if form.Get("step") != "allow" {
		target, err := to.DenyAtConsole(v.ctx, p)
		if err != nil {
			return notConnected(err)
		}
		return v.leave(target, "nodevice")
	}
	account, err := v.payer(form.Get("account"))
	if err != nil {
		return err
	}
	d := &server.Decision{Account: account, Environment: keys.Live, Cap: form.Get("cap")}
	if form.Get("test") != "" {
		d.Environment = keys.Test
	}
	for _, s := range p.Scopes {
		if form.Get("scope."+s.Name) != "" {
			d.Scopes = append(d.Scopes, s.Name)
		}
	}
	if life := form.Get("ends"); life != "" {
		if d.Life, err = clock.ParseDuration(life); err != nil || d.Life <= 0 {
			return &failure{http.StatusBadRequest, "The app is not connected", "Choose one of the ends on the page."}
		}
	}
	target, err := to.AllowAtConsole(v.ctx, by, p, d)
	if err != nil {
		return notConnected(err)
	}
	return v.leave(target, "device", "accounts", account, "grants")
}

// payer returns the id of the account with the name or id, if the visitor manages its keys.
func (v *visit) payer(ref string) (string, error) {
	a, err := find[admin.AccountView](v, "accounts/"+pathSegment(ref))
	if err == nil && !v.operator() && v.role(a.ID) != people.Owner {
		err = errNotFound
	}
	if errors.Is(err, errNotFound) {
		return "", &inField{&failure{http.StatusBadRequest, "The app is not connected", "Choose an account that you own."}, "account"}
	}
	if err != nil {
		return "", err
	}
	return a.ID, nil
}

// leave sends the browser to the app. Without a target, which a device does not have, it
// goes to a page of the console, with a notice.
func (v *visit) leave(target, notice string, segments ...string) error {
	if target == "" {
		return v.done(notice, segments...)
	}
	v.w.Header().Set("Location", target)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}
