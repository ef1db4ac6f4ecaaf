// Package issuer accepts the access tokens of other authorization servers. A Source is
// one such server: it verifies signed tokens (RFC 9068) by the server's keys, and asks
// the server about opaque ones (RFC 7662). An Authenticator applies the rules by which a
// site trusts its sources, and turns the subject of a token into a caller with an
// account.
//
// Anything that is not certain refuses the token. If the reason is that the server cannot
// be reached, the token is refused for now, not as invalid.
package issuer

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/fareboxhq/farebox/internal/keys"
)

// Metrics counts the work of sources. Its methods must be safe for concurrent use.
type Metrics interface {
	// IssuerFetched counts a request to an issuer. The kind is "keys" or
	// "introspection".
	IssuerFetched(kind string, ok bool)
	// IssuerToken counts a token that was not in the cache: "accepted", "refused",
	// "unavailable" or "limited".
	IssuerToken(result string)
}

// Options describe an issuer. Their JSON is the same for the same issuer.
type Options struct {
	// Issuer is the issuer's identifier, exactly as tokens and metadata have it.
	Issuer string
	// JWKS is the address of the issuer's keys. If it is "", the issuer's metadata name
	// the address.
	JWKS string
	// Algorithms are the signature algorithms that are accepted. Default:
	// DefaultAlgorithms.
	Algorithms []string
	// Introspection describes how the issuer is asked about opaque tokens. Nil means
	// that opaque tokens are not accepted.
	Introspection *Introspection
	// Skew is the difference between clocks that is allowed. Zero means DefaultSkew; the
	// maximum is MaxSkew.
	Skew time.Duration
	// MaxLifetime bounds the time between a token's iat and exp. Zero means no bound.
	MaxLifetime time.Duration

	// Transport sends the requests. Default: http.DefaultTransport.
	Transport http.RoundTripper `json:"-"`
	Metrics   Metrics           `json:"-"`
	Logger    *slog.Logger      `json:"-"`
}

// Introspection describes an introspection endpoint.
type Introspection struct {
	URL      string
	ClientID string // Farebox's own id at the issuer
	Secret   string
}

// Bounds of options.
const (
	DefaultSkew = 30 * time.Second
	MaxSkew     = 2 * time.Minute
)

// DefaultAlgorithms returns the algorithms that are accepted unless others are named.
func DefaultAlgorithms() []string { return []string{"RS256", "ES256", "PS256", "EdDSA"} }

// algorithms are the signature algorithms that can be chosen: only those with public
// keys. Algorithms with a shared secret must not be among them, because a public key of
// the issuer could then pass for that secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// CheckAlgorithm returns an error unless tokens may be signed by the algorithm.
func CheckAlgorithm(name string) error {
	if slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
		return nil
	}
	var names []string
	for _, a := range algorithms {
		names = append(names, string(a))
	}
	return fmt.Errorf("algorithm %q is not accepted: want %s", name, strings.Join(names, ", "))
}

// CheckIssuer returns an error unless the text can be the identifier of an issuer.
func CheckIssuer(text string) error {
	u, err := CheckURL(text)
	if err != nil {
		return err
	}
	if strings.ContainsAny(text, "?#") {
		return fmt.Errorf("%s: an issuer has no query and no fragment", u.Redacted())
	}
	if u.Host != strings.ToLower(u.Host) {
		return fmt.Errorf("%s: write the host in lower case", text)
	}
	return nil
}

// CheckURL parses the address of an endpoint. It must be https, or http at a loopback
// address, and must not contain a user.
func CheckURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "":
		return nil, errors.New("want an address with a scheme and a host, as https://idp.example.com")
	case u.User != nil:
		return nil, fmt.Errorf("%s: leave the user out", u.Redacted())
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, fmt.Errorf("%s: want https; http is for loopback hosts alone", text)
	}
	return u, nil
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// Check returns an error for options that cannot work.
func (o *Options) Check() error {
	if err := CheckIssuer(o.Issuer); err != nil {
		return err
	}
	for _, name := range o.Algorithms {
		if err := CheckAlgorithm(name); err != nil {
			return err
		}
	}
	if o.JWKS != "" {
		if _, err := CheckURL(o.JWKS); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
	}
	if i := o.Introspection; i != nil {
		if _, err := CheckURL(i.URL); err != nil {
			return fmt.Errorf("introspection: %w", err)
		}
		if i.ClientID == "" || i.Secret == "" {
			return errors.New("introspection: want a client id and a secret, by which the issuer knows Farebox")
		}
	}
	if o.Skew < 0 || o.Skew > MaxSkew {
		return fmt.Errorf("skew: want at most %s, not %s", MaxSkew, o.Skew)
	}
	if o.MaxLifetime < 0 {
		return errors.New("max_lifetime cannot be below zero")
	}
	return nil
}

// Source is an authorization server with the means to verify its tokens. It is safe for
// concurrent use.
type Source struct {
	o          Options
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	keys       *keySet
	asking     singleflight.Group // introspections in flight, by digest
	slots      chan struct{}      // bounds the introspections in flight

	mu     sync.Mutex
	warned time.Time // time of the last warning about introspection
}

// NewSource returns the source with the options. It sends no request yet.
func NewSource(o Options) (*Source, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = DefaultAlgorithms()
	}
	if o.Skew == 0 {
		o.Skew = DefaultSkew
	}
	s := &Source{o: o, client: newClient(o.Transport), slots: make(chan struct{}, maxIntrospections)}
	for _, name := range o.Algorithms {
		s.algorithms = append(s.algorithms, jose.SignatureAlgorithm(name))
	}
	s.keys = newKeySet(s.fetchKeys)
	return s, nil
}

// Issuer returns the issuer's identifier.
func (s *Source) Issuer() string { return s.o.Issuer }

// invalidError refuses a token for good. Its text never quotes the token. It matches
// keys.ErrUnknown, by which the gate refuses a token as invalid.
type invalidError struct{ reason string }

func invalid(format string, args ...any) error {
	return &invalidError{fmt.Sprintf(format, args...)}
}

// Error returns the reason.
func (e *invalidError) Error() string { return "the token of an issuer is refused: " + e.reason }

// Is reports whether the target is keys.ErrUnknown.
func (e *invalidError) Is(target error) bool { return target == keys.ErrUnknown }

// unavailable reports that a token cannot be judged now.
func (s *Source) unavailable(err error) error {
	return fmt.Errorf("the issuer %s cannot be asked: %w", s.o.Issuer, err)
}
