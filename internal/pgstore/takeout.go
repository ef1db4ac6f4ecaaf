package pgstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/pgschema"
)

// Archive removes the part p from the journal and records it with its audit row, in one
// transaction. Captures wait until the transaction ends. The part must already be in a
// durable file, and sum must be the hash in the seal of that file. Errors:
// ledger.ErrConflict if the part is not the next one, ErrUnavailable if the outcome is
// unknown; Archived then shows the outcome.
func (s *Store) Archive(ctx context.Context, p *ledger.ArchivePart, sum ledger.Sum, a ledger.Audit) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTime)
	defer cancel()
	if len(p.Entries) > 0 {
		if err := s.SumUsageTo(ctx, p.Last()); err != nil {
			return err
		}
	}
	err := s.change(ctx, a, func(ctx context.Context, c *changes) error {
		// Writers to the journal take this lock in shared mode. While it is held
		// exclusively, no refund of a charge in the part can commit.
		if _, err := c.tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, pgschema.LockSpace, pgschema.JournalLock); err != nil {
			return err
		}
		next, err := s.nextPart(ctx, c, p)
		if err != nil {
			return err
		}
		return takeOut(ctx, c, p, &next, sum, s.shift())
	})
	if err != nil {
		return err
	}
	return s.readArchived(ctx)
}

// nextPart returns the state of the archive. It refuses a part that is too young or is
// not the next one.
func (s *Store) nextPart(ctx context.Context, c *changes, p *ledger.ArchivePart) (done archived, err error) {
	if done, err = scanArchived(c.tx.QueryRow(ctx, selectArchived)); err != nil {
		return done, err
	}
	if p.Number != done.Files+1 || p.Previous != done.Sum || len(p.Entries) == 0 || p.First() <= done.Last {
		return done, refuse("it is not the next part of the journal: %w", ledger.ErrConflict)
	}
	var n int
	var newest *time.Time
	var old bool
	err = c.tx.QueryRow(ctx, `SELECT count(*), max(at), coalesce(max(at) <= moved_clock($2) - $3::interval, false) FROM txn WHERE seq <= $1`,
		p.Last(), s.shift(), ledger.MinArchiveAge).Scan(&n, &newest, &old)
	if err == nil && (n != len(p.Entries) || !old) {
		err = refuse("it is not what the journal has, or too young: %w", ledger.ErrConflict)
	}
	return done, err
}

// takeOut records the part in the archive, and removes its transactions.
func takeOut(ctx context.Context, c *changes, p *ledger.ArchivePart, next *archived, sum ledger.Sum, shift int64) error {
	last := p.Entries[len(p.Entries)-1]
	odd, err := archiveIDs(p, next)
	if err != nil {
		return err
	}
	n := len(p.Closing)
	accounts, live, test, paid, earned := make([]string, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, b := range p.Closing {
		accounts[i], live[i], test[i], paid[i], earned[i] = b.Account, int64(b.Live), int64(b.Test), b.Paid, b.Earned
	}
	var b pgx.Batch
	b.Queue(`INSERT INTO archive (n, at, first_seq, last_seq, last_at, transactions, charges, last_day, last_id, sum) VALUES ($1, moved_clock($2), $3, $4, $5, $6, $7, $8, $9, $10)`,
		p.Number, shift, p.First(), p.Last(), time.UnixMicro(last.At), len(p.Entries), p.Charges(), max(next.LastDay, p.LastDay()), asUUID(next.lastID), sum[:])
	b.Queue(`UPDATE usage_state SET archived_at = greatest(archived_at, (SELECT (extract(epoch FROM max(at)) * 1000000)::bigint FROM txn WHERE seq <= $1))`, p.Last())
	b.Queue(`INSERT INTO archived_id (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING`, odd)
	b.Queue(`INSERT INTO archived_account (account, live, test, paid, earned)
		SELECT a.n, u.live, u.test, u.paid, u.earned FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS u (id, live, test, paid, earned)
		JOIN account a ON a.id = u.id
		ON CONFLICT (account) DO UPDATE SET live = excluded.live, test = excluded.test, paid = excluded.paid, earned = excluded.earned`,
		accounts, live, test, paid, earned)
	for _, query := range takeOutQueries {
		b.Queue(query, p.Last())
	}
	b.Queue(`DELETE FROM spend_counter WHERE day <= $1 AND held = 0 AND waiting = 0`, max(next.LastDay, p.LastDay()))
	if err := c.tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("taking a part out of the journal: %w", err)
	}
	return nil
}

// takeOutQueries remove the transactions up to number $1. They keep copies of
// charges that later transactions refer to.
var takeOutQueries = [...]string{
	`UPDATE carried k SET
		refunded = refunded + (SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = k.seq AND r.kind = 3 AND r.seq <= $1),
		fee_back = fee_back + (SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = k.seq AND r.kind = 5 AND r.debtor = k.fee_to AND r.seq <= $1)`,
	`INSERT INTO carried (seq, id, debtor, creditor, amount, test, at, key, lineage, server, tool, day, waived, fee, fee_to, refunded, fee_back)
		SELECT seq, id, debtor, creditor, amount, test, at, key, lineage, server, tool, day, waived, fee, fee_to,
			(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = c.seq AND r.kind = 3 AND r.seq <= $1),
			(SELECT coalesce(sum(r.amount), 0) FROM txn r WHERE r.ref = c.seq AND r.kind = 5 AND r.debtor = c.fee_to AND r.seq <= $1)
		FROM txn c WHERE c.kind = 1 AND c.seq <= $1 AND EXISTS (SELECT FROM txn x WHERE x.ref = c.seq AND x.ref <= $1 AND x.seq > $1)`,
	`DELETE FROM carried WHERE NOT EXISTS (SELECT FROM txn x WHERE x.ref = carried.seq AND x.seq > $1)`,
	`DELETE FROM txn WHERE seq <= $1`,
}

// aheadOfTime is how far the time in an id may be ahead of the time of its
// transaction, because clocks differ.
const aheadOfTime = 24 * time.Hour

// archiveIDs raises next.lastID to the part's greatest id with a usable time, and
// returns the ids without a usable time.
func archiveIDs(p *ledger.ArchivePart, next *archived) (odd []pgtype.UUID, err error) {
	odd = []pgtype.UUID{}
	for i := range p.Entries {
		e := &p.Entries[i]
		prefix := otherPrefix
		if e.Kind == ledger.KindCharge {
			prefix = chargePrefix
		}
		id, err := parseID(prefix, e.ID)
		if err != nil {
			return nil, err
		}
		if made := time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)); id.Version() == 7 && made.Before(time.UnixMicro(e.At).Add(aheadOfTime)) {
			if bytes.Compare(id[:], next.lastID[:]) > 0 {
				next.lastID = id
			}
			continue
		}
		odd = append(odd, asUUID(id))
	}
	return odd, nil
}

// opening reads the archived balances and figures with which the journal starts.
func opening(ctx context.Context, tx pgx.Tx, v *ledger.Verification) error {
	done, err := scanArchived(tx.QueryRow(ctx, selectArchived))
	if err != nil {
		return err
	}
	v.Archived = done.Archived
	rows, err := tx.Query(ctx, `SELECT coalesce(a.id, ''), o.live, o.test, o.paid, o.earned FROM archived_account o LEFT JOIN account a ON a.n = o.account`)
	if err != nil {
		return err
	}
	balances, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b ledger.RunningBalance, err error) {
		return b, row.Scan(&b.Account, (*int64)(&b.Live), (*int64)(&b.Test), &b.Paid, &b.Earned)
	})
	v.Opening = ledger.SumBalances(balances)
	return err
}
