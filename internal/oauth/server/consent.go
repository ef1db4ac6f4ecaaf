package server

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
)

// consent receives the two forms of the consent page: first the agent key that pays, then
// the decision. The seal of the request holds for the browser's cookie only, so another
// browser's request cannot be continued. Only a page of the issuer's own host may send
// the forms, also if another site has learned the seal.
func (x *exchange) consent() error {
	form, err := x.form()
	if err != nil {
		return err
	}
	if !x.sameOrigin() {
		return x.problemPage(http.StatusBadRequest, "The form was sent by a page of another site. Go back to the app and connect again.")
	}
	browser := x.browser()
	request, err := x.unseal(form.Get("request"), forBrowser, browser)
	if err != nil || browser == "" {
		return x.problemPage(http.StatusBadRequest, sentence(cmp.Or(err, errOtherBrowser)))
	}
	switch form.Get("step") {
	case "key":
		return x.takeKey(request, browser, form.Get("key"))
	case "allow":
		return x.allow(request, browser, form)
	case "deny":
		return x.deny(request)
	}
	return x.problemPage(http.StatusBadRequest, "The page has sent a form that is not known.")
}

var errOtherBrowser = oauth.Refuse(oauth.InvalidRequest, "this browser does not keep cookies, which are needed here")

// takeKey looks the agent key up, and shows the page with the decision.
func (x *exchange) takeKey(request *Request, browser, secret string) error {
	key, err := x.payer(strings.TrimSpace(secret))
	if err != nil {
		problem, ok := keyProblem(err)
		if !ok {
			return err
		}
		return x.keyPage(request, browser, http.StatusUnprocessableEntity, problem)
	}
	request.Key = key.ID
	return x.decisionPage(request, browser, key, http.StatusOK, "")
}

// payer returns the key with the secret if it can pay for calls of the issuer's server.
func (x *exchange) payer(secret string) (*keys.Key, error) {
	found, err := x.Payer(x.r.Context(), x.source, secret)
	if err != nil {
		return nil, err
	}
	return x.checkPayer(found.ID)
}

func (x *exchange) checkPayer(id string) (*keys.Key, error) {
	key, err := x.OAuth().CheckPayer(x.r.Context(), id, x.issuer.Server)
	if err != nil {
		return nil, err
	}
	if len(x.issuer.Environments) > 0 && !slices.Contains(x.issuer.Environments, key.Environment) {
		return nil, oauth.Refuse(oauth.AccessDenied, "this server does not admit keys of the environment %s", key.Environment)
	}
	return &key, nil
}

// keyProblem returns the reason why a key is refused, for its holder. The bool is false if
// the error is a failure.
func keyProblem(err error) (string, bool) {
	switch {
	case errors.Is(err, keys.ErrUnknown), errors.Is(err, keys.ErrMalformed):
		return "There is no such key. Copy the whole key: it begins with a prefix such as sk_live_.", true
	case errors.Is(err, gate.ErrFlood):
		return "Too many wrong keys came from your network. Try again in a minute.", true
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		return sentence(e), true
	}
	return "", false
}

// sentence returns the description of an *oauth.Error as a sentence for a page.
func sentence(err error) string {
	e, ok := errors.AsType[*oauth.Error](err)
	if !ok {
		return "Something went wrong."
	}
	return strings.ToUpper(e.Description[:1]) + e.Description[1:] + "."
}

// offered returns the scopes that the key can give: all scopes of the issuer that the key
// has, by name or included in another one.
func (x *exchange) offered(key *keys.Key) (scopes []Scope) {
	held := x.o.Scopes.Expand(key.Scopes)
	for _, s := range x.issuer.Scopes {
		if slices.Contains(held, s.Name) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// allow stores the grant and sends the browser back to the client with a code.
func (x *exchange) allow(request *Request, browser string, form url.Values) error {
	key, err := x.checkPayer(request.Key)
	if err != nil {
		problem, ok := keyProblem(err)
		if !ok {
			return err
		}
		return x.keyPage(request, browser, http.StatusUnprocessableEntity, problem)
	}
	consent, err := x.decision(request, key, form)
	if err != nil {
		return x.decisionPage(request, browser, key, http.StatusUnprocessableEntity, sentence(err))
	}
	grant, err := x.OAuth().Approve(x.r.Context(), x.actor(key.ID), consent)
	if err != nil {
		if problem, ok := keyProblem(err); ok {
			return x.decisionPage(request, browser, key, http.StatusUnprocessableEntity, problem)
		}
		return err
	}
	x.used(x.r.Context(), x.source, request.Client)
	return x.finish(request, &grant)
}

// finish gives the grant to the client of the request.
func (x *exchange) finish(request *Request, grant *oauth.Grant) error {
	if request.UserCode != "" {
		if err := answerDevice(x.r.Context(), x.Backend, x.actor(request.Key), request.UserCode, grant); err != nil {
			return x.problemPage(http.StatusUnprocessableEntity, sentence(err))
		}
		return x.donePage("The device is connected. You can close this page.")
	}
	code, err := x.OAuth().IssueCode(x.r.Context(), grant, request.forCode())
	if err != nil {
		return err
	}
	x.redirect(request.Redirect, request.State, url.Values{"code": {code}})
	return nil
}

func (x *exchange) deny(request *Request) error {
	if request.UserCode != "" {
		if err := x.OAuth().AnswerDevice(x.r.Context(), request.UserCode, "", nil); err != nil {
			return x.problemPage(http.StatusUnprocessableEntity, sentence(err))
		}
		return x.donePage("The device was refused. You can close this page.")
	}
	x.redirect(request.Redirect, request.State, url.Values{"error": {string(oauth.AccessDenied)}, "error_description": {"the person refused"}})
	return nil
}

// decision reads the form of the decision.
func (x *exchange) decision(request *Request, key *keys.Key, form url.Values) (oauth.Consent, error) {
	c := oauth.Consent{
		Client: request.Client, ClientName: request.ClientName, Host: request.Target(), Server: request.Server, Key: key.ID,
	}
	for _, s := range x.offered(key) {
		if form.Get("scope."+s.Name) != "" {
			c.Scopes = append(c.Scopes, s.Name)
		}
	}
	limits, err := capOf(form.Get("cap"))
	if err != nil {
		return c, err
	}
	c.Limits = limits
	if days := form.Get("ends"); days != "" {
		life, err := clock.ParseDuration(days)
		if err != nil || life <= 0 || life > maxLife {
			return c, oauth.Refuse(oauth.InvalidRequest, "the end is not one of those on the page")
		}
		c.ExpiresAt = x.o.Now().Add(life)
	}
	return c, nil
}

// maxLife bounds the end of a grant that a person chooses.
const maxLife = 10 * 365 * 24 * time.Hour

// capOf returns the limits with a monthly cap, nil for none.
func capOf(text string) (*keys.Limits, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	amount, err := ledger.ParseAmount(text)
	if err != nil || amount <= 0 {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the cap is not an amount above zero, such as 5.00")
	}
	return &keys.Limits{Month: int64(amount)}, nil
}
