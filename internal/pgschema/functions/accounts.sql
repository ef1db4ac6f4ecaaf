-- moved_clock returns the server's time plus shift microseconds. Only tests use a shift
-- other than 0.
CREATE OR REPLACE FUNCTION moved_clock(shift bigint) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT clock_timestamp() + shift * interval '1 microsecond'
$$;

-- journal_end returns the highest number in the journal. No transaction that commits
-- later gets a number below it, because writers share the lock that journal_end takes
-- exclusively.
CREATE OR REPLACE FUNCTION journal_end() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1180791397, 1);
    RETURN coalesce((SELECT max(seq) FROM txn), 0);
END $$;

-- expire releases the account's reservations that have expired by v_now. The caller has
-- the account's lock.
CREATE OR REPLACE FUNCTION expire(v_account bigint, v_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r         record;
    v_dropped bigint;
BEGIN
    FOR r IN
        UPDATE reservation SET state = 3
        WHERE payer = v_account AND state = 1 AND expires_at <= v_now
        RETURNING id, test, day, lineage, server, idempotency_hash,
            CASE WHEN waived THEN 0 ELSE amount END AS held, CASE WHEN waived THEN 1 ELSE 0 END AS waiting
    LOOP
        UPDATE spend_counter SET held = held - r.held, waiting = waiting - r.waiting
        WHERE account = v_account AND test = r.test AND day = r.day
            AND (holder = 0 AND name = r.lineage OR holder = 1 AND name = '' OR holder = 2 AND name = r.server);
        DELETE FROM idempotency WHERE hash = r.idempotency_hash AND charge = r.id AND captured_at IS NULL;
        GET DIAGNOSTICS v_dropped = ROW_COUNT;
        UPDATE account SET
            live_reserved = live_reserved - CASE WHEN r.test THEN 0 ELSE r.held END,
            test_reserved = test_reserved - CASE WHEN r.test THEN r.held ELSE 0 END,
            idempotency_keys = idempotency_keys - v_dropped
        WHERE n = v_account;
    END LOOP;
END $$;

-- fold adds the earnings of accounts to their balances. The caller has their locks.
CREATE OR REPLACE FUNCTION fold(v_accounts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM earning WHERE account = ANY (v_accounts) RETURNING account, test, amount
    ), sums AS (
        SELECT account, coalesce(sum(amount) FILTER (WHERE NOT test), 0) AS live, coalesce(sum(amount) FILTER (WHERE test), 0) AS test
        FROM gone GROUP BY account
    )
    UPDATE account SET live = account.live + sums.live, test = account.test + sums.test
    FROM sums WHERE n = sums.account;
END $$;

-- save writes the changes of a batch to the paying accounts and to their spend
-- counters.
CREATE OR REPLACE FUNCTION save(v_payers payer[], v_spends spend[], v_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE account SET
        live = p.live, test = p.test, live_reserved = p.live_reserved, test_reserved = p.test_reserved, idempotency_keys = p.keys, swept_to = v_now
    FROM unnest(v_payers) p WHERE account.n = p.n;
    INSERT INTO spend_counter AS c (account, holder, name, test, day, spent, held, free, waiting)
        SELECT s.account, h.holder, h.name, s.test, s.day, sum(s.spent), sum(s.held), sum(s.free), sum(s.waiting)
        FROM unnest(v_spends) s CROSS JOIN LATERAL (VALUES (0::smallint, s.lineage), (1::smallint, ''), (2::smallint, s.server)) AS h (holder, name)
        GROUP BY s.account, h.holder, h.name, s.test, s.day
    ON CONFLICT (account, holder, name, test, day) DO UPDATE SET
        spent = CASE WHEN c.spent > 9223372036854775807 - excluded.spent THEN 9223372036854775807 ELSE c.spent + excluded.spent END,
        held = c.held + excluded.held, free = c.free + excluded.free, waiting = c.waiting + excluded.waiting;
END $$;

-- used returns how much the holder of a cap has spent and holds reserved on a day and,
-- if v_month, in the day's month, including the changes that the batch has made so far.
CREATE OR REPLACE FUNCTION used(v_account bigint, v_holder integer, v_name text, v_test boolean, v_day integer, v_month boolean, v_spends spend[],
    OUT spent numeric[], OUT held numeric[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    v_start timestamp := date_trunc('month', DATE '1970-01-01' + v_day);
    v_first integer := v_day;
    v_last  integer := v_day;
BEGIN
    IF v_month THEN
        v_first := v_start::date - DATE '1970-01-01';
        v_last := (v_start + interval '1 month')::date - DATE '1970-01-02';
    END IF;
    SELECT ARRAY[coalesce(sum(c.spent) FILTER (WHERE c.day = v_day), 0), coalesce(sum(c.spent), 0)],
        ARRAY[coalesce(sum(c.held) FILTER (WHERE c.day = v_day), 0), coalesce(sum(c.held), 0)]
        INTO spent, held FROM (
            SELECT x.day, x.spent, x.held FROM spend_counter x
            WHERE x.account = v_account AND x.holder = v_holder AND x.name = v_name AND x.test = v_test AND x.day BETWEEN v_first AND v_last
            UNION ALL
            SELECT s.day, s.spent, s.held FROM unnest(v_spends) s
            WHERE CASE v_holder WHEN 0 THEN s.lineage = v_name WHEN 2 THEN s.server = v_name ELSE true END
                AND s.test = v_test AND s.day BETWEEN v_first AND v_last
        ) c;
END $$;
