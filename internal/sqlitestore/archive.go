package sqlitestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// archived describes the archived part of the journal. A value of this type never
// changes: when another part of the journal is archived, a new value replaces it.
type archived struct {
	ledger.Archived
	lastID          uuid // the greatest UUIDv7 among the archived ids
	hasIrregularIDs bool // whether the table archived_id, which lists ids without a usable timestamp, has rows
}

// covers reports whether the id may belong to an archived transaction. This is so if
// the id is a UUIDv7 and is not greater than the greatest archived UUIDv7.
func (a *archived) covers(id uuid) bool {
	return a.Files > 0 && id[6]>>4 == 7 && bytes.Compare(id[:], a.lastID[:]) <= 0
}

// Archived returns a summary of the archived part of the journal.
func (s *Store) Archived(ctx context.Context) (ledger.Archived, error) {
	return s.writer.archived.Load().Archived, ctx.Err()
}

// loadArchived reads the summary of the archive.
func (t *tx) loadArchived() error {
	var a archived
	var lastAt int64
	var lastID, sum []byte
	err := t.queryRow(`SELECT n, last_seq, last_at, last_day, last_id, sum, (SELECT sum(transactions) FROM archive), (SELECT sum(charges) FROM archive),
		EXISTS (SELECT 1 FROM archived_id) FROM archive ORDER BY n DESC LIMIT 1`).
		Scan(&a.Files, &a.Last, &lastAt, &a.LastDay, &lastID, &sum, &a.Transactions, &a.Charges, &a.hasIrregularIDs)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	if err == nil {
		a.LastAt, a.lastID, a.Sum = fromMicros(lastAt), uuid(lastID), ledger.Sum(sum)
	}
	t.w.archived.Store(&a)
	return nil
}

// archivedID returns a *ledger.ArchivedError with the given cause if the id was
// archived or, judging by its timestamp, may have been archived.
func (t *tx) archivedID(id uuid, prefix string, cause error) error {
	a := t.w.archived.Load()
	gone := a.covers(id)
	if !gone && a.hasIrregularIDs {
		var one int
		err := t.queryRow(`SELECT 1 FROM archived_id WHERE id = ?`, id[:]).Scan(&one)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		gone = err == nil
	}
	if !gone {
		return nil
	}
	return &ledger.ArchivedError{ID: id.text(prefix), Cause: cause}
}

// refuseArchived returns a *ledger.ArchivedError if the charge with this id may be
// in the archive, so that it is not captured a second time.
func (t *tx) refuseArchived(id uuid) error {
	if a := t.w.archived.Load(); !a.covers(id) && !a.hasIrregularIDs {
		return nil
	}
	_, err := t.byID(id)
	if !errors.Is(err, ledger.ErrNotFound) {
		return err // err is nil if the charge is still in the journal
	}
	return t.archivedID(id, chargePrefix, ledger.ErrSettled)
}

// notInJournal returns the error for a charge that is not in the journal: a
// *ledger.ArchivedError if it may be in the archive, and ledger.ErrNotFound
// otherwise.
func (s *Store) notInJournal(id uuid) error {
	a := s.writer.archived.Load()
	gone := a.covers(id)
	if !gone && a.hasIrregularIDs {
		err := s.readers.QueryRowContext(background(), `SELECT EXISTS (SELECT 1 FROM archived_id WHERE id = ?)`, id[:]).Scan(&gone)
		if err != nil {
			return failure(err)
		}
	}
	if !gone {
		return ledger.ErrNotFound
	}
	e := &ledger.ArchivedError{ID: id.text(chargePrefix), Cause: ledger.ErrNotFound}
	if a.covers(id) {
		made := int64(binary.BigEndian.Uint64(id[:8])>>16) * 1000
		err := s.readers.QueryRowContext(background(), `SELECT n FROM archive WHERE last_at >= ? ORDER BY n LIMIT 1`, made).Scan(&e.File)
		if err = readError(err); err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
	}
	return e
}

// ArchivePart returns the next part of the journal to archive. The part has no
// entries if no transaction is old enough. ArchivePart changes nothing. Errors:
// ledger.ErrInvalid, ErrConflict if no part ends with q.Last.
func (s *Store) ArchivePart(ctx context.Context, q ledger.ArchiveQuery) (ledger.ArchivePart, error) {
	q, err := q.Check(s.now())
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return ledger.ArchivePart{}, err
	}
	done := s.writer.archived.Load()
	p := ledger.ArchivePart{Number: done.Files + 1, Previous: done.Sum}
	rows, err := s.archivable(done.Last, &q)
	if err != nil || len(rows) == 0 && q.Last == 0 {
		return p, err
	}
	p.Entries = make([]ledger.Entry, len(rows))
	for i := range rows {
		if p.Entries[i], err = s.entry(&rows[i]); err != nil {
			return p, err
		}
	}
	if q.Last != 0 && (len(rows) == 0 || p.Last() != q.Last) {
		return p, fmt.Errorf("no part of the journal ends with transaction %d: %w", q.Last, ledger.ErrConflict)
	}
	if p.Opening, err = s.openingBalances(p.Accounts()); err != nil {
		return p, err
	}
	if p.Carried, err = s.carriedBy(p.First(), p.Last()); err != nil {
		return p, err
	}
	return p, p.Close()
}

// archivable reads the transactions after the given one, as many as q allows. It keeps
// a charge and the charge's fee in the same part.
func (s *Store) archivable(after int64, q *ledger.ArchiveQuery) ([]row, error) {
	most := q.Most
	if q.Last != 0 {
		most = int(min(max(q.Last-after, 0), ledger.MaxArchivePart))
	}
	list, err := s.readRows(selectJournal, after, most+1) // one more row, which may be the fee of the last charge
	if err != nil {
		return nil, err
	}
	n, before := 0, micros(q.Before)
	for n < min(most, len(list)) && list[n].at < before {
		n++
	}
	for n > 0 && n < len(list) && list[n].kind == rowFee {
		n--
	}
	return list[:n], nil
}

// entry converts a row to an entry of the archive.
func (s *Store) entry(r *row) (ledger.Entry, error) {
	t, err := s.transaction(r, "")
	if err != nil {
		return ledger.Entry{}, err
	}
	e := ledger.Entry{
		Seq: r.seq, ID: t.ID, Kind: t.Kind, Debtor: t.Debtor, Creditor: t.Creditor, Amount: r.amount, Test: r.test, At: r.at,
		Key: r.key, Lineage: r.lineage, Server: r.server, Tool: r.tool, Waived: r.waived, Fee: r.fee, Ref: r.ref, Reason: r.reason,
	}
	if r.kind == rowCharge {
		e.Day = r.day
	}
	if r.feeTo != 0 {
		s.books.mu.Lock()
		operator := s.books.number(r.feeTo)
		s.books.mu.Unlock()
		if operator == nil {
			return e, failure(fmt.Errorf("transaction %d names an account that does not exist", r.seq))
		}
		e.FeeTo = operator.id
	}
	return e, nil
}

// openingBalances reads the balances that the accounts had before the first
// transaction that is still in the journal.
func (s *Store) openingBalances(accounts []string) ([]ledger.RunningBalance, error) {
	list := make([]ledger.RunningBalance, len(accounts))
	for i, id := range accounts {
		s.books.mu.Lock()
		n := s.books.byID[id].n
		s.books.mu.Unlock()
		b := &list[i]
		b.Account = id
		err := s.readers.QueryRowContext(background(), `SELECT live, test, paid, earned FROM archived_account WHERE account = ?`, n).
			Scan((*int64)(&b.Live), (*int64)(&b.Test), &b.Paid, &b.Earned)
		if err = readError(err); err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return nil, err
		}
	}
	return list, nil
}

// selectCarried reads archived charges from the table carried. The query returns the
// columns of selectRow, with null for the settler. It also returns one more column:
// the part of the fee that was returned with refunds.
const selectCarried = `SELECT seq, id, 1, debtor, creditor, amount, test, at, 0, 0, key, lineage, server, tool, NULL, NULL, day, waived, fee, fee_to,
	NULL, NULL, refunded, fee_back FROM carried `

// carriedBy reads the archived charges to which a range of transactions refers. The
// range includes its first and its last transaction.
func (s *Store) carriedBy(first, last int64) ([]ledger.Carried, error) {
	rows, err := s.readers.QueryContext(background(), selectCarried+
		`WHERE EXISTS (SELECT 1 FROM txn t WHERE t.ref = carried.seq AND t.ref IS NOT NULL AND t.seq BETWEEN ? AND ?) ORDER BY seq`, first, last)
	if err != nil {
		return nil, failure(err)
	}
	defer rows.Close()
	var list []ledger.Carried
	for rows.Next() {
		var r row
		var c ledger.Carried
		if err := r.scan(rows, (*int64)(&c.FeeBack)); err != nil {
			return nil, failure(err)
		}
		if c.Entry, err = s.entry(&r); err != nil {
			return nil, err
		}
		c.Refunded = r.refunded
		list = append(list, c)
	}
	return list, failure(rows.Err())
}

// Archive removes a part from the journal and records it with its audit row, in one
// transaction. The part must already be in a durable file, and sum must be the hash in
// the seal of that file. Errors: ledger.ErrConflict if the part is not the next one.
func (s *Store) Archive(ctx context.Context, p *ledger.ArchivePart, sum ledger.Sum, a ledger.Audit) error {
	select {
	case s.verifying <- struct{}{}: // wait for a running verification, because it reads the rows that Archive deletes
		defer func() { <-s.verifying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(p.Entries) > 0 {
		if err := s.sumUsageTo(ctx, p.Last()); err != nil {
			return err
		}
	}
	return s.do(ctx, func(t *tx) error {
		now := s.now()
		if err := t.nextPart(p, now); err != nil {
			return err
		}
		if err := t.removePart(p, sum, now); err != nil {
			return err
		}
		return t.audit(a, now)
	})
}

// nextPart returns ledger.ErrConflict if p is not the next part of the journal or
// is younger than ledger.MinArchiveAge.
func (t *tx) nextPart(p *ledger.ArchivePart, now time.Time) error {
	done := t.w.archived.Load()
	if p.Number != done.Files+1 || p.Previous != done.Sum || len(p.Entries) == 0 || p.First() <= done.Last || p.Last() > t.w.committed {
		return fmt.Errorf("it is not the next part of the journal: %w", ledger.ErrConflict)
	}
	var n, newest int64
	if err := t.queryRow(`SELECT count(*), max(at) FROM txn WHERE seq <= ?`, p.Last()).Scan(&n, &newest); err != nil {
		return err
	}
	if n != int64(len(p.Entries)) || newest > micros(now.Add(-ledger.MinArchiveAge)) {
		return fmt.Errorf("it is not what the journal has, or too young: %w", ledger.ErrConflict)
	}
	return nil
}

// removePart enters the part in the table archive and removes its transactions from
// the journal.
func (t *tx) removePart(p *ledger.ArchivePart, sum ledger.Sum, now time.Time) error {
	w := t.w
	// Write all snapshots, because a replay must not need the removed transactions.
	if err := t.flush(len(w.dirty), true); err != nil {
		return err
	}
	next := *w.archived.Load()
	next.Files, next.Last, next.Sum = p.Number, p.Last(), sum
	next.LastAt = fromMicros(p.Entries[len(p.Entries)-1].At)
	next.LastDay = max(next.LastDay, p.LastDay())
	next.Transactions += int64(len(p.Entries))
	next.Charges += p.Charges()
	if err := t.archiveIDs(p, &next); err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO archive (n, at, first_seq, last_seq, last_at, transactions, charges, last_day, last_id, sum) VALUES (?,?,?,?,?,?,?,?,?,?)`,
		p.Number, micros(now), p.First(), p.Last(), micros(next.LastAt), len(p.Entries), p.Charges(), next.LastDay, next.lastID[:], sum[:]); err != nil {
		return err
	}
	for i := range p.Closing {
		b := &p.Closing[i]
		w.books.mu.Lock()
		n := w.books.byID[b.Account].n
		w.books.mu.Unlock()
		if _, err := t.exec(`INSERT INTO archived_account (account, live, test, paid, earned) VALUES (?,?,?,?,?) ON CONFLICT (account) DO UPDATE SET
			live = excluded.live, test = excluded.test, paid = excluded.paid, earned = excluded.earned`,
			n, int64(b.Live), int64(b.Test), b.Paid, b.Earned); err != nil {
			return err
		}
	}
	for _, query := range removePartQueries {
		if _, err := t.exec(query, p.Last()); err != nil {
			return err
		}
	}
	t.after = append(t.after, func() { w.archived.Store(&next) })
	return nil
}

// removePartQueries remove the transactions up to the given one. First, they record the
// time up to which the sums of usage cannot be verified any more. They also copy a
// charge into the table carried if a later transaction refers to it.
var removePartQueries = [...]string{
	`UPDATE usage_state SET archived_at = max(archived_at, (SELECT coalesce(max(at), 0) FROM txn WHERE seq <= ?))`,
	`UPDATE carried SET
		refunded = refunded + (SELECT coalesce(sum(amount), 0) FROM txn WHERE ref = carried.seq AND ref IS NOT NULL AND kind = 3 AND seq <= ?1),
		fee_back = fee_back + (SELECT coalesce(sum(amount), 0) FROM txn WHERE ref = carried.seq AND ref IS NOT NULL AND kind = 5 AND debtor = carried.fee_to AND seq <= ?1)`,
	`INSERT INTO carried (seq, id, debtor, creditor, amount, test, at, key, lineage, server, tool, day, waived, fee, fee_to, refunded, fee_back)
		SELECT seq, id, debtor, creditor, amount, test, at, key, lineage, server, tool, day, waived, fee, fee_to,
			(SELECT coalesce(sum(amount), 0) FROM txn r WHERE r.ref = c.seq AND r.ref IS NOT NULL AND r.kind = 3 AND r.seq <= ?1),
			(SELECT coalesce(sum(amount), 0) FROM txn r WHERE r.ref = c.seq AND r.ref IS NOT NULL AND r.kind = 5 AND r.debtor = c.fee_to AND r.seq <= ?1)
		FROM txn c WHERE kind = 1 AND seq <= ?1 AND seq IN (SELECT ref FROM txn WHERE ref IS NOT NULL AND ref <= ?1 AND seq > ?1)`,
	`DELETE FROM carried WHERE NOT EXISTS (SELECT 1 FROM txn WHERE ref = carried.seq AND ref IS NOT NULL AND seq > ?)`,
	`DELETE FROM txn WHERE seq <= ?`,
}

// maxClockSkew is how far the timestamp in an id may be ahead of the time of its
// transaction.
const maxClockSkew = 24 * time.Hour

// archiveIDs records the ids of a part. The greatest UUIDv7 stands for all smaller
// ones. Ids of other versions, and ids with a timestamp too far ahead, are recorded
// one by one.
func (t *tx) archiveIDs(p *ledger.ArchivePart, next *archived) error {
	for i := range p.Entries {
		e := &p.Entries[i]
		prefix := otherPrefix
		if e.Kind == ledger.KindCharge {
			prefix = chargePrefix
		}
		id, err := parseID(prefix, e.ID)
		if err != nil {
			return err
		}
		made := time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
		if id[6]>>4 == 7 && made.Before(time.UnixMicro(e.At).Add(maxClockSkew)) {
			if bytes.Compare(id[:], next.lastID[:]) > 0 {
				next.lastID = id
			}
			continue
		}
		next.hasIrregularIDs = true
		if _, err := t.exec(`INSERT INTO archived_id (id) VALUES (?) ON CONFLICT DO NOTHING`, id[:]); err != nil {
			return err
		}
	}
	return nil
}
