-- +goose Up

-- post writes a top-up, a correction or a refund with its audit row, in one
-- transaction. kind: 2 credit, 3 refund, 4 adjustment. code: 0 done, 1 no such
-- charge, 2 no such account, 3 conflict, 4 settled, 5 more than is left of the
-- charge, 11 overflow.
-- +goose StatementBegin
CREATE FUNCTION post(
    v_shift bigint, p_id uuid, p_kind smallint, p_debtor text, p_creditor text, p_amount bigint, p_sandbox boolean, p_reason text,
    p_charge uuid, p_fee_id uuid, a_at timestamptz, a_actor text, a_origin text, a_action text, a_target text, a_detail text,
    OUT code smallint, OUT total bigint, OUT held bigint, OUT x_debtor text, OUT x_creditor text, OUT x_amount bigint, OUT x_sandbox boolean,
    OUT x_at timestamptz, OUT remaining bigint
) LANGUAGE plpgsql AS $$
DECLARE
    c_most  CONSTANT bigint := 9223372036854775807;
    c       txn%ROWTYPE;      -- the charge
    x       txn%ROWTYPE;      -- what was posted, before or now
    d       account%ROWTYPE;
    e       account%ROWTYPE;
    v_now   timestamptz;
    v_before bigint;
    v_back  bigint := 0;
    v_gain  bigint;
    v_about bigint;
    v_gone  bigint;
    v_fresh boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1180791397, 1);
    code := 0;
    SELECT * INTO x FROM txn t WHERE t.id = p_id;
    IF x.seq IS NULL THEN
        IF p_kind = 3 THEN
            SELECT * INTO c FROM txn t WHERE t.id = p_charge AND t.kind = 1;
            IF c.seq IS NULL THEN
                code := 1;
                RETURN;
            END IF;
            PERFORM 1 FROM account a WHERE a.n = c.debtor FOR NO KEY UPDATE;
        ELSE
            PERFORM 1 FROM account a WHERE a.id IN (p_debtor, p_creditor) ORDER BY a.n FOR NO KEY UPDATE;
            SELECT * INTO d FROM account a WHERE a.id = p_debtor;
            SELECT * INTO e FROM account a WHERE a.id = p_creditor;
            -- One of the two is the account of top-ups, and the other must be an operator's.
            IF d.n IS NULL OR e.n IS NULL OR d.id LIKE '@%' AND e.id LIKE '@%' THEN
                code := 2;
                RETURN;
            END IF;
        END IF;
        SELECT * INTO x FROM txn t WHERE t.id = p_id; -- posted while the lock was waited for
    END IF;
    v_now := moved_clock(v_shift);
    v_fresh := x.seq IS NULL;

    IF x.seq IS NOT NULL THEN
        IF p_kind = 3 THEN
            SELECT * INTO c FROM txn t WHERE t.id = p_charge AND t.kind = 1;
            IF x.kind <> 3 OR x.ref IS DISTINCT FROM c.seq OR p_amount <> 0 AND p_amount <> x.amount THEN
                code := 3;
            END IF;
        ELSIF x.kind <> p_kind OR x.amount <> p_amount OR x.sandbox <> p_sandbox
            OR p_debtor IS DISTINCT FROM (SELECT a.id FROM account a WHERE a.n = x.debtor)
            OR p_creditor IS DISTINCT FROM (SELECT a.id FROM account a WHERE a.n = x.creditor) THEN
            code := 3;
        END IF;
        IF coalesce(x.reason, '') <> p_reason THEN
            code := 3;
        END IF;
        IF code <> 0 THEN
            RETURN;
        END IF;
        v_about := x.creditor;
        IF (SELECT a.id FROM account a WHERE a.n = v_about) LIKE '@%' THEN
            v_about := x.debtor;
        END IF;
        PERFORM 1 FROM account a WHERE a.n = v_about FOR NO KEY UPDATE;
        PERFORM expire(v_about, v_now);
        PERFORM fold(ARRAY[v_about]);
    ELSIF p_kind = 3 THEN
        v_about := c.debtor;
        PERFORM expire(v_about, v_now);
        PERFORM fold(ARRAY[v_about]);
        SELECT coalesce(sum(t.amount), 0) INTO v_before FROM txn t WHERE t.ref = c.seq AND t.kind = 3;
        remaining := c.amount - v_before;
        IF p_amount = 0 THEN
            p_amount := remaining;
        END IF;
        IF remaining <= 0 OR p_amount > remaining THEN
            code := CASE WHEN remaining <= 0 THEN 4 ELSE 5 END;
            RETURN;
        END IF;
        IF c.fee > 0 THEN
            v_back := div(c.fee::numeric * (v_before + p_amount), c.amount) - div(c.fee::numeric * v_before, c.amount);
        END IF;
        SELECT * INTO d FROM account a WHERE a.n = v_about;
        -- What the payer gains: a payer may be the provider or the operator, too.
        v_gain := p_amount;
        IF c.creditor = c.debtor THEN
            v_gain := v_back;
        ELSIF c.fee_to = c.debtor THEN
            v_gain := p_amount - v_back;
        END IF;
        IF (CASE WHEN c.sandbox THEN d.sandbox ELSE d.live END) > c_most - v_gain THEN
            code := 11;
            RETURN;
        END IF;
        INSERT INTO txn (id, kind, debtor, creditor, amount, sandbox, at, ref, reason)
            VALUES (p_id, 3, c.creditor, c.debtor, p_amount, c.sandbox, v_now, c.seq, nullif(p_reason, '')) RETURNING * INTO x;
        IF v_back > 0 THEN
            INSERT INTO txn (id, kind, debtor, creditor, amount, sandbox, at, ref)
                VALUES (p_fee_id, 5, c.fee_to, c.creditor, v_back, c.sandbox, v_now, c.seq);
        END IF;
        UPDATE account SET live = live + CASE WHEN c.sandbox THEN 0 ELSE v_gain END, sandbox = sandbox + CASE WHEN c.sandbox THEN v_gain ELSE 0 END
            WHERE n = c.debtor;
        INSERT INTO earning (account, sandbox, amount)
            SELECT y.n, c.sandbox, y.amount FROM (VALUES (c.creditor, v_back - p_amount), (c.fee_to, -v_back)) AS y (n, amount)
            WHERE y.n <> c.debtor AND y.amount <> 0;
        IF p_amount = remaining THEN
            -- Nobody has had an answer that is not kept, so the call may run again.
            DELETE FROM retry t WHERE t.charge = c.id AND t.captured_at IS NOT NULL AND t.size = 0;
            GET DIAGNOSTICS v_gone = ROW_COUNT;
            UPDATE account SET retries = retries - v_gone WHERE n = c.debtor AND v_gone > 0;
        END IF;
    ELSE
        v_about := CASE WHEN e.id LIKE '@%' THEN d.n ELSE e.n END;
        PERFORM expire(v_about, v_now);
        PERFORM fold(ARRAY[v_about]);
        SELECT a.* INTO d FROM account a WHERE a.n = d.n;
        SELECT a.* INTO e FROM account a WHERE a.n = e.n;
        IF (CASE WHEN p_sandbox THEN d.sandbox ELSE d.live END) < -c_most - 1 + p_amount
            OR (CASE WHEN p_sandbox THEN e.sandbox ELSE e.live END) > c_most - p_amount THEN
            code := 11;
            RETURN;
        END IF;
        INSERT INTO txn (id, kind, debtor, creditor, amount, sandbox, at, reason)
            VALUES (p_id, p_kind, d.n, e.n, p_amount, p_sandbox, v_now, nullif(p_reason, '')) RETURNING * INTO x;
        UPDATE account SET
            live = live + CASE WHEN p_sandbox THEN 0 WHEN n = d.n THEN -p_amount ELSE p_amount END,
            sandbox = sandbox + CASE WHEN NOT p_sandbox THEN 0 WHEN n = d.n THEN -p_amount ELSE p_amount END
            WHERE n IN (d.n, e.n);
    END IF;
    IF v_fresh THEN
        INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (coalesce(a_at, v_now), a_actor, a_origin, a_action, a_target, a_detail);
    END IF;
    SELECT CASE WHEN x.sandbox THEN a.sandbox ELSE a.live END, CASE WHEN x.sandbox THEN a.sandbox_reserved ELSE a.live_reserved END
        INTO total, held FROM account a WHERE a.n = v_about;
    x_debtor := (SELECT a.id FROM account a WHERE a.n = x.debtor);
    x_creditor := (SELECT a.id FROM account a WHERE a.n = x.creditor);
    x_amount := x.amount;
    x_sandbox := x.sandbox;
    x_at := x.at;
END $$;
-- +goose StatementEnd

-- revoke notes that a key was made or changed, and tells those who listen. The
-- lock, which is held until the commit, makes the order of seq that of the
-- commits: who has read up to one row misses none before it.
-- +goose StatementBegin
CREATE FUNCTION revoke(v_digest bytea, v_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1180791397, 2);
    INSERT INTO revocation (digest, at) VALUES (v_digest, v_at);
    NOTIFY farebox_revocation;
END $$;
-- +goose StatementEnd

-- The following tidy up, a little at a time and on any number of nodes at once:
-- they pass over accounts that somebody has locked.

-- +goose StatementBegin
CREATE FUNCTION tidy_reservations(v_shift bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now   timestamptz := moved_clock(v_shift);
    v_payer bigint;
BEGIN
    FOR v_payer IN
        SELECT DISTINCT r.payer FROM (
            SELECT payer FROM reservation WHERE state = 1 AND expires_at <= v_now ORDER BY expires_at LIMIT v_limit
        ) r
    LOOP
        PERFORM 1 FROM account WHERE n = v_payer FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            PERFORM expire(v_payer, v_now);
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION tidy_earnings(v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_locked bigint[];
BEGIN
    SELECT array_agg(x.n) INTO v_locked FROM (
        SELECT a.n FROM account a WHERE a.n IN (SELECT DISTINCT e.account FROM earning e LIMIT v_limit)
        FOR NO KEY UPDATE SKIP LOCKED
    ) x;
    PERFORM fold(v_locked);
END $$;
-- +goose StatementEnd

-- tidy_retries forgets captured calls that are a day old.
-- +goose StatementBegin
CREATE FUNCTION tidy_retries(v_shift bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_before timestamptz := moved_clock(v_shift) - interval '24 hours';
    v_payer  bigint;
    v_gone   bigint;
BEGIN
    FOR v_payer IN
        SELECT DISTINCT r.payer FROM (
            SELECT payer FROM retry WHERE captured_at <= v_before ORDER BY captured_at LIMIT v_limit
        ) r
    LOOP
        PERFORM 1 FROM account WHERE n = v_payer FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            DELETE FROM retry WHERE mark IN (
                SELECT mark FROM retry WHERE captured_at <= v_before AND payer = v_payer ORDER BY captured_at LIMIT v_limit
            );
            GET DIAGNOSTICS v_gone = ROW_COUNT;
            UPDATE account SET retries = retries - v_gone WHERE n = v_payer;
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd

-- tidy_answers takes the figures of all retries, and drops bodies, the oldest
-- first, while there is too much of them. Their keys stay known. Only one node
-- at a time does so.
-- +goose StatementBegin
CREATE FUNCTION tidy_answers(v_most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_kept  bigint;
    v_freed bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1180791397, 3) THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(size), 0) INTO v_kept FROM retry WHERE size > 0;
    WHILE v_kept > v_most LOOP
        WITH oldest AS (
            SELECT mark, size, captured_at FROM retry WHERE size > 0 ORDER BY captured_at LIMIT 512 FOR UPDATE SKIP LOCKED
        ), running AS (
            SELECT mark, size, v_kept - sum(size) OVER (ORDER BY captured_at, mark) + size AS before FROM oldest
        ), dropped AS (
            UPDATE retry SET size = 0, body = NULL FROM running WHERE retry.mark = running.mark AND running.before > v_most
            RETURNING running.size
        )
        SELECT sum(size) INTO v_freed FROM dropped;
        EXIT WHEN v_freed IS NULL;
        v_kept := v_kept - v_freed;
    END LOOP;
    UPDATE figure SET retries = (SELECT count(*) FROM retry), answers = v_kept;
END $$;
-- +goose StatementEnd

-- tidy_old deletes what nobody asks for any more: reservations that ended so
-- many microseconds ago, and bonds that have ended.
-- +goose StatementBegin
CREATE FUNCTION tidy_old(v_shift bigint, v_remember bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := moved_clock(v_shift);
BEGIN
    DELETE FROM reservation WHERE id IN (
        SELECT id FROM reservation WHERE state <> 1 AND expires_at <= v_now - v_remember * interval '1 microsecond'
        ORDER BY expires_at LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
    DELETE FROM bond WHERE mark IN (
        SELECT mark FROM bond WHERE until <= v_now ORDER BY until LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
END $$;
-- +goose StatementEnd
