-- lock_batch takes the locks of a batch, all of one kind in one order, so that
-- batches cannot deadlock, and returns the locked accounts: those that pay and,
-- in a batch of one, those that earn. v_kinds has the kinds of the operations, v_ids
-- their ids. If the id of an order is that of another account, this account is not
-- locked; apply then asks for the operation alone.
DROP FUNCTION IF EXISTS lock_batch(operation[], boolean); -- belongs to version 2
CREATE OR REPLACE FUNCTION lock_batch(v_batch operation[], v_alone boolean, v_kinds operation_kind[], v_ids uuid[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_accounts bigint[];
BEGIN
    IF v_kinds && '{capture,charge}' THEN
        PERFORM pg_advisory_xact_lock_shared(1180791397, 1); -- shared by writers to the journal
    END IF;
    IF v_kinds && '{void,charge}' THEN
        -- An unknown id has no row to lock.
        PERFORM pg_advisory_xact_lock(x.n) FROM (
            SELECT DISTINCT hashtextextended(u.id::text, 0) AS n FROM unnest(v_batch) u
            WHERE u.kind = 'void' OR u.kind = 'charge' AND u.settler <> '' ORDER BY 1
        ) x;
    END IF;
    IF v_kinds = '{reserve}' AND NOT v_alone THEN
        RETURN ARRAY(SELECT a.n FROM account a WHERE a.id = ANY (ARRAY(SELECT u.account FROM unnest(v_batch) u)) ORDER BY a.n FOR NO KEY UPDATE);
    ELSIF v_kinds = '{capture}' AND NOT v_alone THEN
        v_accounts := ARRAY(SELECT x.payer FROM reservation x WHERE x.id = ANY (v_ids) UNION ALL SELECT x.debtor FROM txn x WHERE x.id = ANY (v_ids));
    ELSE
        SELECT coalesce(array_agg(DISTINCT x.n), '{}') INTO v_accounts FROM unnest(v_batch) u
            LEFT JOIN LATERAL (SELECT * FROM reservation x WHERE x.id = u.id LIMIT 1) r ON true
            LEFT JOIN LATERAL (SELECT * FROM txn x WHERE x.id = u.id LIMIT 1) t ON true
            LEFT JOIN account a ON a.id = u.account
            CROSS JOIN LATERAL (
                SELECT coalesce(t.debtor, r.payer, a.n) AS n
                UNION ALL SELECT coalesce(r.payee, (SELECT b.n FROM account b WHERE b.id = u.provider)) WHERE v_alone
                UNION ALL SELECT coalesce(r.fee_to, (SELECT b.n FROM account b WHERE b.id = u.fee_to)) WHERE v_alone
            ) x WHERE x.n IS NOT NULL;
    END IF;
    RETURN ARRAY(SELECT a.n FROM account a WHERE a.n = ANY (v_accounts) ORDER BY a.n FOR NO KEY UPDATE);
END $$;

-- resolve returns the operations of a batch, sorted by payer, with their accounts and
-- orders. If the database has the order of an operation, it replaces the order in the
-- batch.
--
-- Its plan must look rows up by index, even if the tables were small when the plan was
-- made. LATERAL with LIMIT makes PostgreSQL look up each row in this way. It is STABLE
-- so that PostgreSQL expands it into the query of apply, and plans it once.
CREATE OR REPLACE FUNCTION resolve(v_batch operation[], v_now timestamptz) RETURNS TABLE (
    ord bigint, kind operation_kind, id uuid, response bytea, fee_id uuid,
    state smallint, seq bigint, charged boolean, voided boolean, same boolean, complete boolean,
    at timestamptz, day integer, waived boolean,
    payer bigint, payee bigint, fee_to bigint, payer_id text, payee_id text, fee_to_id text,
    key text, lineage text, server text, tool text, amount bigint, fee bigint, test boolean, settler text,
    capped boolean, caps bigint[], free_calls bigint, hash uuid, fingerprint bytea,
    live bigint, test_balance bigint, live_reserved bigint, test_reserved bigint, credit_limit bigint, keys bigint,
    payee_balance bigint, fee_to_balance bigint
) LANGUAGE sql STABLE AS $$
    SELECT x.ord, x.kind, x.id, x.response, x.fee_id,
        x.state, x.seq, x.charged, x.voided,
        x.kind NOT IN ('reserve', 'charge') OR x.given_account = a.id AND x.given_provider = b.id AND x.given_fee_to = coalesce(c.id, '')
            AND x.given = (x.key, x.lineage, x.server, x.tool, x.amount, x.fee, x.test, x.settler),
        x.payer IS NOT NULL AND x.payee IS NOT NULL AND (x.fee = 0 OR x.fee_to IS NOT NULL),
        x.at, x.day, x.waived,
        x.payer, x.payee, x.fee_to, a.id, b.id, c.id,
        x.key, x.lineage, x.server, x.tool, x.amount, x.fee, x.test, x.settler,
        greatest(x.key_day, x.key_month, x.key_call, x.server_day, x.server_month, x.server_call, a.cap_day, a.cap_month, a.cap_call) > 0,
        ARRAY[x.key_call, x.key_day, x.key_month, a.cap_call, a.cap_day, a.cap_month, x.server_call, x.server_day, x.server_month],
        x.free_calls, x.hash, x.fingerprint,
        a.live, a.test, a.live_reserved, a.test_reserved, a.credit_limit, a.idempotency_keys,
        CASE WHEN x.test THEN b.test ELSE b.live END, CASE WHEN x.test THEN c.test ELSE c.live END
    FROM (
        SELECT u.ordinality AS ord, u.kind, u.id, u.response, u.fee_id,
            r.state, t.seq, t.kind = 1 AS charged, v.id IS NOT NULL AS voided,
            u.account AS given_account, u.provider AS given_provider, u.fee_to AS given_fee_to,
            (u.key, u.lineage, u.server, u.tool, u.amount, u.fee, u.test, u.settler) AS given,
            t.at, r.day, CASE WHEN t.seq IS NOT NULL THEN t.waived IS NOT NULL ELSE r.waived END AS waived,
            coalesce(t.debtor, r.payer, ai.n) AS payer,
            CASE WHEN t.seq IS NOT NULL THEN t.creditor WHEN r.id IS NOT NULL THEN r.payee ELSE bi.n END AS payee,
            CASE WHEN t.seq IS NOT NULL THEN t.fee_to WHEN r.id IS NOT NULL THEN r.fee_to ELSE ci.n END AS fee_to,
            coalesce(t.key, r.key, u.key) AS key, coalesce(t.lineage, r.lineage, u.lineage) AS lineage,
            coalesce(t.server, r.server, u.server) AS server, coalesce(t.tool, r.tool, u.tool) AS tool,
            coalesce(t.amount + coalesce(t.waived, 0), r.amount, u.amount) AS amount,
            CASE WHEN t.seq IS NOT NULL THEN coalesce(t.fee, 0) ELSE coalesce(r.fee, u.fee) END AS fee,
            coalesce(t.test, r.test, u.test) AS test,
            CASE WHEN t.seq IS NOT NULL THEN coalesce(t.settler, '') WHEN r.id IS NOT NULL THEN coalesce(r.settler, '') ELSE u.settler END AS settler,
            coalesce(r.key_call, u.key_call) AS key_call, coalesce(r.key_day, u.key_day) AS key_day, coalesce(r.key_month, u.key_month) AS key_month,
            coalesce(r.server_call, u.server_call) AS server_call, coalesce(r.server_day, u.server_day) AS server_day,
            coalesce(r.server_month, u.server_month) AS server_month, coalesce(r.free_calls, u.free_calls) AS free_calls,
            CASE WHEN r.id IS NULL THEN u.hash ELSE r.idempotency_hash END AS hash,
            CASE WHEN r.id IS NULL THEN u.fingerprint ELSE r.fingerprint END AS fingerprint
        FROM unnest(v_batch) WITH ORDINALITY u
            LEFT JOIN LATERAL (SELECT * FROM reservation x WHERE x.id = u.id LIMIT 1) r ON true
            LEFT JOIN LATERAL (SELECT * FROM txn x WHERE x.id = u.id LIMIT 1) t ON true
            LEFT JOIN LATERAL (SELECT x.id FROM void x WHERE x.id = u.id AND x.until > v_now LIMIT 1) v ON true
            LEFT JOIN account ai ON ai.id = u.account AND ai.id NOT LIKE '@%'
            LEFT JOIN account bi ON bi.id = u.provider AND bi.id NOT LIKE '@%'
            LEFT JOIN account ci ON ci.id = u.fee_to AND ci.id NOT LIKE '@%'
    ) x
        LEFT JOIN account a ON a.n = x.payer
        LEFT JOIN account b ON b.n = x.payee
        LEFT JOIN account c ON c.n = x.fee_to
    ORDER BY x.payer NULLS LAST, x.ord
$$;

-- apply carries out a batch of operations on charges in one transaction. If it refuses
-- an operation, the other operations are not affected. All ids in a batch must be
-- different. v_alone means that the batch has only one operation.
CREATE OR REPLACE FUNCTION apply(v_batch operation[], v_alone boolean, v_shift bigint, v_rules rules) RETURNS SETOF outcome LANGUAGE plpgsql AS $$
DECLARE
    o          record;      -- a row of resolve
    e          effect;
    x          outcome;
    p          integer;     -- the operation's balance: 1 live, 2 test
    v_now      timestamptz;
    v_today    integer;
    v_kinds    operation_kind[];
    v_ids      uuid[];
    v_locked   bigint[];
    v_ended    bigint[];          -- payers of reservations that have ended
    v_earned   boolean;           -- some locked accounts have earnings
    v_plain    outcome[] := '{}'; -- outcomes of the functions in plain.sql
    v_done     bigint[] := '{}';  -- their numbers
    v_earnings earning[] := '{}';
    v_payers   payer[] := '{}';   -- this and v_saved are the arguments for save
    v_saved    spend[] := '{}';
    -- The payer of the current operations.
    v_payer    bigint;
    v_changed  boolean := false;
    v_balances bigint[];    -- live, test
    v_reserved bigint[];
    v_limit    bigint;
    v_keys     bigint;
    v_spends   spend[];
BEGIN
    SELECT array_agg(DISTINCT u.kind), array_agg(u.id) INTO v_kinds, v_ids FROM unnest(v_batch) u;
    v_locked := lock_batch(v_batch, v_alone, v_kinds, v_ids);
    v_now := moved_clock(v_shift);
    v_today := (v_now AT TIME ZONE 'UTC')::date - DATE '1970-01-01';
    SELECT array_agg(a.n) FILTER (WHERE y.ended), bool_or(z.earned) INTO v_ended, v_earned FROM account a
        LEFT JOIN LATERAL (
            SELECT true AS ended FROM reservation r WHERE r.payer = a.n AND r.state = 1
                AND r.expires_at > least(a.swept_to, v_now) AND r.expires_at <= v_now LIMIT 1
        ) y ON true
        LEFT JOIN LATERAL (SELECT true AS earned FROM earning r WHERE r.account = a.n LIMIT 1) z ON true
        WHERE a.n = ANY (v_locked);
    IF v_ended IS NOT NULL THEN
        PERFORM expire(y, v_now) FROM unnest(v_ended) y;
    END IF;
    IF v_earned THEN
        PERFORM fold(v_locked);
    END IF;
    IF NOT v_alone THEN
        IF 'reserve' = ANY (v_kinds) THEN
            v_plain := v_plain || reserve_plain(v_batch, v_locked, v_ids, v_now, v_today, v_rules);
        END IF;
        IF 'capture' = ANY (v_kinds) THEN
            v_plain := v_plain || capture_plain(v_batch, v_locked, v_ids, v_now);
        END IF;
        FOREACH x IN ARRAY v_plain LOOP
            v_done := v_done || x.ord;
            RETURN NEXT x;
        END LOOP;
        IF cardinality(v_done) = cardinality(v_batch) THEN
            RETURN;
        END IF;
    END IF;

    FOR o IN SELECT * FROM resolve(v_batch, v_now) y WHERE y.ord <> ALL (v_done) LOOP
        IF o.payer IS DISTINCT FROM v_payer THEN
            IF v_changed THEN
                v_payers := v_payers || (v_payer, v_balances[1], v_balances[2], v_reserved[1], v_reserved[2], v_keys)::payer;
                v_saved := v_saved || v_spends;
            END IF;
            v_payer := o.payer; v_changed := false; v_spends := '{}'; v_keys := o.keys;
            v_balances := ARRAY[o.live, o.test_balance];
            v_reserved := ARRAY[o.live_reserved, o.test_reserved];
        END IF;
        p := CASE WHEN o.test THEN 2 ELSE 1 END;
        v_limit := CASE WHEN o.test THEN 0 ELSE o.credit_limit END;

        e := NULL;
        IF o.payer IS NOT NULL AND o.payer <> ALL (v_locked) THEN
            e.code := 'alone'; -- another account has used the id since the locks were taken
        ELSIF o.seq IS NOT NULL THEN
            e := captured(o);
        ELSIF o.voided AND o.kind IN ('reserve', 'capture', 'charge') THEN
            e.code := 'settled';
        ELSIF o.state IS NOT NULL AND NOT o.same THEN
            e.code := 'conflict';
        ELSIF o.kind = 'reserve' THEN
            e := reserve(o, v_balances[p]::numeric + v_limit, v_reserved[p], v_keys, v_spends, v_now, v_today, v_rules);
        ELSIF o.kind IN ('capture', 'charge') THEN
            e := capture(o, v_alone, v_balances[p], v_limit, v_reserved[p], v_keys, v_spends, v_now, v_today, v_rules);
        ELSIF o.kind = 'renew' THEN
            e := renew(o, v_now + v_rules.reservation_life);
        ELSE
            e := release(o, v_now + v_rules.settle_time);
        END IF;

        IF e.keys <> 0 THEN
            v_keys := v_keys + e.keys;
            v_changed := true;
        END IF;
        IF e.made OR e.held <> 0 OR e.waiting <> 0 THEN
            v_balances[p] := v_balances[p] + coalesce(e.balance, 0);
            v_reserved[p] := v_reserved[p] + coalesce(e.held, 0);
            v_spends := v_spends || (o.payer, o.test, e.day, o.lineage, o.server, coalesce(e.spent, 0), coalesce(e.held, 0),
                coalesce(e.free, 0), coalesce(e.waiting, 0))::spend;
            v_changed := true;
        END IF;
        IF e.spent > 0 AND NOT v_alone THEN -- in a batch of one, the earners already have the amount
            IF o.payee <> o.payer AND e.spent > o.fee THEN
                v_earnings := v_earnings || (o.payee, o.test, e.spent - o.fee)::earning;
            END IF;
            IF o.fee_to <> o.payer AND o.fee > 0 THEN
                v_earnings := v_earnings || (o.fee_to, o.test, o.fee)::earning;
            END IF;
        END IF;

        x := (o.ord, e.code, coalesce(v_balances[p], 0), coalesce(v_reserved[p], 0), coalesce(e.waived, false), e.facts, e.near, e.charge,
            coalesce(e.at, v_now), '', '', '', '', '', '', 0, 0, '', false, '', coalesce(e.refunded, 0), coalesce(e.made, false));
        IF o.kind IN ('capture', 'charge') AND o.complete THEN
            x.account := o.payer_id; x.provider := o.payee_id; x.key := o.key; x.lineage := o.lineage; x.server := o.server; x.tool := o.tool;
            x.amount := o.amount; x.fee := o.fee; x.fee_to := coalesce(o.fee_to_id, ''); x.test := o.test; x.settler := o.settler;
        END IF;
        RETURN NEXT x;
    END LOOP;
    IF v_changed THEN
        v_payers := v_payers || (v_payer, v_balances[1], v_balances[2], v_reserved[1], v_reserved[2], v_keys)::payer;
        v_saved := v_saved || v_spends;
    END IF;
    IF cardinality(v_payers) > 0 THEN
        PERFORM save(v_payers, v_saved, v_now);
    END IF;
    IF cardinality(v_earnings) > 0 THEN
        INSERT INTO earning (account, test, amount)
            SELECT y.account, y.test, sum(y.amount) FROM unnest(v_earnings) y GROUP BY y.account, y.test;
    END IF;
END $$;
