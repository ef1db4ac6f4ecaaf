package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

const (
	keyColumns = `id, digest, account, lineage, kind, environment, name, hint, scopes, servers, limits,
	created_at, expires_at, disabled_at, deleted_at, last_used_at, successor`
	selectKey = `SELECT n, ` + keyColumns + ` FROM key `
	insertKey = `INSERT INTO key (` + keyColumns + `) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`
	updateKey = `UPDATE key SET name = ?, hint = ?, scopes = ?, servers = ?, limits = ?, created_at = ?, expires_at = ?,
	disabled_at = ?, deleted_at = ?, successor = ? WHERE id = ?`
	touchKey = `UPDATE key SET last_used_at = ?1 WHERE id = ?2 AND (last_used_at IS NULL OR last_used_at < ?1)`
)

// KeyByDigest returns the key with the given digest, even a deleted one, or
// keys.ErrUnknown.
func (s *Store) KeyByDigest(ctx context.Context, digest keys.Digest) (*keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Refuse while the store is down, because it may be unknown whether the last
	// change of the key, such as its deletion, became durable.
	if err := s.Healthy(); err != nil {
		return nil, err
	}
	k, _, err := scanKey(s.reads.keyByDigest.QueryRowContext(background(), digest[:]))
	if err = readError(err); errors.Is(err, ledger.ErrNotFound) {
		return nil, keys.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return &k, nil
}

// CreateKey stores a new key with its audit row. Errors: ledger.ErrNotFound if
// its account does not exist, ErrConflict if its id or digest was used before.
func (s *Store) CreateKey(ctx context.Context, k keys.Key, a ledger.Audit) error {
	return s.do(ctx, func(t *tx) error {
		if err := t.insertKey(&k); err != nil {
			return err
		}
		return t.audit(a, s.now())
	})
}

// Key returns the key with the given id, or ledger.ErrNotFound.
func (s *Store) Key(ctx context.Context, id string) (keys.Key, error) {
	if err := ctx.Err(); err != nil {
		return keys.Key{}, err
	}
	k, _, err := scanKey(s.readers.QueryRowContext(background(), selectKey+`WHERE id = ?`, id))
	return k, readError(err)
}

// UpdateKey reads the key, lets the given function alter the key, and writes the key
// and its audit row. All of this is one transaction. If the function returns an error,
// nothing is written and UpdateKey returns that error unchanged. The function must not
// alter ID, Digest, Account, Lineage, Kind, Environment or a DeletedAt that is set. The
// function must also be quick, because the store writes nothing else while the function
// runs. Other errors: ledger.ErrNotFound.
func (s *Store) UpdateKey(ctx context.Context, id string, change func(*keys.Key) error, a ledger.Audit) (keys.Key, error) {
	var changed keys.Key
	err := s.do(ctx, func(t *tx) error {
		var err error
		if changed, err = t.changeKey(id, change); err != nil {
			return err
		}
		return t.audit(a, s.now())
	})
	if err != nil {
		return keys.Key{}, err
	}
	return changed, nil
}

// ReplaceKey changes the old key, as UpdateKey does, and stores its successor, in
// one transaction with one audit row. The successor must have the old key's
// account, lineage, kind and environment. ReplaceKey returns the old key as
// changed. Its errors are those of UpdateKey and CreateKey.
func (s *Store) ReplaceKey(ctx context.Context, oldID string, change func(old *keys.Key) error, successor keys.Key, a ledger.Audit) (keys.Key, error) {
	var old keys.Key
	err := s.do(ctx, func(t *tx) error {
		var err error
		if old, err = t.changeKey(oldID, change); err != nil {
			return err
		}
		if successor.Account != old.Account || successor.Lineage != old.Lineage ||
			successor.Kind != old.Kind || successor.Environment != old.Environment {
			return errors.New("the successor of a key must have its account, lineage, kind and environment")
		}
		if err := t.insertKey(&successor); err != nil {
			return err
		}
		return t.audit(a, s.now())
	})
	if err != nil {
		return keys.Key{}, err
	}
	return old, nil
}

// TouchKeys records the last use of keys. Its argument maps ids of keys to the times of
// the last use. TouchKeys ignores unknown keys, and times before the recorded one. It
// writes no audit row.
func (s *Store) TouchKeys(ctx context.Context, used map[string]time.Time) error {
	return s.do(ctx, func(t *tx) error {
		for id, at := range used {
			if _, err := t.exec(touchKey, micros(at), id); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) changeKey(id string, change func(*keys.Key) error) (keys.Key, error) {
	old, _, err := scanKey(t.queryRow(selectKey+`WHERE id = ?`, id))
	if errors.Is(err, ledger.ErrNotFound) {
		return keys.Key{}, fmt.Errorf("key %q: %w", id, err)
	}
	if err != nil {
		return keys.Key{}, failure(err)
	}
	k := old
	k.Scopes, k.Servers = slices.Clone(old.Scopes), slices.Clone(old.Servers)
	if err := change(&k); err != nil {
		return keys.Key{}, err
	}
	if k.ID != old.ID || k.Digest != old.Digest || k.Account != old.Account || k.Lineage != old.Lineage ||
		k.Kind != old.Kind || k.Environment != old.Environment {
		return keys.Key{}, errors.New("id, digest, account, lineage, kind and environment of a key may not change")
	}
	if !old.DeletedAt.IsZero() && !k.DeletedAt.Equal(old.DeletedAt) {
		return keys.Key{}, errors.New("the deletion of a key is final")
	}
	scopes, servers, err := lists(&k)
	if err != nil {
		return keys.Key{}, err
	}
	limits, err := limitsColumn(&k)
	if err != nil {
		return keys.Key{}, err
	}
	_, err = t.exec(updateKey, k.Name, k.Hint, scopes, servers, limits, micros(k.CreatedAt), number(micros(k.ExpiresAt)),
		number(micros(k.DisabledAt)), number(micros(k.DeletedAt)), k.Successor, k.ID)
	return stored(k), err
}

func (t *tx) insertKey(k *keys.Key) error {
	if k.ID == "" || k.Lineage == "" {
		return errors.New("a key needs an id and a lineage")
	}
	if _, err := keys.ParseKind(k.Kind.String()); err != nil {
		return err
	}
	t.w.books.mu.Lock()
	_, err := t.w.books.find(k.Account)
	t.w.books.mu.Unlock()
	if err != nil {
		return err
	}
	scopes, servers, err := lists(k)
	if err != nil {
		return err
	}
	limits, err := limitsColumn(k)
	if err != nil {
		return err
	}
	n, err := t.exec(insertKey, k.ID, k.Digest[:], k.Account, k.Lineage, k.Kind.String(), string(k.Environment),
		k.Name, k.Hint, scopes, servers, limits, micros(k.CreatedAt), number(micros(k.ExpiresAt)),
		number(micros(k.DisabledAt)), number(micros(k.DeletedAt)), number(micros(k.LastUsedAt)), k.Successor)
	if err == nil && n == 0 {
		err = fmt.Errorf("key: %w", ledger.ErrConflict)
	}
	return err
}

// lists encodes the key's scopes and servers as JSON.
func lists(k *keys.Key) (scopes, servers string, err error) {
	var text [2]string
	for i, list := range [][]string{k.Scopes, k.Servers} {
		if list == nil {
			list = []string{}
		}
		b, err := json.Marshal(list)
		if err != nil {
			return "", "", fmt.Errorf("encoding key: %w", err)
		}
		text[i] = string(b)
	}
	return text[0], text[1], nil
}

// limitsColumn encodes the limits of a key, as null if it has none.
func limitsColumn(k *keys.Key) (any, error) {
	if k.Limits == nil || *k.Limits == (keys.Limits{}) {
		return nil, nil
	}
	if err := k.Limits.Check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(k.Limits)
	if err != nil {
		return nil, fmt.Errorf("encoding key: %w", err)
	}
	return string(b), nil
}

// stored returns the key as a later read returns it, with times at the precision of
// the store.
func stored(k keys.Key) keys.Key {
	k.CreatedAt, k.ExpiresAt = fromMicros(micros(k.CreatedAt)), fromMicros(micros(k.ExpiresAt))
	k.DisabledAt, k.DeletedAt = fromMicros(micros(k.DisabledAt)), fromMicros(micros(k.DeletedAt))
	k.LastUsedAt = fromMicros(micros(k.LastUsedAt))
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

func scanKey(from scanner) (keys.Key, int64, error) {
	var k keys.Key
	var n, created int64
	var digest []byte
	var kind, scopes, servers string
	var limits sql.NullString
	var expires, disabled, deleted, used nullMicros
	if err := from.Scan(&n, &k.ID, &digest, &k.Account, &k.Lineage, &kind, (*string)(&k.Environment), &k.Name, &k.Hint,
		&scopes, &servers, &limits, &created, &expires, &disabled, &deleted, &used, &k.Successor); err != nil {
		return keys.Key{}, 0, err
	}
	if len(digest) != len(k.Digest) {
		return keys.Key{}, 0, fmt.Errorf("digest of key %s is not %d bytes long", k.ID, len(k.Digest))
	}
	copy(k.Digest[:], digest)
	var err error
	if k.Kind, err = keys.ParseKind(kind); err != nil {
		return keys.Key{}, 0, fmt.Errorf("key %s: %w", k.ID, err)
	}
	if err := errors.Join(json.Unmarshal([]byte(scopes), &k.Scopes), json.Unmarshal([]byte(servers), &k.Servers)); err != nil {
		return keys.Key{}, 0, fmt.Errorf("lists of key %s: %w", k.ID, err)
	}
	if limits.Valid {
		if err := json.Unmarshal([]byte(limits.String), &k.Limits); err != nil {
			return keys.Key{}, 0, fmt.Errorf("limits of key %s: %w", k.ID, err)
		}
	}
	k.CreatedAt = fromMicros(created)
	k.ExpiresAt, k.DisabledAt, k.DeletedAt = fromMicros(expires.n), fromMicros(disabled.n), fromMicros(deleted.n)
	k.LastUsedAt = fromMicros(used.n)
	return stored(k), n, nil
}

// nullMicros reads a nullable time. Null becomes 0, the zero time.
type nullMicros struct{ n int64 }

// Scan implements sql.Scanner.
func (m *nullMicros) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		m.n = 0
	case int64:
		m.n = v
	default:
		return fmt.Errorf("time is a %T", v)
	}
	return nil
}
