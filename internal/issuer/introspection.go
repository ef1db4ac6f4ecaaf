package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/keys"
)

const (
	// introspectionTime is the time for which the issuer's answer about a token is used.
	// A token that the issuer revokes is dead after it.
	introspectionTime = 30 * time.Second
	// inactiveTime is the time for which a token that is not active is remembered.
	inactiveTime = 10 * time.Second
	// maxIntrospections bounds the requests to one issuer that are in flight.
	maxIntrospections = 64
	// warnEvery is the shortest time between two warnings about an issuer.
	warnEvery = time.Minute
)

// errInactive reports that the issuer does not know a token, or has ended it.
var errInactive = &invalidError{"its issuer says that it is not active"}

var errBusy = errors.New("too many requests to it are in flight")

// introspect asks the issuer about an opaque token (RFC 7662). Requests about the same
// token share one question.
func (s *Source) introspect(ctx context.Context, token string, digest keys.Digest, audiences []string) (*facts, error) {
	answer := s.asking.DoChan(string(digest[:]), func() (any, error) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			return nil, errBusy
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
		defer cancel()
		c, err := s.ask(ctx, token)
		s.o.Metrics.IssuerFetched("introspection", err == nil)
		return c, err
	})
	select {
	case <-ctx.Done():
		return nil, s.unavailable(ctx.Err())
	case a := <-answer:
		if a.Err != nil {
			s.warn(a.Err)
			return nil, s.unavailable(a.Err)
		}
		return s.judge(a.Val.(claims), audiences)
	}
}

// ask sends the request.
func (s *Source) ask(ctx context.Context, token string) (claims, error) {
	i := s.o.Introspection
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(i.ClientID), url.QueryEscape(i.Secret)) // RFC 6749, 2.3.1, has them encoded
	body, _, err := s.send(r)
	if err != nil {
		return nil, err
	}
	return readClaims(body)
}

// judge reads the issuer's answer.
func (s *Source) judge(c claims, audiences []string) (*facts, error) {
	if c["active"] != true {
		return nil, errInactive
	}
	if iss, ok := c["iss"]; ok && iss != s.o.Issuer {
		return nil, invalid("it is of another issuer")
	}
	kind, err := c.text("token_type")
	if err != nil {
		return nil, err
	}
	if kind != "" && !strings.EqualFold(kind, "Bearer") {
		return nil, invalid("it is not a bearer token")
	}
	return s.check(c, audiences)
}

// warn logs that the issuer cannot be asked, from time to time.
func (s *Source) warn(err error) {
	s.mu.Lock()
	now := clock.Now()
	due := s.warned.IsZero() || now.Sub(s.warned) >= warnEvery
	if due {
		s.warned = now
	}
	s.mu.Unlock()
	if due {
		s.o.Logger.Warn("an issuer cannot be asked about tokens", "issuer", s.o.Issuer, "error", err)
	}
}
