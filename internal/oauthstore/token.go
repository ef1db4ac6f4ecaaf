package oauthstore

import (
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

const selectAuthorization = `SELECT digest, owner, client, server, redirect_uri, challenge, scopes, user_code, denied, expires_at, used_at, polled_at, client_name, host FROM oauth_authorization `

// InsertAuthorization stores an authorization.
func (t tx) InsertAuthorization(a *oauth.Authorization, d oauth.Digest) error {
	return t.Insert(`INSERT INTO oauth_authorization (digest, owner, client, server, redirect_uri, challenge, scopes, user_code, denied, expires_at, used_at, polled_at, client_name, host)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`,
		d[:], a.Grant, a.Client, a.Server, a.RedirectURI, a.Challenge, list(a.Scopes), userCode(a.UserCode), sqltx.Flag(a.Denied),
		sqltx.Micros(a.ExpiresAt), sqltx.Micros(a.UsedAt), sqltx.Micros(a.PolledAt), a.ClientName, a.Host)
}

// userCode returns the digest of a user code as it is stored, empty for none.
func userCode(d oauth.Digest) []byte {
	if (d == oauth.Digest{}) {
		return []byte{}
	}
	return d[:]
}

func (t tx) authorization(condition string, arg any) (a oauth.Authorization, d oauth.Digest, err error) {
	err = t.One(func(scan func(...any) error) error {
		var digest, user []byte
		var scopes string
		var denied, expires, used, polled int64
		err := scan(&digest, &a.Grant, &a.Client, &a.Server, &a.RedirectURI, &a.Challenge, &scopes, &user, &denied, &expires, &used, &polled, &a.ClientName, &a.Host)
		if err != nil {
			return err
		}
		copy(d[:], digest)
		copy(a.UserCode[:], user)
		a.Denied, a.ExpiresAt, a.UsedAt, a.PolledAt = denied != 0, sqltx.Time(expires), sqltx.Time(used), sqltx.Time(polled)
		return parse(scopes, &a.Scopes)
	}, selectAuthorization+condition, arg)
	return a, d, err
}

// Authorization returns the authorization with the digest.
func (t tx) Authorization(d oauth.Digest) (oauth.Authorization, error) {
	a, _, err := t.authorization(`WHERE digest = $1`, d[:])
	return a, err
}

// AuthorizationByUserCode returns the authorization of a device.
func (t tx) AuthorizationByUserCode(d oauth.Digest) (oauth.Authorization, oauth.Digest, error) {
	return t.authorization(`WHERE user_code = $1 AND length(user_code) > 0`, d[:])
}

// UpdateAuthorization writes the fields of an authorization that can change.
func (t tx) UpdateAuthorization(a *oauth.Authorization, d oauth.Digest) error {
	return t.Update(`UPDATE oauth_authorization SET owner = $2, scopes = $3, denied = $4, used_at = $5, polled_at = $6 WHERE digest = $1`,
		d[:], a.Grant, list(a.Scopes), sqltx.Flag(a.Denied), sqltx.Micros(a.UsedAt), sqltx.Micros(a.PolledAt))
}

// CountDevices returns the number of devices that wait for a person at the time.
func (t tx) CountDevices(at time.Time) (n int64, err error) {
	err = t.One(func(scan func(...any) error) error { return scan(&n) },
		`SELECT count(*) FROM oauth_authorization WHERE expires_at > $1 AND length(user_code) > 0 AND owner = '' AND denied = 0`, sqltx.Micros(at))
	return n, err
}

// DeleteAuthorizationsBefore deletes authorizations that expired before the time.
func (t tx) DeleteAuthorizationsBefore(end time.Time) (int64, error) {
	return t.Exec(`DELETE FROM oauth_authorization WHERE expires_at < $1`, sqltx.Micros(end))
}

const selectToken = `SELECT id, digest, owner, kind, method, seed, used_at, expires_at, access_id, refresh_id FROM oauth_token `

func scanToken(scan func(...any) error) (t oauth.Token, err error) {
	var digest []byte
	var kind string
	var used, expires int64
	if err := scan(&t.ID, &digest, &t.Grant, &kind, &t.Method, &t.Seed, &used, &expires, &t.AccessID, &t.RefreshID); err != nil {
		return t, err
	}
	if len(digest) != len(t.Digest) {
		return t, fmt.Errorf("digest of token %s is not %d bytes long", t.ID, len(t.Digest))
	}
	copy(t.Digest[:], digest)
	t.UsedAt, t.ExpiresAt = sqltx.Time(used), sqltx.Time(expires)
	if len(t.Seed) == 0 {
		t.Seed = nil
	}
	if t.Kind, err = keys.ParseKind(kind); err != nil {
		return t, fmt.Errorf("token %s: %w", t.ID, err)
	}
	return t, nil
}

// InsertToken stores a token.
func (t tx) InsertToken(k *oauth.Token) error {
	return t.Insert(`INSERT INTO oauth_token (id, digest, owner, kind, method, seed, used_at, expires_at, access_id, refresh_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		k.ID, k.Digest[:], k.Grant, k.Kind.String(), k.Method, append([]byte{}, k.Seed...), sqltx.Micros(k.UsedAt), sqltx.Micros(k.ExpiresAt), k.AccessID, k.RefreshID)
}

// Token returns the token with the digest.
func (t tx) Token(d keys.Digest) (k oauth.Token, err error) {
	err = t.One(func(scan func(...any) error) (err error) {
		k, err = scanToken(scan)
		return err
	}, selectToken+`WHERE digest = $1`, d[:])
	return k, err
}

// Tokens lists the tokens of a grant in the order of their ids.
func (t tx) Tokens(grant, after string, limit int) ([]oauth.Token, error) {
	return t.tokens(`WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3`, grant, after, limit)
}

// LatestTokens lists the tokens of a grant, the newest first. Their ids begin with the
// time.
func (t tx) LatestTokens(grant string, limit int) ([]oauth.Token, error) {
	return t.tokens(`WHERE owner = $1 ORDER BY id DESC LIMIT $2`, grant, limit)
}

func (t tx) tokens(condition string, args ...any) (tokens []oauth.Token, err error) {
	err = t.Query(func(scan func(...any) error) error {
		k, err := scanToken(scan)
		tokens = append(tokens, k)
		return err
	}, selectToken+condition, args...)
	return tokens, err
}

// CountTokens counts the tokens of a grant with an id after the given one, up to limit.
func (t tx) CountTokens(grant, after string, limit int) (n int64, err error) {
	err = t.One(func(scan func(...any) error) error { return scan(&n) },
		`SELECT count(*) FROM (SELECT 1 FROM oauth_token WHERE owner = $1 AND id > $2 LIMIT $3) newer`, grant, after, limit)
	return n, err
}

// HasTokens reports whether the grant has a token that expires after the time.
func (t tx) HasTokens(grant string, at time.Time) (bool, error) {
	var n int64
	err := t.One(func(scan func(...any) error) error { return scan(&n) },
		`SELECT count(*) FROM (SELECT 1 FROM oauth_token WHERE owner = $1 AND expires_at > $2 LIMIT 1) unexpired`, grant, sqltx.Micros(at))
	return n > 0, err
}

// UseToken writes the fields of a refresh token that change with its use.
func (t tx) UseToken(k *oauth.Token) error {
	return t.Update(`UPDATE oauth_token SET seed = $2, used_at = $3, access_id = $4, refresh_id = $5 WHERE id = $1`,
		k.ID, append([]byte{}, k.Seed...), sqltx.Micros(k.UsedAt), k.AccessID, k.RefreshID)
}

// ForgetSeeds deletes the seeds of tokens that were first used before the time.
func (t tx) ForgetSeeds(used time.Time) (int64, error) {
	return t.Exec(`UPDATE oauth_token SET seed = $2 WHERE used_at < $1 AND length(seed) > 0`, sqltx.Micros(used), []byte{})
}

// DeleteTokensBefore deletes tokens that expired before the time, and their keys.
func (t tx) DeleteTokensBefore(end time.Time, limit int) (int64, error) {
	const old = `(SELECT id FROM oauth_token WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2)`
	if _, err := t.Exec(`DELETE FROM key WHERE id IN `+old, sqltx.Micros(end), limit); err != nil {
		return 0, err
	}
	return t.Exec(`DELETE FROM oauth_token WHERE id IN `+old, sqltx.Micros(end), limit)
}
