package server

import (
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
)

// deviceResponse is the body of the response to a device authorization request (RFC 8628,
// section 3.2).
type deviceResponse struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int64  `json:"expires_in"`
	Interval   int64  `json:"interval"`
}

// deviceAuthorization serves the device authorization endpoint.
func (x *exchange) deviceAuthorization() error {
	form, c, err := x.authenticate()
	if err != nil {
		return err
	}
	if err := x.checkResource(form); err != nil {
		return err
	}
	if !c.HasGrant(client.GrantDevice) {
		return oauth.Refuse(oauth.UnauthorizedClient, "the client's metadata do not list the grant type %s", client.GrantDevice)
	}
	if wait := x.tooSoon(); wait > 0 {
		return &client.Error{Code: client.TooMany, Reason: "too many devices begin from this address: try again later", Wait: wait}
	}
	r := x.newRequest(c.Client, x.issuer.scopesOf(form))
	d, err := x.OAuth().BeginDevice(x.r.Context(), oauth.Authorization{Client: c.ID, Server: x.issuer.Server, Scopes: r.Scopes, ClientName: c.Name, Host: c.Host()})
	if err != nil {
		return err
	}
	x.json(http.StatusOK, deviceResponse{
		DeviceCode: d.DeviceCode, UserCode: d.UserCode, URI: x.issuer.at("/device"), Complete: x.issuer.at("/device") + "?user_code=" + d.UserCode,
		ExpiresIn: int64(oauth.DeviceLife / time.Second), Interval: int64(oauth.PollEvery / time.Second),
	})
	return nil
}

// device serves the page where a person enters the code that a device shows. The person
// must confirm a code that came in the URL, because the URL may come from somebody else
// (RFC 8628, section 5.4).
func (x *exchange) device() error {
	if x.r.Method != http.MethodPost {
		x.ensureBrowser()
		return x.codePage(http.StatusOK, x.r.URL.Query().Get("user_code"), "")
	}
	form, err := x.form()
	if err != nil {
		return err
	}
	browser := x.browser()
	if browser == "" || !x.sameOrigin() {
		return x.problemPage(http.StatusBadRequest, sentence(errOtherBrowser))
	}
	code := form.Get("user_code")
	if wait := x.tooSoon(); wait > 0 {
		x.retryAfter(wait)
		return x.codePage(http.StatusTooManyRequests, code, "Too many codes came from your network. Try again in a minute.")
	}
	a, err := x.OAuth().DeviceOf(x.r.Context(), code)
	if err == nil && a.Server != x.issuer.Server {
		err = oauth.Refuse(oauth.ExpiredToken, "no device waits for this code: check the code, or begin again at the device")
	}
	if err != nil {
		if oauth.CodeOf(err) == oauth.Unavailable {
			return err
		}
		return x.codePage(http.StatusUnprocessableEntity, code, sentence(err))
	}
	return x.keyPage(&Request{
		Server: a.Server, Client: a.Client, ClientName: a.ClientName, ClientHost: a.Host, Scopes: a.Scopes, UserCode: code, Ends: x.o.Now().Add(requestLife).Unix(),
	}, browser, http.StatusOK, "")
}

// sameOrigin reports whether a form was sent by a page of the issuer's own host. Browsers
// say so in a header that pages cannot set.
func (x *exchange) sameOrigin() bool {
	switch x.r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		origin := x.r.Header.Get("Origin")
		return origin == "" || origin == x.issuer.URL.Scheme+"://"+x.issuer.URL.Host
	}
	return false
}

// The rate of user codes and of new devices of one network. A guesser with a thousand
// networks needs years for the codes that wait at one time.
const (
	codeEvery = 6 * time.Second
	codeBurst = 10
)

// tooSoon returns how long the network of the client must wait with a user code or a new
// device, 0 if it need not wait.
func (x *exchange) tooSoon() time.Duration {
	return x.codes.Take(fetch.Network(x.source), x.o.Now())
}
