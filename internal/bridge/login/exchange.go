package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/tokens"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// RefusalError is an error of the authorization server (RFC 6749, section 5.2). A
// repetition of the request would get the same.
type RefusalError struct{ Code, Description string }

func (e *RefusalError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + " (" + e.Description + ")"
}

func refusalOf(code, description string) *RefusalError {
	return &RefusalError{Code: clip(code), Description: clip(description)}
}

// temporary has the error codes after which a repetition makes sense.
var temporary = map[string]bool{"temporarily_unavailable": true, "server_error": true, "slow_down": true}

// exchange gets the first tokens for a code (RFC 6749, section 4.1.3).
func (s *Source) exchange(ctx context.Context, g *tokens.Grant, code, verifier, redirect string) (*tokens.Grant, error) {
	next, err := s.token(ctx, g, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect},
	})
	if err != nil {
		return nil, fmt.Errorf("get a token from %s: %w", g.Issuer, err)
	}
	return next, nil
}

// refresh gets the next tokens of a grant (RFC 6749, section 6). The old refresh token
// may be used up, even if no response came.
func (s *Source) refresh(ctx context.Context, g *tokens.Grant) (*tokens.Grant, error) {
	// A caller that leaves must not interrupt the request: its response has the only
	// refresh token that is good from then on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
	defer cancel()
	return s.token(ctx, g, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.RefreshToken}})
}

// issued is the response of a token endpoint.
type issued struct {
	Access    string      `json:"access_token"`
	Type      string      `json:"token_type"`
	ExpiresIn json.Number `json:"expires_in"`
	Refresh   string      `json:"refresh_token"`
	Scope     string      `json:"scope"`
}

// token makes a token request. The error is a *RefusalError if the grant is no longer
// good.
func (s *Source) token(ctx context.Context, g *tokens.Grant, form url.Values) (*tokens.Grant, error) {
	form.Set("resource", g.Resource)
	asked := s.o.Now()
	status, body, err := s.post(ctx, g, g.TokenEndpoint, form)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, refused(status, body)
	}
	var got issued
	if json.Unmarshal(body, &got) != nil || !isToken(got.Access) || !isToken(got.Refresh) && got.Refresh != "" {
		return nil, errors.New("the response has no token that can be sent")
	}
	if !strings.EqualFold(got.Type, "Bearer") {
		return nil, fmt.Errorf("the tokens are of the type %.40q: only Bearer can be sent", got.Type)
	}
	next := *g
	next.AccessToken, next.Expires, next.Renew = got.Access, time.Time{}, time.Time{}
	if got.Refresh != "" {
		next.RefreshToken = got.Refresh
	}
	if seconds, err := got.ExpiresIn.Int64(); err == nil && seconds > 0 {
		life := time.Duration(min(seconds, maxLife)) * time.Second
		next.Expires, next.Renew = asked.Add(life), asked.Add(life-min(early, life/4))
	}
	if got.Scope != "" {
		next.Scopes = strings.Fields(got.Scope)
	}
	return &next, nil
}

// maxLife bounds the lifetime of a token in seconds.
const maxLife = 10 * 365 * 24 * 3600

// refused returns the error of a response without tokens. Only an error that RFC 6749
// defines ends a grant: a proxy's page says nothing about it.
func refused(status int, body []byte) error {
	var problem struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if status/100 == 4 && json.Unmarshal(body, &problem) == nil && problem.Code != "" && !temporary[problem.Code] {
		return refusalOf(problem.Code, problem.Description)
	}
	return fmt.Errorf("the status is %d", status)
}

// revoke ends a grant at its issuer (RFC 7009).
func (s *Source) revoke(ctx context.Context, g *tokens.Grant) error {
	if g.RevocationEndpoint == "" {
		return fmt.Errorf("%s has no endpoint for that", g.Issuer)
	}
	form := url.Values{"token": {g.RefreshToken}, "token_type_hint": {"refresh_token"}}
	if g.RefreshToken == "" {
		form = url.Values{"token": {g.AccessToken}, "token_type_hint": {"access_token"}}
	}
	status, body, err := s.post(ctx, g, g.RevocationEndpoint, form)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return refused(status, body)
	}
	return nil
}

// post sends a form to an endpoint of the authorization server, with the client's
// authentication.
func (s *Source) post(ctx context.Context, g *tokens.Grant, endpoint string, form url.Values) (status int, body []byte, err error) {
	if err := s.check(endpoint); err != nil {
		return 0, nil, err
	}
	basic := g.ClientAuth == "client_secret_basic"
	if !basic {
		form.Set("client_id", g.ClientID)
		if g.ClientSecret != "" {
			form.Set("client_secret", g.ClientSecret)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, errors.New("the endpoint is no address")
	}
	r.GetBody = nil // otherwise the transport may send the request twice
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	if basic {
		r.SetBasicAuth(url.QueryEscape(g.ClientID), url.QueryEscape(g.ClientSecret))
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return 0, nil, weburl.Cause(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return 0, nil, weburl.Cause(err)
	}
	return resp.StatusCode, body, nil
}

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// isToken reports whether a text can be sent as a token in a header (RFC 6750, 2.1).
func isToken(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return text != "" && len(text) <= maxToken
}

// clip returns the beginning of a stranger's text for people, without control characters.
func clip(text string) string {
	const most = 300
	text = strings.Map(func(r rune) rune {
		if r < ' ' || 0x7F <= r && r < 0xA0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text[:min(len(text), most)], ""))
	return strings.TrimSpace(text)
}
