package console

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/fareboxhq/farebox/internal/people"
)

// signInData is the data of signin.html.
type signInData struct {
	To        string // path of the page to go on to
	Provider  string // name of the OpenID provider; "" without one
	Registers bool   // people can register by a code
}

// providerName returns the name of the OpenID provider, or "".
func (v *visit) providerName() string {
	if p := v.people.Settings().Provider; p != nil {
		return p.Name
	}
	return ""
}

func (v *visit) signInPage() error {
	to := v.r.FormValue("to")
	if v.token != "" && v.refusal == nil {
		http.Redirect(v.w, v.r, v.local(to), http.StatusSeeOther)
		return nil
	}
	return v.show("signin", "", "Sign in", signInData{to, v.providerName(), v.people.RegistersByCode()})
}

// signIn signs in by a password.
func (v *visit) signIn() error {
	form := v.r.PostForm
	_, token, err := v.people.SignIn(v.ctx, clientOf(v.r), form.Get("email"), form.Get("password"))
	if err != nil {
		return err
	}
	v.setCookie(token)
	http.Redirect(v.w, v.r, v.local(form.Get("to")), http.StatusSeeOther)
	return nil
}

// local returns its argument if that is the path of a page of the console, and otherwise
// the path of the overview. So a link to the sign-in cannot redirect to another site. Pages of the
// sign-in are excluded, because one of them connects the OpenID provider. Browsers drop
// tabs and line breaks from a URL, and read a backslash as a slash. So a path with such
// a character, or with dot segments, is excluded, too.
func (v *visit) local(to string) string {
	u, err := url.Parse(to) // refuses control characters
	if err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) || !strings.HasPrefix(u.Path, v.c.base+"/") {
		return v.c.path()
	}
	page := strings.TrimPrefix(u.Path, v.c.base)
	if first, _, _ := strings.Cut(page[1:], "/"); first == "signin" || page != "/" && path.Clean(page) != page {
		return v.c.path()
	}
	return u.RequestURI()
}

// begun sends the script of a page the options for a passkey, and keeps the secret of
// the ceremony in a cookie.
func (v *visit) begun(options json.RawMessage, ceremony string, err error) error {
	if err != nil {
		return err
	}
	v.setCeremony(ceremony, http.SameSiteStrictMode)
	writeJSON(v.w, http.StatusOK, options)
	return nil
}

// passkeyResponse returns the authenticator's response in the request body.
func (v *visit) passkeyResponse() ([]byte, error) {
	return io.ReadAll(v.r.Body) // maxForm bounds the body
}

// finished ends a ceremony that a script of the page performed, such as a sign-in by
// passkey. It sends the script the page to open next, and sets the session's cookie if
// there is a new token.
func (v *visit) finished(token, to string, err error) error {
	if err != nil {
		return err
	}
	v.dropCeremony()
	if token != "" {
		v.setCookie(token)
	}
	writeJSON(v.w, http.StatusOK, map[string]string{"to": to})
	return nil
}

func (v *visit) beginSignIn() error {
	return v.begun(v.people.BeginSignIn(v.ctx, clientOf(v.r)))
}

func (v *visit) finishSignIn() error {
	response, err := v.passkeyResponse()
	if err != nil {
		return err
	}
	_, token, err := v.people.FinishSignIn(v.ctx, clientOf(v.r), v.readCookie(ceremonyCookie), response)
	return v.finished(token, v.local(v.r.URL.Query().Get("to")), err)
}

// signOut ends the session.
func (v *visit) signOut() error {
	if err := v.people.SignOut(v.ctx, clientOf(v.r), v.token); err != nil {
		return err
	}
	v.dropCookie()
	return v.done("signedout", "signin")
}

// inviteData is the data of invite.html.
type inviteData struct {
	Secret     string
	Invitation people.Invitation
	Account    string // name of the account
	SignedIn   string // e-mail address of the person that is signed in; "" without one
	Joins      bool   // that person can accept the invitation
}

func (v *visit) invitePage() error {
	secret := v.r.PathValue("secret")
	i, err := v.people.Invitation(v.ctx, secret)
	if err != nil {
		return err
	}
	data := inviteData{Secret: secret, Invitation: i, SignedIn: v.who.Person.Email}
	data.Joins = data.SignedIn != "" && !i.Recovers() && !i.Registers && (i.Email == "" || i.Email == data.SignedIn)
	if i.Account != "" && !i.Registers {
		if a, err := find[struct{ Name string }](v, "accounts/"+i.Account); err == nil {
			data.Account = a.Name
		}
	}
	return v.show("invite", "", "You are invited", data)
}

// accept accepts an invitation with a password.
func (v *visit) accept() error {
	form := v.r.PostForm
	profile := people.Profile{Email: form.Get("email"), Name: form.Get("name")}
	_, token, err := v.people.AcceptWithPassword(v.ctx, clientOf(v.r), v.r.PathValue("secret"), profile, form.Get("password"))
	if err != nil {
		return err
	}
	v.setCookie(token)
	return v.done("registered")
}

func (v *visit) beginAccept() error {
	var profile people.Profile
	if err := json.NewDecoder(v.r.Body).Decode(&profile); err != nil {
		return &failure{http.StatusBadRequest, "The form could not be read", "Reload the page, and try again."}
	}
	return v.begun(v.people.BeginPasskey(v.ctx, clientOf(v.r), v.r.PathValue("secret"), profile))
}

func (v *visit) finishAccept() error {
	response, err := v.passkeyResponse()
	if err != nil {
		return err
	}
	_, token, err := v.people.FinishPasskey(v.ctx, clientOf(v.r), v.readCookie(ceremonyCookie), response, "")
	return v.finished(token, v.c.path()+"?done=registered", err)
}

// join accepts an invitation for the person that is signed in.
func (v *visit) join() error {
	if _, err := v.people.Accept(v.ctx, v.who, v.r.PathValue("secret")); err != nil {
		return err
	}
	return v.done("registered")
}
