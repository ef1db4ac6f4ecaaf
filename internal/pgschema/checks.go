package pgschema

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Check verifies the books in a transaction that reads from one snapshot. It returns at
// most the given number of differences, each as a sentence. Before each check, it calls
// progress(done, total) with the number of checks that are done.
func Check(ctx context.Context, tx pgx.Tx, most int, progress func(done, total int64)) (differences []string, err error) {
	for i, check := range checks {
		progress(int64(i), int64(len(checks)))
		rows, err := tx.Query(ctx, check+` LIMIT `+strconv.Itoa(most))
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		differences = append(differences, found[:min(len(found), most-len(differences))]...)
	}
	return differences, nil
}

// checks are the queries that verify the books. Each query returns one text for each
// difference that it finds. Amounts are in micro-units. The queries must all read from
// one snapshot.
var checks = [...]string{
	// Each balance must be the sum of the account's entries in the journal and in the
	// archive.
	`WITH replay AS (
		SELECT account, test, sum(amount) AS sum FROM (
			SELECT account, test, amount FROM entry
			UNION ALL SELECT account, false, live FROM archived_account
			UNION ALL SELECT account, true, test FROM archived_account
		) x GROUP BY account, test
	), stored AS (
		SELECT n AS account, name, false AS test, live + coalesce((SELECT sum(e.amount) FROM earning e WHERE e.account = n AND NOT e.test), 0) AS sum FROM account
		UNION ALL
		SELECT n, name, true, account.test + coalesce((SELECT sum(e.amount) FROM earning e WHERE e.account = n AND e.test), 0) FROM account
	)
	SELECT format('account %s: the %s balance is %s micro-units, but the journal gives %s', coalesce(name, 'number ' || account),
		CASE WHEN test THEN 'test' ELSE 'live' END, coalesce(stored.sum::text, 'of no such account'), coalesce(replay.sum, 0))
	FROM stored FULL JOIN replay USING (account, test)
	WHERE stored.sum IS DISTINCT FROM coalesce(replay.sum, 0)`,
	// The reserved credits of each account must be the sum of its open reservations.
	`WITH held AS (
		SELECT payer AS account, test, sum(CASE WHEN waived THEN 0 ELSE amount END) AS sum FROM reservation WHERE state = 1 GROUP BY payer, test
	), stored AS (
		SELECT n AS account, name, false AS test, live_reserved AS sum FROM account
		UNION ALL SELECT n, name, true, test_reserved FROM account
	)
	SELECT format('account %s: %s micro-units are reserved in the %s balance, but its reservations hold %s', coalesce(name, 'number ' || account),
		coalesce(stored.sum::text, 'no'), CASE WHEN test THEN 'test' ELSE 'live' END, coalesce(held.sum, 0))
	FROM stored FULL JOIN held USING (account, test)
	WHERE stored.sum IS DISTINCT FROM coalesce(held.sum, 0)`,
	// The spend counters of caps and quotas must agree with the charges and the open
	// reservations of all days after the last archived day.
	`WITH since AS (
		SELECT coalesce(max(last_day), -2147483648) AS day FROM archive
	), moved AS (
		SELECT debtor AS account, lineage, server, test, day, amount AS spent, 0 AS held, (waived IS NOT NULL)::int AS free, 0 AS waiting
		FROM txn WHERE kind = 1
		UNION ALL
		SELECT payer, lineage, server, test, day, 0, CASE WHEN waived THEN 0 ELSE amount END, 0, waived::int FROM reservation WHERE state = 1
	), want AS (
		SELECT account, h.holder, h.name, test, day, least(sum(spent), 9223372036854775807) AS spent, sum(held) AS held, sum(free) AS free, sum(waiting) AS waiting
		FROM moved CROSS JOIN LATERAL (VALUES (0::smallint, lineage), (1, ''), (2, server)) AS h (holder, name)
		GROUP BY account, h.holder, h.name, test, day
	)
	SELECT format('account number %s, %s %s, day %s: %s micro-units and %s free calls are counted as spent, and %s and %s as held, but the journal and the reservations give %s, %s, %s and %s',
		account, CASE holder WHEN 0 THEN 'keys of lineage' WHEN 1 THEN 'all' ELSE 'server' END, name, day,
		m.spent, m.free, m.held, m.waiting, w.spent, w.free, w.held, w.waiting)
	FROM spend_counter m FULL JOIN want w USING (account, holder, name, test, day)
	WHERE day > (SELECT s.day FROM since s) AND (coalesce(m.spent, 0), coalesce(m.held, 0), coalesce(m.free, 0), coalesce(m.waiting, 0))
		IS DISTINCT FROM (coalesce(w.spent, 0), coalesce(w.held, 0), coalesce(w.free, 0), coalesce(w.waiting, 0))`,
	// Each refund must name a charge between the same two accounts, and the refunds of
	// a charge must not exceed the charge.
	`SELECT format('transaction %s is a refund of %s, which is no charge that it could refund', r.seq, r.ref)
	FROM txn r LEFT JOIN known_charge c ON c.seq = r.ref AND c.debtor = r.creditor AND c.creditor = r.debtor AND c.test = r.test
	WHERE r.kind = 3 AND c.seq IS NULL`,
	`SELECT format('refunds of %s micro-units are more than the charge %s of %s', sum(r.amount) + c.refunded, c.seq, c.amount)
	FROM txn r JOIN known_charge c ON c.seq = r.ref WHERE r.kind = 3 GROUP BY c.seq, c.amount, c.refunded HAVING sum(r.amount) + c.refunded > c.amount`,
	// Each charge with a fee must have one fee transaction in the journal, and a
	// part of the fee must have come back in proportion to the refunds. Each fee
	// transaction must belong to a charge with a fee.
	`SELECT format('the fee of charge %s is %s micro-units, but %s were paid to the operator in %s parts, and %s came back instead of %s',
		c.seq, c.fee, coalesce(f.paid, 0), coalesce(f.parts, 0), c.fee_back + coalesce(f.back, 0), div(c.fee::numeric * (c.refunded + coalesce(r.sum, 0)), c.amount))
	FROM known_charge c
	LEFT JOIN (
		SELECT x.ref, sum(x.amount) FILTER (WHERE x.debtor = y.creditor AND x.creditor = y.fee_to) AS paid,
			count(*) FILTER (WHERE x.debtor = y.creditor) AS parts,
			sum(x.amount) FILTER (WHERE x.debtor = y.fee_to AND x.creditor = y.creditor) AS back
		FROM txn x JOIN known_charge y ON y.seq = x.ref WHERE x.kind = 5 GROUP BY x.ref
	) f ON f.ref = c.seq
	LEFT JOIN (SELECT ref, sum(amount) AS sum FROM txn WHERE kind = 3 GROUP BY ref) r ON r.ref = c.seq
	WHERE c.fee IS NOT NULL AND c.waived IS NULL
		AND (NOT c.archived AND (f.paid IS DISTINCT FROM c.fee OR f.parts <> 1) OR c.archived AND coalesce(f.parts, 0) <> 0
			OR c.fee_back + coalesce(f.back, 0) <> div(c.fee::numeric * (c.refunded + coalesce(r.sum, 0)), c.amount))`,
	`SELECT format('transaction %s is a fee of %s, which is no charge that has one', x.seq, x.ref)
	FROM txn x LEFT JOIN known_charge y ON y.seq = x.ref AND y.fee IS NOT NULL AND y.waived IS NULL WHERE x.kind = 5 AND y.seq IS NULL`,
	// The count of idempotency keys in each account must be right, and each call in
	// flight must have an open reservation.
	`SELECT format('account %s: %s calls that may be repeated are counted, but there are %s', name, a.idempotency_keys, coalesce(r.count, 0))
	FROM account a LEFT JOIN (SELECT payer, count(*) FROM idempotency GROUP BY payer) r ON r.payer = a.n WHERE a.idempotency_keys <> coalesce(r.count, 0)`,
	`SELECT format('the call %s is in flight, but its charge is not reserved', t.hash)
	FROM idempotency t LEFT JOIN reservation r ON r.id = t.charge AND r.state = 1 WHERE t.captured_at IS NULL AND r.id IS NULL`,
}
