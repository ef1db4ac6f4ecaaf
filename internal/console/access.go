package console

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/people"
)

// need is the condition that a visitor must meet to use a route.
type need uint8

const (
	anybody   need = iota + 1 // everyone, even without a session
	signedIn                  // every person that is signed in; for pages about the person itself
	reader                    // an operator, or a member of the route's account
	owner                     // an operator, or an owner of the route's account
	operators                 // an operator
)

// object is the kind of thing that the {id} in a route's path identifies. The
// account of that thing is the route's account.
type object uint8

const (
	noObject object = iota
	anAccount
	aKey
	aCharge
	aGrant
)

// visit is a request to the console, with the state that the route's function needs.
type visit struct {
	c       *Console
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	route   *route
	people  *people.Service
	release func()
	now     time.Time

	who     people.SignedIn
	token   string             // secret of the session; "" without a session
	account string             // id of the route's account; "" if the route has none
	view    *admin.AccountView // the route's account, after it was read; see accountView
	key     *admin.KeyView
	charge  *admin.ChargeView
	grant   *ops.GrantView
	refresh bool     // the page changes by itself, so that browsers without scripts load it again
	refusal *refusal // nil unless the page shows a form that was refused
}

// operator reports whether the visitor is an operator.
func (v *visit) operator() bool { return v.who.Person.Operator }

// role returns the visitor's role at the account, or "" if the visitor is not a member.
func (v *visit) role(account string) people.Role {
	return v.who.Person.Role(account)
}

// manages reports whether the visitor may change the account's keys. On the routes of
// one key, the key must also be of a kind in memberKinds, unless the visitor is an
// operator. The other kinds act for the operator or for a server, even if they belong
// to the account. By rotating such a key, an owner would get a secret with the key's
// rights.
func (v *visit) manages(account string) bool {
	if v.operator() {
		return true
	}
	return v.role(account) == people.Owner && (v.key == nil || slices.Contains(memberKinds, v.key.Kind))
}

// admit finds the visitor's session and decides whether the visitor may use the route.
// No other function decides about access. A thing of another account gets the same
// error as a thing that does not exist, so that nobody learns which ids exist.
func (v *visit) admit() error {
	if err := v.findSession(); err != nil {
		return err
	}
	if v.route.need == anybody {
		return nil
	}
	if v.token == "" {
		return errSignIn
	}
	if v.r.Method == http.MethodPost && !hmac.Equal([]byte(v.sentToken()), []byte(v.formToken())) {
		return errStale
	}
	switch v.route.need {
	case signedIn:
		return nil
	case operators:
		if !v.operator() {
			return errNotFound
		}
	}
	if err := v.findObject(); err != nil {
		return err
	}
	switch {
	case v.operator():
		return nil
	case v.account == "" || v.role(v.account) == "" && !v.earned():
		return errNotFound
	case v.route.need == owner && !v.manages(v.account):
		return errForbidden
	}
	return nil
}

// findSession looks up the session in the request's cookie, if there is one.
func (v *visit) findSession() error {
	token := v.readCookie(sessionCookie)
	if token == "" {
		return nil
	}
	in, err := v.people.Authenticate(v.ctx, clientOf(v.r), token)
	if errors.Is(err, people.ErrSession) {
		v.dropCookie()
		return nil
	}
	if err != nil {
		return err
	}
	v.who, v.token = in, token
	return nil
}

// findObject reads the thing that the path identifies, and its account.
func (v *visit) findObject() error {
	id := v.r.PathValue("id")
	switch v.route.object {
	case anAccount:
		a, err := find[admin.AccountView](v, "accounts/"+pathSegment(id))
		if err != nil {
			return err
		}
		v.view, v.account = a, a.ID
	case aKey:
		k, err := find[admin.KeyView](v, "keys/"+pathSegment(id))
		if err != nil {
			return err
		}
		v.key, v.account = k, k.Account
	case aCharge:
		ch, err := find[admin.ChargeView](v, "charges/"+pathSegment(id))
		if err != nil {
			return err
		}
		v.charge, v.account = ch, ch.Account
	case aGrant:
		g, err := find[ops.GrantView](v, "grants/"+pathSegment(id))
		if err != nil {
			return err
		}
		v.grant, v.account = g, g.Account
	}
	return nil
}

// pathSegment escapes a text from a form or a URL as one segment of an operation's
// path. If the text is empty, it returns "-", because no thing has this name. An empty
// segment would address the list instead.
func pathSegment(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return "-"
	}
	return url.PathEscape(s)
}

// find reads the thing at the path of an operation, so that admit learns the thing's
// account. It uses the right View instead of the visitor's rights, because these depend
// on that account.
func find[T any](v *visit, path string) (*T, error) {
	out, err := perform[T](v, identity.View, http.MethodGet, path, nil, nil)
	var refused *admin.Error
	if errors.As(err, &refused) && (refused.Code == admin.NotFound || refused.Code == admin.Invalid) {
		return nil, errNotFound
	}
	return out, err
}

// accountView returns the route's account. It reads the account once per request.
func (v *visit) accountView() (*admin.AccountView, error) {
	if v.view != nil {
		return v.view, nil
	}
	var err error
	v.view, err = perform[admin.AccountView](v, identity.View, http.MethodGet, "accounts/"+v.account, nil, nil)
	return v.view, err
}

// earned reports whether the route is about a charge and the visitor is a member of the
// account that earned it.
func (v *visit) earned() bool { return v.charge != nil && v.role(v.charge.Provider) != "" }

// rights returns the rights with which operations of the visitor are performed.
func (v *visit) rights() identity.Right {
	switch {
	case v.operator():
		return identity.Operator
	case v.manages(v.account):
		return identity.View | identity.ManageKeys | identity.ManageAlerts
	}
	return identity.View
}

// formToken is the name of the form field with the token against cross-site request
// forgery.
const formToken = "token"

// tokenHeader is the header with the same token in requests of scripts.
const tokenHeader = "X-Farebox-Token"

func (v *visit) sentToken() string {
	return cmp.Or(v.r.PostForm.Get(formToken), v.r.Header.Get(tokenHeader))
}

// formToken returns the token that forms must contain. It is derived from the session's
// secret, so that another site cannot know it.
func (v *visit) formToken() string {
	if v.token == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(v.token))
	mac.Write([]byte("farebox console form"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
