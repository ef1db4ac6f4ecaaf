package oauthstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

const selectGrant = `SELECT g.n, g.id, g.account, g.environment, g.server, g.client, g.client_name, g.host, g.scopes, g.limits, g.lineage,
	g.agent_key, g.person, g.created_at, g.expires_at, g.revoked_at, g.ended_at, g.reason FROM oauth_grant g `

func scanGrant(scan func(...any) error) (n int64, g oauth.Grant, err error) {
	var scopes, limits string
	var created, expires, revoked, ended int64
	err = scan(&n, &g.ID, &g.Account, (*string)(&g.Environment), &g.Server, &g.Client, &g.ClientName, &g.Host, &scopes, &limits, &g.Lineage,
		&g.Key, &g.Person, &created, &expires, &revoked, &ended, &g.Reason)
	if err != nil {
		return 0, g, err
	}
	g.CreatedAt, g.ExpiresAt, g.RevokedAt, g.EndedAt = sqltx.Time(created), sqltx.Time(expires), sqltx.Time(revoked), sqltx.Time(ended)
	if err := errors.Join(parse(scopes, &g.Scopes), parse(limits, &g.Limits)); err != nil {
		return 0, g, fmt.Errorf("grant %s: %w", g.ID, err)
	}
	return n, g, nil
}

// limitsText returns limits as they are stored, "" for none.
func limitsText(l *keys.Limits) (string, error) {
	if l == nil || *l == (keys.Limits{}) {
		return "", nil
	}
	if err := l.Check(); err != nil {
		return "", err
	}
	text, err := json.Marshal(l)
	return string(text), err
}

// InsertGrant stores a grant.
func (t tx) InsertGrant(g *oauth.Grant) error {
	limits, err := limitsText(g.Limits)
	if err != nil {
		return err
	}
	return t.Insert(`INSERT INTO oauth_grant (id, account, environment, server, client, client_name, host, scopes, limits, lineage, agent_key, person, created_at, expires_at, revoked_at, ended_at, reason)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT DO NOTHING`,
		g.ID, g.Account, string(g.Environment), g.Server, g.Client, g.ClientName, g.Host, list(g.Scopes), limits, g.Lineage, g.Key, g.Person,
		sqltx.Micros(g.CreatedAt), sqltx.Micros(g.ExpiresAt), sqltx.Micros(g.RevokedAt), sqltx.Micros(g.EndedAt), g.Reason)
}

// Grant returns the grant with the id.
func (t tx) Grant(id string) (g oauth.Grant, err error) {
	err = t.One(func(scan func(...any) error) (err error) {
		_, g, err = scanGrant(scan)
		return err
	}, selectGrant+`WHERE g.id = $1`, id)
	return g, err
}

// Grants lists the grants that match the query, newest first.
func (t tx) Grants(ctx context.Context, q oauth.GrantQuery) (grants []oauth.Grant, next string, err error) {
	last, err := ledger.Cursor(ctx, q.After, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	query, args := selectGrant+`WHERE g.n < $1`, []any{last, q.Size() + 1}
	for _, filter := range []struct{ column, value string }{
		{"g.account", q.Account}, {"g.client", q.Client}, {"g.server", q.Server}, {"g.agent_key", q.Key}, {"g.person", q.Person},
	} {
		if filter.value != "" {
			args = append(args, filter.value)
			query += fmt.Sprintf(` AND %s = $%d AND %[1]s <> ''`, filter.column, len(args)) // the second condition is that of partial indexes
		}
	}
	if !q.Live.IsZero() {
		args = append(args, sqltx.Micros(q.Live))
		query += fmt.Sprintf(` AND g.revoked_at = 0 AND (g.expires_at = 0 OR g.expires_at > $%d)`, len(args))
	}
	more := false
	err = t.Query(func(scan func(...any) error) error {
		n, g, err := scanGrant(scan)
		if more = len(grants) == q.Size(); err != nil || more {
			return err
		}
		grants, last = append(grants, g), n
		return nil
	}, query+` ORDER BY g.n DESC LIMIT $2`, args...)
	if err == nil && more {
		next = strconv.FormatInt(last, 10)
	}
	return grants, next, err
}

func (t tx) grants(condition string, args ...any) (grants []oauth.Grant, err error) {
	err = t.Query(func(scan func(...any) error) error {
		_, g, err := scanGrant(scan)
		grants = append(grants, g)
		return err
	}, selectGrant+condition, args...)
	return grants, err
}

// Orphans lists live grants with a key that was deleted, disabled or rotated.
func (t tx) Orphans(limit int) ([]oauth.Grant, error) {
	return t.grants(`JOIN key k ON k.id = g.agent_key WHERE g.revoked_at = 0 AND g.agent_key <> ''
		AND (k.deleted_at IS NOT NULL OR k.disabled_at IS NOT NULL OR k.successor <> '') ORDER BY g.n LIMIT $1`, limit)
}

// Unfinished lists revoked grants without EndedAt.
func (t tx) Unfinished(limit int) ([]oauth.Grant, error) {
	return t.grants(`WHERE g.revoked_at > 0 AND g.ended_at = 0 ORDER BY g.n LIMIT $1`, limit)
}

// UpdateGrant writes the fields of a grant that can change.
func (t tx) UpdateGrant(g *oauth.Grant) error {
	limits, err := limitsText(g.Limits)
	if err != nil {
		return err
	}
	return t.Update(`UPDATE oauth_grant SET scopes = $2, limits = $3, expires_at = $4, revoked_at = $5, ended_at = $6, reason = $7 WHERE id = $1`,
		g.ID, list(g.Scopes), limits, sqltx.Micros(g.ExpiresAt), sqltx.Micros(g.RevokedAt), sqltx.Micros(g.EndedAt), g.Reason)
}
