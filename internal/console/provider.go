package console

import (
	"net/http"
	"strings"

	"github.com/fareboxhq/farebox/internal/people"
)

// beginProvider redirects the browser to the OpenID provider. If the visitor is signed
// in, the provider's user will be connected with the visitor. In that case the request
// must come from a page of the console. Otherwise another site could sign the browser
// in at the provider as its own user, start the connection, and then sign in here as
// the visitor.
func (v *visit) beginProvider() error {
	var by *people.SignedIn
	if v.token != "" {
		if !v.fromHere() {
			return v.done("", "profile")
		}
		by = &v.who
	}
	address, ceremony, err := v.people.BeginProvider(v.ctx, clientOf(v.r), by)
	if err != nil {
		return err
	}
	v.setCeremony(ceremony, http.SameSiteLaxMode) // the provider redirects back from another site
	http.Redirect(v.w, v.r, address, http.StatusSeeOther)
	return nil
}

// fromHere reports whether the request comes from a page of the console, or from an
// address that the visitor entered. Browsers report this in Sec-Fetch-Site (W3C Fetch
// Metadata). Older browsers send only the page's address, in Referer.
func (v *visit) fromHere() bool {
	switch v.r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		return strings.HasPrefix(v.r.Referer(), origin(v.c.o.Address)+v.c.base+"/")
	}
	return false
}

// finishProvider handles the request to which the provider redirects.
func (v *visit) finishProvider() error {
	q := v.r.URL.Query()
	ceremony := v.readCookie(ceremonyCookie)
	v.dropCeremony()
	if q.Get("error") != "" {
		return people.ErrProvider
	}
	_, token, err := v.people.FinishProvider(v.ctx, clientOf(v.r), ceremony, q.Get("state"), q.Get("code"))
	if err != nil {
		return err
	}
	if token == "" {
		return v.done("connected", "profile")
	}
	v.setCookie(token)
	return v.done("")
}

func (v *visit) disconnectProvider() error {
	if err := v.people.DisconnectProvider(v.ctx, v.who); err != nil {
		return err
	}
	return v.done("disconnected", "profile")
}

func (v *visit) registerPage() error {
	if !v.people.RegistersByCode() {
		return errNotFound
	}
	return v.show("register", "", "Register", nil)
}

// register begins a registration, and redirects to the invitation by which the person
// continues.
func (v *visit) register() error {
	form := v.r.PostForm
	_, secret, err := v.people.Register(v.ctx, clientOf(v.r), form.Get("code"), form.Get("email"))
	if err != nil {
		return err
	}
	return v.done("", "invite", secret)
}
