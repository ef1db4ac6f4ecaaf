package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// Client is the authenticated client of a token request.
type Client struct {
	ID     string
	Method string      // how the client authenticated, such as "private_key_jwt"; "" or "none" if it did not
	Server string      // name of the MCP server of the issuer that received the request
	Actor  admin.Actor // for the audit log
	// Refreshes is false for clients that get no refresh tokens.
	Refreshes bool
}

// authenticated reports whether the client has proven its identity. A client that can do
// so, and need not, could otherwise be imitated with a stolen refresh token.
func (c *Client) authenticated() bool { return c.Method != "" && c.Method != "none" }

// authenticated reports whether the client proved its identity when it got the token.
func (t *Token) authenticated() bool { return t.Method != "" && t.Method != "none" }

// Exchange issues the first tokens for an authorization code (RFC 6749, section 4.1.3).
// The verifier is that of PKCE (RFC 7636). If the code was used before, Exchange revokes
// its grant. Errors of the client are *Error.
func (s *Service) Exchange(ctx context.Context, c Client, code, redirectURI, verifier string, lives Lives) (Tokens, error) {
	var a Authorization
	digest, replayed := DigestOf(code), false
	err := s.store.Change(ctx, func(tx Tx) (err error) {
		replayed = false
		a, err = tx.Authorization(digest)
		now := s.o.Now()
		switch {
		case errors.Is(err, ledger.ErrNotFound) || err == nil && a.Challenge == "":
			return Refuse(InvalidGrant, "there is no such code, or it has expired")
		case err != nil:
			return err
		case a.Client != c.ID || a.Server != c.Server:
			return Refuse(InvalidGrant, "the code was issued to another client, or by another issuer")
		case !a.UsedAt.IsZero():
			replayed = true
			return s.revoke(tx, c.Actor, a.Grant, "an authorization code was used twice")
		case !now.Before(a.ExpiresAt):
			return Refuse(InvalidGrant, "the code has expired")
		case a.RedirectURI != "" && redirectURI != a.RedirectURI:
			return Refuse(InvalidGrant, "redirect_uri is not the one of the authorization request")
		case !verifies(a.Challenge, verifier):
			return Refuse(InvalidGrant, "code_verifier does not match code_challenge")
		}
		a.UsedAt = now
		return tx.UpdateAuthorization(&a, digest)
	})
	if err != nil {
		return Tokens{}, err
	}
	if replayed {
		return Tokens{}, s.finish(ctx, c.Actor, a.Grant, Refuse(InvalidGrant, "the code was used before"))
	}
	return s.issueFirst(ctx, c, a.Grant, a.Scopes, lives)
}

var verifierForm = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// ChallengeForm is the form of a code challenge of the method S256: the SHA-256 in
// base64url without padding.
var ChallengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// verifies reports whether the challenge was made from the verifier by the method S256
// (RFC 7636, section 4.6).
func verifies(challenge, verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	made := base64.RawURLEncoding.EncodeToString(sum[:])
	return verifierForm.MatchString(verifier) && subtle.ConstantTimeCompare([]byte(challenge), []byte(made)) == 1
}

// issueFirst issues the first tokens of a new authorization of the grant.
func (s *Service) issueFirst(ctx context.Context, c Client, grant string, scopes []string, lives Lives) (Tokens, error) {
	pair := pairOf{access: s.fresh(), accessID: ids.New("key_")}
	if c.Refreshes {
		pair.refresh, pair.refreshID = s.fresh(), ids.New("key_")
	}
	return s.issue(ctx, c, grant, scopes, pair, lives)
}

// IssueFor issues an access token of the grant without a code, for a client that is the
// payer itself (RFC 6749, section 4.4). It gets no refresh token.
func (s *Service) IssueFor(ctx context.Context, c Client, grant string, scopes []string, lives Lives) (Tokens, error) {
	c.Refreshes = false
	return s.issueFirst(ctx, c, grant, scopes, lives)
}

// maxHourly bounds the tokens of one grant in an hour, because each of them takes place in
// the store until long after its end.
const maxHourly = 1000

// pairOf has the random parts of the secrets of an access token and a refresh token, and
// the ids of their keys. refreshID is "" if there is no refresh token.
type pairOf struct {
	access, refresh     [keys.SecretBytes]byte
	accessID, refreshID string
}

func (s *Service) fresh() (b [keys.SecretBytes]byte) {
	rand.Read(b[:])
	return b
}

// issue stores the tokens of the pair as keys and returns their secrets. It can be called
// again with the same pair, also by another process.
func (s *Service) issue(ctx context.Context, c Client, grant string, scopes []string, pair pairOf, lives Lives) (Tokens, error) {
	var g Grant
	var tokens []keys.Key
	var secrets []string
	again := false
	now := s.o.Now()
	err := s.store.Change(ctx, func(tx Tx) (err error) {
		if g, err = tx.Grant(grant); err != nil {
			return err
		}
		if !g.Live(now) {
			return Refuse(InvalidGrant, "the grant has ended")
		}
		if g.Client != c.ID || g.Server != c.Server {
			return Refuse(InvalidGrant, "the grant is that of another client, or for another server")
		}
		if !containsAll(g.Scopes, scopes) {
			return Refuse(InvalidScope, "the grant does not have all of these scopes")
		}
		if n, err := tx.CountTokens(g.ID, ids.First("key_", now.Add(-time.Hour)), maxHourly); err != nil {
			return err
		} else if n >= maxHourly {
			return Refuse(Unavailable, "too many tokens were issued to this client within the hour: keep a token until it expires")
		}
		tokens, secrets = s.tokensOf(&g, scopes, pair, lives, now)
		for i := range tokens {
			t := Token{ID: tokens[i].ID, Digest: tokens[i].Digest, Grant: g.ID, Kind: tokens[i].Kind, Method: c.Method, ExpiresAt: tokens[i].ExpiresAt}
			err := tx.InsertToken(&t)
			if again = errors.Is(err, ledger.ErrExists); err != nil && !again {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Tokens{}, err
	}
	for _, k := range tokens {
		if err := s.o.Keys.IssueToken(ctx, c.Actor, k); err != nil {
			return Tokens{}, err
		}
	}
	// The grant may have ended after its tokens were written and before their keys
	// existed, so that its end missed the keys.
	if err := s.confirm(ctx, c.Actor, &g); err != nil {
		return Tokens{}, err
	}
	if again { // the first request decides the scopes and the end of the access token
		stored, err := s.o.Keys.Key(ctx, tokens[0].ID)
		if err != nil {
			return Tokens{}, err
		}
		scopes, tokens[0].ExpiresAt = stored.Scopes, stored.ExpiresAt
	}
	t := Tokens{Access: secrets[0], Scopes: scopes, ExpiresIn: tokens[0].ExpiresAt.Sub(now)}
	if len(secrets) > 1 {
		t.Refresh = secrets[1]
	}
	return t, nil
}

// tokensOf returns the keys of a pair, and their secrets. The access token is the first.
func (s *Service) tokensOf(g *Grant, scopes []string, pair pairOf, lives Lives, now time.Time) (tokens []keys.Key, secrets []string) {
	add := func(kind keys.Kind, id string, random [keys.SecretBytes]byte, scopes []string, life time.Duration) {
		form := s.o.Secrets()
		secret := form.Encode(kind, g.Environment, random)
		tokens = append(tokens, keys.Key{
			ID: id, Account: g.Account, Lineage: g.Lineage, Kind: kind, Environment: g.Environment, Name: tokenName(g), Hint: form.Hint(secret),
			Digest: keys.DigestOf(secret), Scopes: scopes, Servers: []string{g.Server}, Limits: g.Limits,
			CreatedAt: now, ExpiresAt: earliest(now.Add(life), g.ExpiresAt),
		})
		secrets = append(secrets, secret)
	}
	add(keys.Access, pair.accessID, pair.access, scopes, lives.Access)
	if pair.refreshID != "" {
		add(keys.Refresh, pair.refreshID, pair.refresh, nil, lives.Refresh)
	}
	return tokens, secrets
}

// maxTokenName bounds the name of a token in bytes.
const maxTokenName = 100

// tokenName returns the name of a grant's tokens for people: the client's name and host.
func tokenName(g *Grant) string {
	name := g.ClientName
	if name == "" {
		name = g.Client
	}
	if g.Host != "" {
		name += " (" + g.Host + ")"
	}
	return cut(printable(name), maxTokenName)
}

// printable returns the text without control characters and other characters that cannot
// be seen, because clients choose their names and ids themselves.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// cut returns the longest beginning of the text that has at most limit bytes and whole
// characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// Refresh issues the successors of a refresh token. Without scopes the access token gets
// all scopes of the grant. Within ReuseTime of its first use, the refresh token gets the
// same successors again; a later use revokes the grant. Errors of the client are *Error.
func (s *Service) Refresh(ctx context.Context, c Client, secret string, scopes []string, lives Lives) (Tokens, error) {
	t, g, err := s.use(ctx, c, secret, scopes)
	if err != nil {
		return Tokens{}, err
	}
	if len(scopes) == 0 {
		scopes = slices.Clone(g.Scopes)
	}
	return s.issue(ctx, c, t.Grant, scopes, pairOf{
		access: derive(secret, t.Seed, keys.Access), accessID: t.AccessID,
		refresh: derive(secret, t.Seed, keys.Refresh), refreshID: t.RefreshID,
	}, lives)
}

// LostTime is how long after its use a refresh token can be used again if its successors
// were never issued, because the store failed or the process was killed meanwhile. It is
// shorter than the time after which expired successors are deleted.
const LostTime = 24 * time.Hour

// use marks a refresh token as used, unless it was used within ReuseTime, and returns it
// with its grant. A request for scopes that the grant does not have marks nothing.
func (s *Service) use(ctx context.Context, c Client, secret string, scopes []string) (t Token, g Grant, err error) {
	digest, err := s.o.Secrets().Parse(secret)
	if err != nil {
		return t, g, errNoRefresh
	}
	lost, err := s.checkRefresh(ctx, digest)
	if err != nil {
		return t, g, err
	}
	reused := false
	err = s.store.Change(ctx, func(tx Tx) (err error) {
		now := s.o.Now()
		reused = false
		t, err = tx.Token(digest)
		if err == nil {
			g, err = tx.Grant(t.Grant)
		}
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			return errNoRefresh
		case err != nil:
			return err
		case t.Kind != keys.Refresh || g.Client != c.ID || g.Server != c.Server || t.authenticated() && !c.authenticated():
			return errNoRefresh // the same answer as for an unknown token, which reveals nothing
		case !g.Live(now):
			return Refuse(InvalidGrant, "the grant has ended")
		case !now.Before(t.ExpiresAt):
			return Refuse(InvalidGrant, "the refresh token has expired")
		case !containsAll(g.Scopes, scopes):
			return Refuse(InvalidScope, "the grant does not have all of these scopes")
		case t.UsedAt.IsZero() || lost != "" && t.RefreshID == lost:
			seed := s.fresh()
			t.Seed, t.UsedAt, t.AccessID, t.RefreshID = seed[:], now, ids.New("key_"), ids.New("key_")
			return tx.UseToken(&t)
		case len(t.Seed) == 0 || !now.Before(t.UsedAt.Add(ReuseTime)):
			reused = true
			return s.revoke(tx, c.Actor, t.Grant, "a refresh token was used again")
		}
		return nil
	})
	if err == nil && reused {
		err = s.finish(ctx, c.Actor, t.Grant, Refuse(InvalidGrant, "the refresh token was used before: the grant is revoked, because the token may have been stolen"))
	}
	return t, g, err
}

// checkRefresh returns an error if the key of the refresh token was deleted or disabled,
// as a restore of the store does. If the token was used more than ReuseTime ago, and its
// successor was never issued, checkRefresh returns the id of the successor.
func (s *Service) checkRefresh(ctx context.Context, digest keys.Digest) (lost string, err error) {
	var t Token
	err = s.store.View(ctx, func(tx Tx) (err error) {
		t, err = tx.Token(digest)
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return "", errNoRefresh
	}
	if err != nil {
		return "", err
	}
	k, err := s.o.Keys.Key(ctx, t.ID)
	if isNotFound(err) {
		return "", errNoRefresh
	}
	if err != nil {
		return "", err
	}
	now := s.o.Now()
	if k.Check(now, keys.Use{Scope: keys.ScopeRefresh}) != nil {
		return "", Refuse(InvalidGrant, "the refresh token has expired or was revoked")
	}
	if t.UsedAt.IsZero() || now.Before(t.UsedAt.Add(ReuseTime)) || now.After(t.UsedAt.Add(LostTime)) {
		return "", nil
	}
	if _, err = s.o.Keys.Key(ctx, t.RefreshID); isNotFound(err) {
		return t.RefreshID, nil
	}
	return "", err
}

var errNoRefresh = Refuse(InvalidGrant, "there is no such refresh token for this client")

// derive returns the random part of the secret of a refresh token's successor. Nobody can
// compute it without both the secret and the seed: the store does not have the secret,
// and forgets the seed after ReuseTime.
func derive(secret string, seed []byte, kind keys.Kind) (b [keys.SecretBytes]byte) {
	h := hmac.New(sha256.New, seed)
	h.Write([]byte(kind.String() + "\x00" + secret))
	copy(b[:], h.Sum(nil))
	return b
}
