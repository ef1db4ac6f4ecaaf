-- Most operations need one decision, by the payer's balance. The functions in this file
-- carry out all such operations of a batch in one statement each. apply prepares several
-- statements for each operation, which costs the database many times more. The functions
-- leave every other operation to apply: one with a cap, a free quota, an idempotency key
-- or a known id, and one that the balance does not allow. For the operations that they
-- carry out, the outcomes and the changes are those of apply.
--
-- The operations of a batch are concurrent, so their order is free.
--
-- Plans must look rows up by index, like the plan of resolve.

-- reserve_plain holds the amounts of the first orders of each payer that the balance
-- allows together. The caller has the payers' locks, v_locked. v_ids has the
-- ids of the batch.
CREATE OR REPLACE FUNCTION reserve_plain(v_batch operation[], v_locked bigint[], v_ids uuid[], v_now timestamptz, v_today integer, v_rules rules)
RETURNS outcome[] LANGUAGE plpgsql AS $$
DECLARE
    c_large CONSTANT bigint := 1::bigint << 40; -- amounts from here on are left to apply
    c_rich  CONSTANT bigint := 1::bigint << 62; -- balances and limits from here on, too
    v_done  outcome[];
BEGIN
    WITH plain AS MATERIALIZED (
        SELECT o.* FROM (
            SELECT u.ord, u.id, u.key, u.lineage, u.server, u.tool, u.amount, u.fee, u.test, u.settler, a.n AS payer,
                (SELECT x.n FROM account x WHERE x.id = u.provider AND x.id NOT LIKE '@%') AS payee,
                CASE WHEN u.fee_to <> '' THEN (SELECT x.n FROM account x WHERE x.id = u.fee_to AND x.id NOT LIKE '@%') END AS fee_to,
                CASE WHEN u.test THEN a.test ELSE a.live END AS balance,
                CASE WHEN u.test THEN a.test_reserved ELSE a.live_reserved END AS reserved,
                CASE WHEN u.test THEN 0 ELSE a.credit_limit END AS credit_limit,
                sum(u.amount) OVER (PARTITION BY a.n, u.test ORDER BY u.ord) AS so_far
            FROM unnest(v_batch) WITH ORDINALITY AS u (kind, id, account, provider, key, lineage, server, tool, amount, fee, fee_to, test, settler,
                    key_call, key_day, key_month, server_call, server_day, server_month, free_calls, hash, fingerprint, response, fee_id, ord)
                CROSS JOIN LATERAL (
                    SELECT x.n, x.live, x.test, x.live_reserved, x.test_reserved, x.credit_limit FROM account x
                    WHERE x.id = u.account AND x.id NOT LIKE '@%' AND greatest(x.cap_call, x.cap_day, x.cap_month) = 0 LIMIT 1
                ) a
            WHERE u.kind = 'reserve' AND u.hash IS NULL AND u.free_calls = 0 AND u.amount > 0 AND u.amount < c_large
                AND greatest(u.key_call, u.key_day, u.key_month, u.server_call, u.server_day, u.server_month) = 0
                AND a.n = ANY (v_locked) AND u.id <> ALL (ARRAY(
                    SELECT x.id FROM reservation x WHERE x.id = ANY (v_ids) UNION ALL SELECT x.id FROM txn x WHERE x.id = ANY (v_ids)
                    UNION ALL SELECT x.id FROM void x WHERE x.id = ANY (v_ids)
                ))
        ) o
        WHERE o.payee IS NOT NULL AND (o.fee = 0 OR o.fee_to IS NOT NULL)
            AND o.balance > -c_rich AND o.balance < c_rich AND o.credit_limit < c_rich AND o.reserved < c_rich
            AND o.so_far <= o.balance + o.credit_limit - o.reserved
    ), reserved AS (
        INSERT INTO reservation (id, payer, payee, fee_to, key, lineage, server, tool, amount, fee, test, state, expires_at, day, waived,
                key_call, key_day, key_month, server_call, server_day, server_month, free_calls, settler)
            SELECT p.id, p.payer, p.payee, p.fee_to, p.key, p.lineage, p.server, p.tool, p.amount, p.fee, p.test, 1,
                v_now + v_rules.reservation_life, v_today, false, 0, 0, 0, 0, 0, 0, 0, nullif(p.settler, '') FROM plain p
    ), saved AS (
        UPDATE account x SET live_reserved = x.live_reserved + y.live, test_reserved = x.test_reserved + y.test, swept_to = v_now
            FROM (
                SELECT p.payer, coalesce(sum(p.amount) FILTER (WHERE NOT p.test), 0) AS live, coalesce(sum(p.amount) FILTER (WHERE p.test), 0) AS test
                FROM plain p GROUP BY p.payer
            ) y WHERE x.n = y.payer AND x.n = ANY (v_locked)
    ), counted AS (
        INSERT INTO spend_counter AS c (account, holder, name, test, day, spent, held, free, waiting)
            SELECT p.payer, h.holder, h.name, p.test, v_today, 0, sum(p.amount), 0, 0
            FROM plain p CROSS JOIN LATERAL (VALUES (0::smallint, p.lineage), (1::smallint, ''), (2::smallint, p.server)) AS h (holder, name)
            GROUP BY p.payer, h.holder, h.name, p.test
        ON CONFLICT (account, holder, name, test, day) DO UPDATE SET held = c.held + excluded.held
    )
    SELECT array_agg((p.ord, 'done', p.balance, p.reserved + p.so_far, false, NULL, NULL, p.id, v_now,
            '', '', '', '', '', '', 0, 0, '', false, '', 0, false)::outcome) INTO v_done FROM plain p;
    RETURN v_done;
END $$;

-- capture_plain charges open reservations. The caller has the payers' locks, v_locked.
-- v_ids has the ids of the batch.
CREATE OR REPLACE FUNCTION capture_plain(v_batch operation[], v_locked bigint[], v_ids uuid[], v_now timestamptz) RETURNS outcome[] LANGUAGE plpgsql AS $$
DECLARE
    c_large CONSTANT bigint := 1::bigint << 40; -- amounts from here on are left to apply
    c_rich  CONSTANT bigint := 1::bigint << 62; -- balances from here on, too
    v_done  outcome[];
BEGIN
    WITH plain AS MATERIALIZED (
        SELECT u.ord, u.fee_id, r.*, a.id AS payer_id, b.id AS payee_id, c.id AS fee_payee_id, a.balance, a.reserved,
            sum(r.amount) OVER (PARTITION BY r.payer, r.test ORDER BY u.ord) AS so_far
        FROM unnest(v_batch) WITH ORDINALITY AS u (kind, id, account, provider, key, lineage, server, tool, amount, fee, fee_to, test, settler,
                key_call, key_day, key_month, server_call, server_day, server_month, free_calls, hash, fingerprint, response, fee_id, ord)
            CROSS JOIN LATERAL (
                SELECT x.id, x.payer, x.payee, x.fee_to, x.key, x.lineage, x.server, x.tool, x.amount, x.fee, x.test, x.day, x.settler FROM reservation x
                WHERE x.id = u.id AND x.state = 1 AND NOT x.waived AND x.idempotency_hash IS NULL AND x.amount > 0 AND x.amount < c_large
                    AND greatest(x.key_call, x.key_day, x.key_month, x.server_call, x.server_day, x.server_month) = 0 LIMIT 1
            ) r
            CROSS JOIN LATERAL (
                SELECT x.id, CASE WHEN r.test THEN x.test ELSE x.live END AS balance,
                    CASE WHEN r.test THEN x.test_reserved ELSE x.live_reserved END AS reserved FROM account x
                WHERE x.n = r.payer AND greatest(x.cap_call, x.cap_day, x.cap_month) = 0 LIMIT 1
            ) a
            CROSS JOIN LATERAL (SELECT x.id, CASE WHEN r.test THEN x.test ELSE x.live END AS balance FROM account x WHERE x.n = r.payee LIMIT 1) b
            LEFT JOIN LATERAL (SELECT x.id, CASE WHEN r.test THEN x.test ELSE x.live END AS balance FROM account x WHERE x.n = r.fee_to LIMIT 1) c ON true
        WHERE u.kind = 'capture' AND r.payer = ANY (v_locked) AND u.id <> ALL (ARRAY(
                SELECT x.id FROM txn x WHERE x.id = ANY (v_ids) UNION ALL SELECT x.id FROM void x WHERE x.id = ANY (v_ids)
            ))
            AND r.payee <> r.payer AND (r.fee = 0 OR r.fee_to <> r.payer AND c.id IS NOT NULL) -- a payer that earns from the call is left to apply
            AND a.balance > -c_rich AND b.balance < c_rich AND coalesce(c.balance, 0) < c_rich
    ), gone AS (
        DELETE FROM reservation x WHERE x.id = ANY (ARRAY(SELECT p.id FROM plain p))
    ), charge AS (
        INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, key, lineage, server, tool, day, fee, fee_to, settler)
            SELECT p.id, 1, p.payer, p.payee, p.amount, p.test, v_now, p.key, p.lineage, p.server, p.tool, p.day, nullif(p.fee, 0), p.fee_to, p.settler
            FROM plain p ORDER BY p.ord
            RETURNING id, seq
    ), fee AS (
        INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, ref)
            SELECT p.fee_id, 5, p.payee, p.fee_to, p.fee, p.test, v_now, y.seq FROM plain p JOIN charge y ON y.id = p.id WHERE p.fee > 0
    ), earned AS (
        INSERT INTO earning (account, test, amount)
            SELECT y.account, p.test, sum(y.amount)
            FROM plain p CROSS JOIN LATERAL (VALUES (p.payee, p.amount - p.fee), (p.fee_to, p.fee)) AS y (account, amount)
            WHERE y.amount > 0 GROUP BY y.account, p.test
    ), saved AS (
        UPDATE account x SET live = x.live - y.live, live_reserved = x.live_reserved - y.live,
            test = x.test - y.test, test_reserved = x.test_reserved - y.test, swept_to = v_now
            FROM (
                SELECT p.payer, coalesce(sum(p.amount) FILTER (WHERE NOT p.test), 0) AS live, coalesce(sum(p.amount) FILTER (WHERE p.test), 0) AS test
                FROM plain p GROUP BY p.payer
            ) y WHERE x.n = y.payer AND x.n = ANY (v_locked)
    ), counted AS (
        INSERT INTO spend_counter AS c (account, holder, name, test, day, spent, held, free, waiting)
            SELECT p.payer, h.holder, h.name, p.test, p.day, sum(p.amount), -sum(p.amount), 0, 0
            FROM plain p CROSS JOIN LATERAL (VALUES (0::smallint, p.lineage), (1::smallint, ''), (2::smallint, p.server)) AS h (holder, name)
            GROUP BY p.payer, h.holder, h.name, p.test, p.day
        ON CONFLICT (account, holder, name, test, day) DO UPDATE SET
            spent = CASE WHEN c.spent > 9223372036854775807 - excluded.spent THEN 9223372036854775807 ELSE c.spent + excluded.spent END,
            held = c.held + excluded.held
    )
    SELECT array_agg((p.ord, 'done', p.balance - p.so_far, p.reserved - p.so_far, false, NULL, NULL, NULL, v_now,
            p.payer_id, p.payee_id, p.key, p.lineage, p.server, p.tool, p.amount, p.fee, coalesce(p.fee_payee_id, ''), p.test,
            coalesce(p.settler, ''), 0, true)::outcome) INTO v_done FROM plain p;
    RETURN v_done;
END $$;
