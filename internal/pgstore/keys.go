package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

const (
	keyColumns = `id, digest, account, lineage, kind, environment, name, hint, scopes, servers, limits,
	created_at, expires_at, disabled_at, deleted_at, last_used_at, successor`
	selectKey = `SELECT n, ` + keyColumns + ` FROM key `
	insertKey = `INSERT INTO key (` + keyColumns + `) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17) ON CONFLICT DO NOTHING`
	updateKey = `UPDATE key SET name = $2, hint = $3, scopes = $4, servers = $5, limits = $6, created_at = $7, expires_at = $8,
	disabled_at = $9, deleted_at = $10, successor = $11 WHERE id = $1`
	// touchKeys locks rows in the order of n, so that two nodes cannot deadlock.
	touchKeys = `WITH used AS (
		SELECT k.n, u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at) JOIN key k ON k.id = u.id
		WHERE k.last_used_at IS NULL OR k.last_used_at < u.at ORDER BY k.n FOR NO KEY UPDATE OF k
	) UPDATE key SET last_used_at = used.at FROM used WHERE key.n = used.n AND (key.last_used_at IS NULL OR key.last_used_at < used.at)`
)

// keyRow is a key, with its number n in the database.
type keyRow struct {
	keys.Key
	n int64
}

// KeyByDigest returns the key with the given digest, even if the key is deleted.
// Errors: keys.ErrUnknown.
func (s *Store) KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	k, err := s.key(ctx, `WHERE digest = $1`, digest[:])
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, keys.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return &k, nil
}

// Key returns the key with the given id. Errors: ledger.ErrNotFound.
func (s *Store) Key(ctx context.Context, id string) (keys.Key, error) {
	return s.key(ctx, `WHERE id = $1`, pgvalue.Pack(id))
}

func (s *Store) key(ctx context.Context, where string, arg any) (keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return keys.Key{}, err
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, selectKey+where, arg)
	if err != nil {
		return keys.Key{}, pgquery.Failure(ctx, err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	return k.Key, pgquery.Found(ctx, err)
}

// CreateKey stores a new key with its audit row. Errors: ledger.ErrNotFound if the
// account does not exist, ErrConflict if the id or the digest was used before.
func (s *Store) CreateKey(ctx context.Context, k keys.Key, a ledger.Audit) error {
	return s.change(ctx, a, func(ctx context.Context, t *changes) error { return t.insertKey(ctx, &k) })
}

// UpdateKey reads the key, lets the given function alter the key, and writes the key
// and its audit row. All of this is one transaction. If the function fails, nothing is
// written and UpdateKey returns the error unchanged. The function must not alter ID,
// Digest, Account, Lineage, Kind, Environment or a DeletedAt that is set. The function
// must also be quick, because other changes of the key wait. Other errors:
// ledger.ErrNotFound.
func (s *Store) UpdateKey(ctx context.Context, id string, change func(*keys.Key) error, a ledger.Audit) (keys.Key, error) {
	var changed keys.Key
	err := s.change(ctx, a, func(ctx context.Context, t *changes) (err error) {
		changed, err = t.changeKey(ctx, id, change)
		return err
	})
	if err != nil {
		return keys.Key{}, err
	}
	return changed, nil
}

// ReplaceKey changes the old key, as UpdateKey does, and stores its successor, with
// one audit row, in one transaction. The successor must have the account, lineage,
// kind and environment of the old key. ReplaceKey returns the old key as changed.
// Its errors are those of UpdateKey and CreateKey.
func (s *Store) ReplaceKey(ctx context.Context, oldID string, change func(old *keys.Key) error, successor keys.Key, a ledger.Audit) (keys.Key, error) {
	var old keys.Key
	err := s.change(ctx, a, func(ctx context.Context, t *changes) (err error) {
		if old, err = t.changeKey(ctx, oldID, change); err != nil {
			return err
		}
		if successor.Account != old.Account || successor.Lineage != old.Lineage ||
			successor.Kind != old.Kind || successor.Environment != old.Environment {
			return refuse("the successor of a key must have its account, lineage, kind and environment")
		}
		return t.insertKey(ctx, &successor)
	})
	if err != nil {
		return keys.Key{}, err
	}
	return old, nil
}

// TouchKeys records the last use of keys, given as a map from key ids to times. It
// ignores unknown keys and times before the recorded one. It adds no audit row.
func (s *Store) TouchKeys(ctx context.Context, used map[string]time.Time) error {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	var ids []string
	var times []time.Time
	for id, at := range used {
		ids, times = append(ids, pgvalue.Pack(id)), append(times, pgvalue.Micro(at))
	}
	return pgquery.Failure(ctx, s.db.Exec(ctx, touchKeys, ids, times))
}

func (c *changes) changeKey(ctx context.Context, id string, change func(*keys.Key) error) (keys.Key, error) {
	rows, err := c.tx.Query(ctx, selectKey+`WHERE id = $1 FOR UPDATE`, pgvalue.Pack(id))
	if err != nil {
		return keys.Key{}, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return keys.Key{}, refuse("key %q: %w", id, ledger.ErrNotFound)
	}
	if err != nil {
		return keys.Key{}, err
	}
	old, k := row.Key, row.Key
	k.Scopes, k.Servers = slices.Clone(old.Scopes), slices.Clone(old.Servers)
	if err := asked(change, &k); err != nil {
		return keys.Key{}, err
	}
	if k.ID != old.ID || k.Digest != old.Digest || k.Account != old.Account || k.Lineage != old.Lineage ||
		k.Kind != old.Kind || k.Environment != old.Environment {
		return keys.Key{}, refuse("id, digest, account, lineage, kind and environment of a key may not change")
	}
	if !old.DeletedAt.IsZero() && !k.DeletedAt.Equal(old.DeletedAt) {
		return keys.Key{}, refuse("the deletion of a key is final")
	}
	l, err := listsOf(&k)
	if err != nil {
		return keys.Key{}, err
	}
	_, err = c.tx.Exec(ctx, updateKey, pgvalue.Pack(k.ID), pgvalue.Pack(k.Name), pgvalue.Pack(k.Hint), l.scopes, l.servers, l.limits, pgvalue.Column(k.CreatedAt),
		pgvalue.Column(k.ExpiresAt), pgvalue.Column(k.DisabledAt), pgvalue.Column(k.DeletedAt), pgvalue.Pack(k.Successor))
	c.revoked = append(c.revoked, k.Digest[:])
	return stored(k), err
}

func (c *changes) insertKey(ctx context.Context, k *keys.Key) error {
	if k.ID == "" || k.Lineage == "" {
		return refuse("a key needs an id and a lineage")
	}
	if _, err := keys.ParseKind(k.Kind.String()); err != nil {
		return &refused{err}
	}
	l, err := listsOf(k)
	if err != nil {
		return err
	}
	var there bool
	err = c.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM account WHERE id = $1 AND id NOT LIKE '@%')`, pgvalue.Pack(k.Account)).Scan(&there)
	if err != nil {
		return err
	}
	if !there {
		return refuse("account %q: %w", k.Account, ledger.ErrNotFound)
	}
	made, err := c.tx.Exec(ctx, insertKey, pgvalue.Pack(k.ID), k.Digest[:], pgvalue.Pack(k.Account), pgvalue.Pack(k.Lineage), k.Kind.String(), pgvalue.Pack(string(k.Environment)),
		pgvalue.Pack(k.Name), pgvalue.Pack(k.Hint), l.scopes, l.servers, l.limits, pgvalue.Column(k.CreatedAt), pgvalue.Column(k.ExpiresAt),
		pgvalue.Column(k.DisabledAt), pgvalue.Column(k.DeletedAt), pgvalue.Column(k.LastUsedAt), pgvalue.Pack(k.Successor))
	if err == nil && made.RowsAffected() == 0 {
		return refuse("key: %w", ledger.ErrConflict)
	}
	c.revoked = append(c.revoked, k.Digest[:])
	return err
}

// lists holds the columns of a key that are stored as JSON.
type lists struct {
	scopes, servers string
	limits          *string
}

func listsOf(k *keys.Key) (l lists, err error) {
	encode := func(v any) string {
		b, e := json.Marshal(v)
		err = errors.Join(err, e)
		return string(b)
	}
	l.scopes, l.servers = encode(append([]string{}, k.Scopes...)), encode(append([]string{}, k.Servers...))
	if k.Limits != nil && *k.Limits != (keys.Limits{}) {
		if err := k.Limits.Check(); err != nil {
			return lists{}, &refused{err}
		}
		text := encode(k.Limits)
		l.limits = &text
	}
	if err != nil {
		return lists{}, refuse("encoding key: %w", err)
	}
	return l, nil
}

// stored returns the key as a later read returns it: with times in microseconds, and
// with nil in place of empty lists and limits.
func stored(k keys.Key) keys.Key {
	for _, t := range []*time.Time{&k.CreatedAt, &k.ExpiresAt, &k.DisabledAt, &k.DeletedAt, &k.LastUsedAt} {
		*t = pgvalue.Micro(*t)
	}
	if len(k.Scopes) == 0 {
		k.Scopes = nil
	}
	if len(k.Servers) == 0 {
		k.Servers = nil
	}
	if k.Limits != nil && *k.Limits == (keys.Limits{}) {
		k.Limits = nil
	}
	return k
}

func scanKey(row pgx.CollectableRow) (k keyRow, err error) {
	var digest []byte
	var kind, environment, scopes, servers string
	var limits *string
	var created, expires, disabled, deleted, used *time.Time
	if err := row.Scan(&k.n, &k.ID, &digest, &k.Account, &k.Lineage, &kind, &environment, &k.Name, &k.Hint,
		&scopes, &servers, &limits, &created, &expires, &disabled, &deleted, &used, &k.Successor); err != nil {
		return keyRow{}, err
	}
	if len(digest) != len(k.Digest) {
		return keyRow{}, fmt.Errorf("digest of key %s is not %d bytes long", k.ID, len(k.Digest))
	}
	copy(k.Digest[:], digest)
	if k.Kind, err = keys.ParseKind(kind); err != nil {
		return keyRow{}, fmt.Errorf("key %s: %w", k.ID, err)
	}
	err = errors.Join(json.Unmarshal([]byte(scopes), &k.Scopes), json.Unmarshal([]byte(servers), &k.Servers))
	if limits != nil {
		err = errors.Join(err, json.Unmarshal([]byte(*limits), &k.Limits))
	}
	if err != nil {
		return keyRow{}, fmt.Errorf("lists of key %s: %w", k.ID, err)
	}
	k.ID, k.Account, k.Lineage, k.Successor = pgvalue.Unpack(k.ID), pgvalue.Unpack(k.Account), pgvalue.Unpack(k.Lineage), pgvalue.Unpack(k.Successor)
	k.Environment, k.Name, k.Hint = keys.Environment(pgvalue.Unpack(environment)), pgvalue.Unpack(k.Name), pgvalue.Unpack(k.Hint)
	k.CreatedAt, k.ExpiresAt, k.DisabledAt = pgvalue.Time(created), pgvalue.Time(expires), pgvalue.Time(disabled)
	k.DeletedAt, k.LastUsedAt = pgvalue.Time(deleted), pgvalue.Time(used)
	k.Key = stored(k.Key)
	return k, nil
}
