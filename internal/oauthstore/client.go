package oauthstore

import (
	"context"
	"time"

	"github.com/fareboxhq/farebox/internal/oauth/client"
	"github.com/fareboxhq/farebox/internal/sqltx"
)

// Clients implements client.Store. It is safe for concurrent use.
type Clients struct{ rows *sqltx.Store[sqltx.Rows] }

// NewClients returns the clients in the database, which must have the tables of OAuth.
func NewClients(db sqltx.Database) *Clients {
	return &Clients{sqltx.NewStore(db, func(r sqltx.Rows) sqltx.Rows { return r })}
}

// one reads the columns of one row.
func (c *Clients) one(ctx context.Context, row func(scan func(...any) error) error, query string, args ...any) error {
	return c.rows.View(ctx, func(r sqltx.Rows) error { return r.One(row, query, args...) })
}

// exec runs a statement in a transaction.
func (c *Clients) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = c.rows.Change(ctx, func(r sqltx.Rows) (err error) {
		n, err = r.Exec(query, args...)
		return err
	})
	return n, err
}

// Registration returns the registered client with the id.
func (c *Clients) Registration(ctx context.Context, id string) (r client.Registration, err error) {
	err = c.one(ctx, func(scan func(...any) error) error {
		var secret []byte
		var created, used int64
		if err := scan(&r.ID, &r.Name, &r.Metadata, &secret, &r.Source, &created, &used); err != nil {
			return err
		}
		copy(r.Secret[:], secret)
		r.CreatedAt, r.UsedAt = sqltx.Time(created), sqltx.Time(used)
		return nil
	}, `SELECT id, name, metadata, secret, source, created_at, used_at FROM oauth_client WHERE id = $1`, id)
	return r, err
}

// InsertRegistration stores a registered client.
func (c *Clients) InsertRegistration(ctx context.Context, r *client.Registration) error {
	secret := []byte{}
	if r.Secret != (client.Digest{}) {
		secret = r.Secret[:]
	}
	return c.rows.Change(ctx, func(rows sqltx.Rows) error {
		return rows.Insert(`INSERT INTO oauth_client (id, name, metadata, secret, source, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
			r.ID, r.Name, r.Metadata, secret, r.Source, sqltx.Micros(r.CreatedAt), sqltx.Micros(r.UsedAt))
	})
}

// TouchRegistration writes the time of a client's last use. It does nothing if there is no
// such client any more.
func (c *Clients) TouchRegistration(ctx context.Context, id string, used time.Time) error {
	_, err := c.exec(ctx, `UPDATE oauth_client SET used_at = $2 WHERE id = $1`, id, sqltx.Micros(used))
	return err
}

// CountUnfinished counts the clients that were never used: those of a source, and all.
func (c *Clients) CountUnfinished(ctx context.Context, source string) (bySource, total int64, err error) {
	err = c.one(ctx, func(scan func(...any) error) error { return scan(&bySource, &total) },
		`SELECT count(*) FILTER (WHERE source = $1), count(*) FROM oauth_client WHERE used_at = 0`, source)
	return bySource, total, err
}

// DeleteRegistrations deletes clients that were never used, or not for long.
func (c *Clients) DeleteRegistrations(ctx context.Context, unfinished, unused time.Time) (int64, error) {
	return c.exec(ctx, `DELETE FROM oauth_client WHERE used_at = 0 AND created_at < $1 OR used_at > 0 AND used_at < $2`, sqltx.Micros(unfinished), sqltx.Micros(unused))
}

// Document returns the metadata document with the URL.
func (c *Clients) Document(ctx context.Context, url string) (d client.Document, err error) {
	err = c.one(ctx, func(scan func(...any) error) error {
		var fetched, fresh, failed int64
		if err := scan(&d.URL, &d.Body, &fetched, &fresh, &failed); err != nil {
			return err
		}
		d.FetchedAt, d.FreshTo, d.FailedAt = sqltx.Time(fetched), sqltx.Time(fresh), sqltx.Time(failed)
		return nil
	}, `SELECT url, body, fetched_at, fresh_to, failed_at FROM oauth_document WHERE url = $1`, url)
	return d, err
}

// PutDocument inserts or replaces the document of a URL.
func (c *Clients) PutDocument(ctx context.Context, d *client.Document) error {
	_, err := c.exec(ctx, `INSERT INTO oauth_document (url, body, fetched_at, fresh_to, failed_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (url) DO UPDATE SET body = excluded.body, fetched_at = excluded.fetched_at, fresh_to = excluded.fresh_to, failed_at = excluded.failed_at`,
		d.URL, d.Body, sqltx.Micros(d.FetchedAt), sqltx.Micros(d.FreshTo), sqltx.Micros(d.FailedAt))
	return err
}

// CountDocuments returns the number of documents.
func (c *Clients) CountDocuments(ctx context.Context) (n int64, err error) {
	err = c.one(ctx, func(scan func(...any) error) error { return scan(&n) }, `SELECT count(*) FROM oauth_document`)
	return n, err
}

// DeleteDocuments deletes the documents that were fetched before the time.
func (c *Clients) DeleteDocuments(ctx context.Context, fetched time.Time) (int64, error) {
	return c.exec(ctx, `DELETE FROM oauth_document WHERE fetched_at < $1`, sqltx.Micros(fetched))
}

// UseOnce stores the digest of an assertion's id.
func (c *Clients) UseOnce(ctx context.Context, d client.Digest, expires time.Time) error {
	return c.rows.Change(ctx, func(r sqltx.Rows) error {
		return r.Insert(`INSERT INTO oauth_assertion (digest, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, d[:], sqltx.Micros(expires))
	})
}

// DeleteUsed deletes the digests that expired before the time.
func (c *Clients) DeleteUsed(ctx context.Context, expired time.Time) (int64, error) {
	return c.exec(ctx, `DELETE FROM oauth_assertion WHERE expires_at < $1`, sqltx.Micros(expired))
}

var _ client.Store = (*Clients)(nil)
