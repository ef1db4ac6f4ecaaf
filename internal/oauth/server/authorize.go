package server

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
)

// maxState bounds the parameter state in bytes.
const maxState = 2048

// authorize serves the authorization endpoint: it checks the request of a client and shows
// the consent page. Mistakes in client_id and redirect_uri are shown to the person; the
// browser is sent nowhere then (RFC 6749, section 4.1.2.1). Other mistakes go to the
// client.
func (x *exchange) authorize() error {
	form, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return x.problemPage(http.StatusBadRequest, "The app has sent a request that cannot be read.")
	}
	if err := once(form); err != nil {
		return x.problemPage(http.StatusBadRequest, "The app has sent a request with a parameter twice.")
	}
	clients, err := x.o.Clients()
	if err != nil {
		return err
	}
	c, err := clients.Find(x.r.Context(), x.source, form.Get("client_id"))
	if err != nil {
		return x.clientProblem(err)
	}
	redirect, err := c.Redirect(form.Get("redirect_uri"))
	if err != nil {
		return x.clientProblem(err)
	}
	request, err := x.read(form, c, redirect)
	if err != nil {
		x.redirectError(redirect, form.Get("state"), err)
		return nil
	}
	return x.keyPage(request, x.ensureBrowser(), http.StatusOK, "")
}

// clientProblem shows why the request of a client is refused.
func (x *exchange) clientProblem(err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	if e.Wait > 0 {
		x.retryAfter(e.Wait)
	}
	status := e.Status()
	if status == http.StatusUnauthorized {
		status = http.StatusBadRequest // a person reads the page, and cannot authenticate the client
	}
	return x.problemPage(status, "This server cannot connect the app: "+e.Reason+".")
}

// read returns the request of a client, or an *oauth.Error.
func (x *exchange) read(form url.Values, c *client.Client, redirect string) (*Request, error) {
	switch {
	case len(form.Get("state")) > maxState:
		return nil, oauth.Refuse(oauth.InvalidRequest, "state has more than %d bytes", maxState)
	case form.Get("request") != "" || form.Get("request_uri") != "":
		return nil, oauth.Refuse(oauth.InvalidRequest, "request objects are not supported")
	case form.Get("response_type") != "code":
		return nil, oauth.Refuse(oauth.UnsupportedType, "response_type: want code")
	case form.Get("response_mode") != "" && form.Get("response_mode") != "query":
		return nil, oauth.Refuse(oauth.InvalidRequest, "response_mode: want query")
	case form.Get("code_challenge") == "":
		return nil, oauth.Refuse(oauth.InvalidRequest, "code_challenge is missing: PKCE is required (RFC 7636)")
	case form.Get("code_challenge_method") != "S256":
		return nil, oauth.Refuse(oauth.InvalidRequest, "code_challenge_method: want S256")
	case !oauth.ChallengeForm.MatchString(form.Get("code_challenge")):
		return nil, oauth.Refuse(oauth.InvalidRequest, "code_challenge is not a SHA-256 in base64url without padding")
	case form.Get("prompt") == "none":
		return nil, oauth.Refuse("interaction_required", "a person must decide")
	}
	if err := x.checkResource(form); err != nil {
		return nil, err
	}
	r := x.newRequest(c, x.issuer.scopesOf(form))
	r.Implied = form.Get("redirect_uri") == ""
	r.Redirect, r.State, r.Challenge = redirect, form.Get("state"), form.Get("code_challenge")
	return r, nil
}

// newRequest returns a request of the client. Without scopes it has the issuer's default
// scopes.
func (x *exchange) newRequest(c *client.Client, scopes []string) *Request {
	if len(scopes) == 0 {
		scopes = x.issuer.Default
	}
	return &Request{
		Server: x.issuer.Server, Client: c.ID, ClientName: c.Name, ClientHost: c.Host(), Scopes: scopes, Ends: x.o.Now().Add(requestLife).Unix(),
	}
}

// redirectError sends the browser back to the client with an error.
func (x *exchange) redirectError(uri, state string, err error) {
	code, description := oauth.ServerError, "the request cannot be served now"
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		code, description = e.Code, e.Description
	}
	if len(state) > maxState {
		state = ""
	}
	x.redirect(uri, state, url.Values{"error": {string(code)}, "error_description": {description}})
}
