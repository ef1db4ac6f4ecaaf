// Command zitadelop is an OpenID provider for tests: the library zitadel/oidc with its
// example storage. Clients get access tokens by client_credentials, with their own id as the
// subject: those with an id that begins with "jwt-" get signed tokens, others opaque ones.
// The scope "audience:URL" sets the audience. A POST to /test/rotate changes the signing
// key. The program is a module of its own, so that Farebox does not depend on the library.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// secret is the secret of all clients.
const secret = "verysecret"

// resourceServer is the client by which a resource server asks about tokens. It has the same
// secret.
const resourceServer = "web"

func main() {
	listen := flag.String("listen", "127.0.0.1:9998", "the address to listen at")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(listen string) error {
	issuer := "http://" + listen + "/"
	clients := storage.WebClient(resourceServer, secret, "http://localhost/callback")
	storage.RegisterClients(clients)
	p := &provider{Storage: storage.NewStorage(storage.NewUserStore(issuer))}
	if err := p.rotate(); err != nil {
		return err
	}
	router := exampleop.SetupServer(issuer, p, slog.New(slog.DiscardHandler), false, op.WithAllowInsecure())
	router.Post("/test/rotate", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.rotate(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: listen, Handler: router, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// provider is the example storage with clients that get tokens for any audience.
type provider struct {
	*storage.Storage

	mu  sync.Mutex
	id  string // id of the key
	key *rsa.PrivateKey
}

// rotate makes a new signing key. The old one is withdrawn.
func (p *provider) rotate() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.id = key, rand.Text()
	return err
}

// signingKey is a key of the provider.
type signingKey struct {
	id  string
	key any
}

func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k *signingKey) Use() string                                 { return "sig" }
func (k *signingKey) Key() any                                    { return k.key }
func (k *signingKey) ID() string                                  { return k.id }

// SigningKey implements op.Storage.
func (p *provider) SigningKey(context.Context) (op.SigningKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &signingKey{p.id, p.key}, nil
}

// KeySet implements op.Storage.
func (p *provider) KeySet(context.Context) ([]op.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []op.Key{&signingKey{p.id, &p.key.PublicKey}}, nil
}

// agent is a client that gets tokens in its own name.
type agent struct {
	op.Client
	id string
}

func (a *agent) GetID() string { return a.id }
func (a *agent) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

// AccessTokenType implements op.Client.
func (a *agent) AccessTokenType() op.AccessTokenType {
	if strings.HasPrefix(a.id, "jwt-") {
		return op.AccessTokenTypeJWT
	}
	return op.AccessTokenTypeBearer
}

// RestrictAdditionalAccessTokenScopes implements op.Client: all scopes are kept.
func (a *agent) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

// ClientCredentials implements op.ClientCredentialsStorage.
func (p *provider) ClientCredentials(ctx context.Context, id, given string) (op.Client, error) {
	if given != secret {
		return nil, errors.New("wrong secret")
	}
	client, err := p.GetClientByClientID(ctx, resourceServer)
	return &agent{client, id}, err
}

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage.
func (p *provider) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	r := &oidc.JWTTokenRequest{Subject: id, Audience: []string{resourceServer}}
	for _, scope := range scopes {
		if audience, ok := strings.CutPrefix(scope, "audience:"); ok {
			r.Audience = append(r.Audience, audience)
			continue
		}
		r.Scopes = append(r.Scopes, scope)
	}
	return r, nil
}

// GetPrivateClaimsFromScopes implements op.Storage.
func (p *provider) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " ")}, nil
}

// CreateAccessToken implements op.Storage. It keeps the audience of each token.
func (p *provider) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, end, err := p.Storage.CreateAccessToken(ctx, r)
	audiences.Store(id, r)
	return id, end, err
}

// audiences has the requests of tokens by the ids of the tokens.
var audiences sync.Map

// SetIntrospectionFromToken implements op.Storage.
func (p *provider) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, id, subject, _ string) error {
	v, ok := audiences.Load(id)
	if !ok {
		return errors.New("the token is unknown or was revoked")
	}
	r := v.(op.TokenRequest)
	answer.Subject, answer.Audience, answer.Scope = subject, r.GetAudience(), r.GetScopes()
	return nil
}

// RevokeToken implements op.Storage. Any client may revoke any token.
func (p *provider) RevokeToken(_ context.Context, tokenOrID, _, _ string) *oidc.Error {
	audiences.Delete(tokenOrID)
	return nil
}
