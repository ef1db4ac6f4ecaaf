package pgstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgquery"
	"github.com/fareboxhq/farebox/internal/pgvalue"
)

// archived is the state of the archive as this node last read it.
type archived struct {
	ledger.Archived
	lastID uuid.UUID // the greatest UUIDv7 among the archived ids
	odd    bool      // whether the table archived_id has rows; it lists archived ids without a usable timestamp
}

const selectArchived = `SELECT n, last_seq, last_at, last_day, last_id, sum, (SELECT sum(transactions) FROM archive)::bigint,
	(SELECT sum(charges) FROM archive)::bigint, EXISTS (SELECT FROM archived_id) FROM archive ORDER BY n DESC LIMIT 1`

// scanArchived reads the row of selectArchived. Without a row it returns a zero value.
func scanArchived(from pgx.Row) (a archived, err error) {
	var lastAt time.Time
	var lastID pgtype.UUID
	var sum []byte
	err = from.Scan(&a.Files, &a.Last, &lastAt, &a.LastDay, &lastID, &sum, &a.Transactions, &a.Charges, &a.odd)
	if errors.Is(err, pgx.ErrNoRows) {
		return archived{}, nil
	}
	if err == nil {
		a.LastAt, a.lastID = pgvalue.Micro(lastAt), lastID.Bytes
		copy(a.Sum[:], sum)
	}
	return a, err
}

// readArchived reads the state of the archive from the database into s.archived.
func (s *Store) readArchived(ctx context.Context) error {
	a, err := scanArchived(s.pool.QueryRow(ctx, selectArchived))
	if err != nil {
		return pgquery.Failure(ctx, err)
	}
	s.archived.Store(&a)
	return nil
}

// Archived returns the state of the archive: how much of the journal it has taken.
func (s *Store) Archived(ctx context.Context) (ledger.Archived, error) {
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	err := s.db.Retry(ctx, func() error { return s.readArchived(ctx) })
	return s.archived.Load().Archived, err
}

// covers reports whether the time in the id lies within the archived period.
func (a *archived) covers(id uuid.UUID) bool {
	return a.Files > 0 && id.Version() == 7 && bytes.Compare(id[:], a.lastID[:]) <= 0
}

// again returns an ArchivedError for a new charge if its id was archived or if the time
// in the id lies in the archived period. It relies on s.archived, which may be out of
// date. This is safe, because the database itself refuses every archived id.
func (s *Store) again(ctx context.Context, id uuid.UUID) error {
	if a := s.archived.Load(); !a.covers(id) && (!a.odd || id.Version() == 7) {
		return nil
	}
	ctx, cancel := pgquery.Bounded(ctx)
	defer cancel()
	var gone bool
	if err := s.db.Row(ctx, `SELECT was_archived($1) AND NOT EXISTS (SELECT FROM txn WHERE id = $1)`, []any{asUUID(id)}, &gone); err != nil {
		return pgquery.Failure(ctx, err)
	}
	if gone {
		return &ledger.ArchivedError{ID: chargePrefix + id.String(), Cause: ledger.ErrSettled}
	}
	return nil
}

// absent returns the error for an id that is not in the journal: notFound, or an
// ArchivedError with the number of the file if the id belongs to the archive.
func (s *Store) absent(ctx context.Context, id uuid.UUID, prefix string, notFound error) error {
	var gone bool
	var file int64
	made := time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
	if id.Version() != 7 {
		made = time.Unix(1<<33, 0) // the id contains no time, so use a time in the far future, after which no archive file ends
	}
	err := s.db.Row(ctx, `SELECT was_archived($1), coalesce((SELECT min(n) FROM archive WHERE last_at >= $2), 0)`, []any{asUUID(id), made}, &gone, &file)
	switch {
	case err != nil:
		return pgquery.Failure(ctx, err)
	case gone:
		return &ledger.ArchivedError{ID: prefix + id.String(), File: file, Cause: ledger.ErrNotFound}
	}
	return notFound
}

// noCharge returns the error for a refund of a charge that is not in the journal.
func (s *Store) noCharge(ctx context.Context, charge string, notFound error) error {
	id, err := parseID(chargePrefix, charge)
	if err != nil {
		return notFound
	}
	return s.absent(ctx, id, chargePrefix, notFound)
}

// isArchived reports whether err comes from the trigger that keeps archived ids from
// being written again.
func isArchived(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "FB001"
}

// selectArchivable reads at most $3 transactions older than $4, with numbers above $1
// and up to $2. It stops before a charge if the charge's fee is not among these transactions,
// so that a charge and its fee are never separated.
const selectArchivable = `WITH part AS MATERIALIZED (
		SELECT * FROM txn WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3
	), old AS MATERIALIZED (
		SELECT * FROM part WHERE seq < coalesce((SELECT min(seq) FROM part WHERE at >= $4), 9223372036854775807)
	), whole AS (
		SELECT coalesce(min(o.seq), 9223372036854775807) AS below FROM old o
		WHERE o.kind = 1 AND o.fee > 0 AND EXISTS (
			SELECT FROM txn x WHERE x.ref = o.seq AND x.kind = 5 AND x.debtor = o.creditor AND x.seq > (SELECT max(seq) FROM old))
	)
	SELECT o.seq, o.id, o.kind, d.id, c.id, o.amount, o.test, o.at, coalesce(o.key, ''), coalesce(o.lineage, ''), coalesce(o.server, ''), coalesce(o.tool, ''),
		coalesce(o.day, 0), coalesce(o.waived, 0), coalesce(o.fee, 0), coalesce(f.id, ''), coalesce(o.ref, 0), coalesce(o.reason, '')
	FROM old o JOIN account d ON d.n = o.debtor JOIN account c ON c.n = o.creditor LEFT JOIN account f ON f.n = o.fee_to
	WHERE o.seq < (SELECT below FROM whole) ORDER BY o.seq`

const selectCarried = `SELECT k.seq, k.id, 1, d.id, c.id, k.amount, k.test, k.at, coalesce(k.key, ''), coalesce(k.lineage, ''), coalesce(k.server, ''), coalesce(k.tool, ''),
		coalesce(k.day, 0), coalesce(k.waived, 0), coalesce(k.fee, 0), coalesce(f.id, ''), 0::bigint, '', k.refunded, k.fee_back
	FROM carried k JOIN account d ON d.n = k.debtor JOIN account c ON c.n = k.creditor LEFT JOIN account f ON f.n = k.fee_to
	WHERE EXISTS (SELECT FROM txn t WHERE t.ref = k.seq AND t.seq BETWEEN $1 AND $2) ORDER BY k.seq`

// scanEntry reads a row of selectArchivable into an entry. Its last arguments are
// pointers for further columns of the query.
func scanEntry(row pgx.CollectableRow, more ...any) (e ledger.Entry, err error) {
	var id pgtype.UUID
	var kind int
	var at time.Time
	fields := []any{&e.Seq, &id, &kind, &e.Debtor, &e.Creditor, (*int64)(&e.Amount), &e.Test, &at, &e.Key, &e.Lineage, &e.Server, &e.Tool,
		&e.Day, (*int64)(&e.Waived), (*int64)(&e.Fee), &e.FeeTo, &e.Ref, &e.Reason}
	if err := row.Scan(append(fields, more...)...); err != nil {
		return e, err
	}
	for _, text := range []*string{&e.Debtor, &e.Creditor, &e.Key, &e.Lineage, &e.Server, &e.Tool, &e.FeeTo, &e.Reason} {
		*text = pgvalue.Unpack(*text)
	}
	prefix := otherPrefix
	if e.Kind = kinds[kind]; e.Kind == ledger.KindCharge {
		prefix = chargePrefix
	}
	e.ID, e.At = prefix+uuid.UUID(id.Bytes).String(), at.UnixMicro()
	return e, nil
}

// ArchivePart returns the next part of the journal to archive. The part has no
// entries if no transaction is old enough. ArchivePart changes nothing. Errors:
// ledger.ErrInvalid, ErrConflict if no part ends at q.Last, ErrUnavailable.
func (s *Store) ArchivePart(ctx context.Context, q ledger.ArchiveQuery) (ledger.ArchivePart, error) {
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer cancel()
	// Transactions that commit later have numbers above journal_end.
	var end int64
	var now time.Time
	if err := s.db.Row(ctx, `SELECT journal_end(), moved_clock($1)`, []any{s.shift()}, &end, &now); err != nil {
		return ledger.ArchivePart{}, pgquery.Failure(ctx, err)
	}
	q, err := q.Check(now)
	if err != nil {
		return ledger.ArchivePart{}, err
	}
	if q.Last != 0 {
		end, q.Most = min(end, q.Last), ledger.MaxArchivePart
	}
	tx, err := s.db.Begin(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return ledger.ArchivePart{}, pgquery.Failure(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the transaction is read-only
	p, err := archivePart(ctx, tx, &q, end)
	switch {
	case err != nil:
		return p, pgquery.Failure(ctx, err)
	case q.Last == 0 && len(p.Entries) == 0:
		return p, nil
	case q.Last != 0 && (len(p.Entries) == 0 || p.Last() != q.Last):
		return p, fmt.Errorf("no part of the journal ends with transaction %d: %w", q.Last, ledger.ErrConflict)
	}
	return p, p.Close()
}

func archivePart(ctx context.Context, tx pgx.Tx, q *ledger.ArchiveQuery, end int64) (p ledger.ArchivePart, err error) {
	done, err := scanArchived(tx.QueryRow(ctx, selectArchived))
	if err != nil {
		return p, err
	}
	p = ledger.ArchivePart{Number: done.Files + 1, Previous: done.Sum}
	rows, err := tx.Query(ctx, selectArchivable, done.Last, end, q.Most, q.Before)
	if err != nil {
		return p, err
	}
	p.Entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ledger.Entry, error) { return scanEntry(row) })
	if err != nil || len(p.Entries) == 0 {
		return p, err
	}
	rows, err = tx.Query(ctx, `SELECT u.id, coalesce(o.live, 0), coalesce(o.test, 0), coalesce(o.paid, 0), coalesce(o.earned, 0)
		FROM unnest($1::text[]) WITH ORDINALITY AS u (id, ord) JOIN account a ON a.id = u.id LEFT JOIN archived_account o ON o.account = a.n ORDER BY u.ord`, p.Accounts())
	if err != nil {
		return p, err
	}
	p.Opening, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b ledger.RunningBalance, err error) {
		return b, row.Scan(&b.Account, (*int64)(&b.Live), (*int64)(&b.Test), &b.Paid, &b.Earned)
	})
	if err != nil {
		return p, err
	}
	rows, err = tx.Query(ctx, selectCarried, p.First(), p.Last())
	if err != nil {
		return p, err
	}
	p.Carried, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c ledger.Carried, err error) {
		c.Entry, err = scanEntry(row, (*int64)(&c.Refunded), (*int64)(&c.FeeBack))
		return c, err
	})
	return p, err
}

// archiveTime bounds the reading of a part, and its removal.
const archiveTime = 2 * time.Minute
