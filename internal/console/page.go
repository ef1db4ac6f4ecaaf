package console

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/format"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/people"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// pages has the templates of the pages, by the name of the file without ".html".
type pages map[string]*template.Template

// parsePages parses the templates. Each page defines the blocks that layout.html
// includes.
func (c *Console) parsePages() (pages, error) {
	layout, err := template.New("layout.html").Funcs(c.functions()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := make(pages)
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		page, err := template.Must(layout.Clone()).ParseFS(templateFiles, file)
		if err != nil {
			return nil, err
		}
		all[name] = page
	}
	return all, nil
}

// functions returns the functions that the templates can call.
func (c *Console) functions() template.FuncMap {
	all := format.Functions(c.o.Currency, c.o.Now)
	all["path"] = c.path
	all["asset"] = func(name string) string { return c.base + "/assets/" + name }
	all["booking"] = newBooking
	all["iskey"] = func(id string) bool { return strings.HasPrefix(id, keyPrefix) } // the subjects of other issuers have no pages
	all["accountID"] = accountID
	all["invitations"] = func(rows any, token, account string) openInvitations {
		return openInvitations{rows, token, account}
	}
	return all
}

// openInvitations is the data of the template "invitations". The rows are
// ops.InvitationView, or people.Invitation on the pages of members. Account is "" on
// pages that do not concern one account.
type openInvitations struct {
	Rows           any
	Token, Account string
}

func accountID(a *admin.AccountView) string {
	if a == nil {
		return ""
	}
	return a.ID
}

// page is the data of layout.html.
type page struct {
	Title    string
	Path     string // path of the request, without the query
	Section  string // the current entry of the menu
	Account  *admin.AccountView
	Person   *people.Person // nil if nobody is signed in
	Operator bool
	Manages  bool // whether the visitor may change the keys of Account
	Accounts []accountLink
	Token    string // token for forms; see visit.formToken
	Currency string
	Version  string
	Notice   string   // said once after a change
	Problem  *failure // the reason why the form of the page was refused; nil otherwise
	Data     any
	Refresh  bool // browsers without scripts load the page again after some seconds
	refusal  *refusal
}

// accountLink is an account in the menu of a member.
type accountLink struct{ ID, Name string }

// notices maps the values of the URL's parameter "done" to the texts that a page can
// show after a redirect. The list is fixed, so that a link cannot put another text on a
// page.
var notices = map[string]string{
	"credited":     "The account was credited.",
	"adjusted":     "The balance was adjusted.",
	"limits":       "The limits were changed.",
	"created":      "The account was created.",
	"key":          "The key was changed.",
	"disabled":     "The key is disabled: calls with it are refused.",
	"enabled":      "The key is enabled: calls with it are accepted again.",
	"deleted":      "The key is deleted: calls with it are refused from now on.",
	"device":       "The device is connected.",
	"nodevice":     "The device was refused.",
	"revoked":      "The app is disconnected: calls with its tokens are refused from now on.",
	"refunded":     "The charge was refunded.",
	"alerts":       "The alerts were changed.",
	"password":     "The password was changed. All other sessions were ended.",
	"passkey":      "The passkey was added.",
	"unpasskey":    "The passkey was removed.",
	"connected":    "The provider is connected: you can sign in with it.",
	"disconnected": "The provider is disconnected.",
	"session":      "The session was ended.",
	"signedout":    "You are signed out.",
	"person":       "The person was changed.",
	"removed":      "The person was removed.",
	"withdrawn":    "The invitation was withdrawn: its link no longer works.",
	"registered":   "Welcome. Your account is ready.",
}

// show renders a page of the visitor. If the page shows a form that was refused, the
// response has the status of the problem.
func (v *visit) show(name, section, title string, data any) error {
	status := http.StatusOK
	p := page{
		Title: title, Path: v.r.URL.EscapedPath(), Section: section, Operator: v.operator(), Token: v.formToken(), Currency: v.c.o.Currency,
		Version: v.c.o.Version, Notice: notices[v.r.URL.Query().Get("done")], Data: data, Refresh: v.refresh,
	}
	if v.refusal != nil {
		status, p.Problem, p.refusal = v.refusal.problem.Status, v.refusal.problem, v.refusal
	}
	if v.token != "" {
		p.Person = &v.who.Person
		p.Accounts = v.links()
	}
	if v.account != "" {
		if a, err := v.accountView(); err == nil && (v.operator() || v.role(a.ID) != "") {
			p.Account, p.Manages = a, v.manages(a.ID)
		}
	}
	return v.c.render(v.w, status, name, &p)
}

// links returns the accounts in a member's menu. An operator's menu has no accounts.
func (v *visit) links() (all []accountLink) {
	if v.operator() {
		return nil
	}
	for _, m := range v.who.Person.Accounts {
		link := accountLink{m.Account, m.Account}
		if a, err := find[admin.AccountView](v, "accounts/"+m.Account); err == nil {
			link.Name = a.Name
		}
		all = append(all, link)
	}
	return all
}

// render renders a page into memory first, so that an error does not leave an
// incomplete page.
func (c *Console) render(w http.ResponseWriter, status int, name string, p *page) error {
	var out bytes.Buffer
	if err := c.pages[name].ExecuteTemplate(&out, "layout.html", p); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	content := out.Bytes()
	if p.refusal != nil {
		var err error
		if content, err = p.refusal.Fill(content); err != nil {
			return fmt.Errorf("page %s: %w", name, err)
		}
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(content) // fails only if the client has left
	return nil
}

// done redirects the browser to another page after a change. The page shows the notice.
// The browser requests that page by GET, so that a reload does not repeat the change.
func (v *visit) done(notice string, segments ...string) error {
	target := v.c.path(segments...)
	if notice != "" {
		target += "?done=" + url.QueryEscape(notice)
	}
	http.Redirect(v.w, v.r, target, http.StatusSeeOther)
	return nil
}

// path returns the URL path of a page.
func (c *Console) path(segments ...string) string {
	var b strings.Builder
	b.WriteString(c.base)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	if len(segments) == 0 {
		b.WriteByte('/')
	}
	return b.String()
}

// statusOf maps the code of a refused operation to the status of the page.
var statusOf = map[admin.Code]int{
	admin.Invalid: http.StatusBadRequest, admin.NotFound: http.StatusNotFound, admin.Exists: http.StatusConflict,
	admin.Conflict: http.StatusConflict, admin.Unavailable: http.StatusServiceUnavailable, admin.Forbidden: http.StatusForbidden,
}

// explain returns the failure that is shown for an error. An error that is not meant
// for persons is logged, and the failure does not reveal its cause.
func (c *Console) explain(err error) *failure {
	var known *failure
	var refused *admin.Error
	var delay *people.DelayError
	var input *people.InputError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused) && statusOf[refused.Code] != 0:
		return &failure{statusOf[refused.Code], titleOf[refused.Code], sentence(refused.Message)}
	case errors.As(err, &delay):
		return &failure{http.StatusTooManyRequests, "Too many attempts", "Wait " + format.Duration(delay.Wait) + ", and try again."}
	case errors.As(err, &input):
		return &failure{http.StatusBadRequest, "This cannot be used", sentence(input.Message)}
	case errors.Is(err, ledger.ErrUnavailable):
		return errUnavailable
	}
	for _, m := range messages {
		if errors.Is(err, m.err) {
			return &m.failure
		}
	}
	c.o.Logger.Error("a page of the console failed", "error", err)
	return &failure{http.StatusInternalServerError, "The page could not be made", "The server's log says why. Reload the page to try again."}
}

// messages are the failures that are shown for errSignIn and for the errors of package
// people.
var messages = []struct {
	err     error
	failure failure
}{
	{errSignIn, failure{http.StatusUnauthorized, "Your session has ended", "Sign in again, and repeat what you did."}},
	{people.ErrCredentials, failure{http.StatusUnauthorized, "The e-mail address or the password is wrong", "Try again. If you have forgotten the password, ask the operator for a new invitation."}},
	{people.ErrInvitation, failure{http.StatusGone, "This invitation no longer works", "It was used, withdrawn, or is too old. Ask for a new one."}},
	{people.ErrPasskey, failure{http.StatusUnauthorized, "The passkey was not accepted", "Try again with another passkey, or with your password."}},
	{people.ErrCeremony, failure{http.StatusBadRequest, "This took too long", "Go back and begin again."}},
	{people.ErrStale, failure{http.StatusForbidden, "Sign in again first", "To change how you sign in, sign out, sign in again, and do it within ten minutes."}},
	{people.ErrLastCredential, failure{http.StatusConflict, "This is your only way to sign in", "Add another passkey or a password first."}},
	{people.ErrEmailTaken, failure{http.StatusConflict, "This e-mail address is taken", "If it is yours, sign in and open the link again. Otherwise use another address."}},
	{people.ErrNoPasskeys, failure{http.StatusConflict, "Passkeys are not available", "Use a password instead."}},
	{people.ErrNoProvider, failure{http.StatusServiceUnavailable, "The sign-in provider is not available", "Try again in a moment, or sign in with a passkey or a password."}},
	{people.ErrProvider, failure{http.StatusForbidden, "The provider's user was not accepted", "Ask the operator whether your address or group is allowed here."}},
	{people.ErrRegistration, failure{http.StatusForbidden, "You cannot register here", "Registration is closed, or the code or the e-mail address is not accepted. Ask the operator for an invitation."}},
}

var titleOf = map[admin.Code]string{
	admin.Invalid: "This cannot be done as asked", admin.NotFound: "Not found", admin.Exists: "It exists already",
	admin.Conflict: "This was done already", admin.Unavailable: "The store cannot answer now", admin.Forbidden: "You may not do this",
}

// sentence turns the message of an operation into a sentence. Names of command flags
// lose their dashes, and then match the fields of the form.
func sentence(s string) string {
	s = strings.ReplaceAll(s, "--", "")
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// refuse shows an error as a page, or redirects to the sign-in. The visit v is nil if
// the error came before the visit began.
func (c *Console) refuse(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	if errors.Is(err, errSignIn) && !wantsJSON(r) {
		target := c.path("signin")
		if r.Method == http.MethodGet {
			target += "?to=" + url.QueryEscape(r.URL.RequestURI())
		}
		if r.Header.Get("HX-Request") != "" {
			w.Header().Set("HX-Redirect", target) // htmx loads the sign-in as a whole page; after an ordinary redirect, htmx would replace only the list
			return
		}
		http.Redirect(w, r, target, http.StatusSeeOther)
		return
	}
	f := c.explain(err)
	if wantsJSON(r) {
		writeJSON(w, f.Status, map[string]string{"error": f.Title + ". " + f.Detail})
		return
	}
	p := page{Title: f.Title, Currency: c.o.Currency, Version: c.o.Version, Data: f.Detail}
	if v != nil && v.token != "" {
		p.Person, p.Operator, p.Accounts, p.Token = &v.who.Person, v.operator(), v.links(), v.formToken()
	}
	if err := c.render(w, f.Status, "error", &p); err != nil {
		c.o.Logger.Error("a page of the console failed", "error", err)
	}
}
