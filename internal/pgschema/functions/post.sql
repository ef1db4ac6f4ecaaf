-- lock_account locks an account and brings its row up to date.
CREATE OR REPLACE FUNCTION lock_account(v_account bigint, v_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM account a WHERE a.n = v_account FOR NO KEY UPDATE;
    PERFORM expire(v_account, v_now);
    PERFORM fold(ARRAY[v_account]);
END $$;

-- posted_before reports whether the posting p made the transaction x of the journal.
CREATE OR REPLACE FUNCTION posted_before(p posting, x txn) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF x.kind <> p.kind OR coalesce(x.reason, '') <> p.reason THEN
        RETURN false;
    ELSIF p.kind = 3 THEN
        RETURN x.ref IS NOT DISTINCT FROM (SELECT t.seq FROM txn t WHERE t.id = p.charge AND t.kind = 1) AND p.amount IN (0, x.amount);
    END IF;
    RETURN x.amount = p.amount AND x.test = p.test
        AND p.debtor IS NOT DISTINCT FROM (SELECT a.id FROM account a WHERE a.n = x.debtor)
        AND p.creditor IS NOT DISTINCT FROM (SELECT a.id FROM account a WHERE a.n = x.creditor);
END $$;

-- transfer writes a top-up or an adjustment between the accounts d and e. The
-- caller has their locks.
CREATE OR REPLACE FUNCTION transfer(p posting, d account, e account, v_now timestamptz) RETURNS outcome_code LANGUAGE plpgsql AS $$
DECLARE
    c_max CONSTANT bigint := 9223372036854775807;
BEGIN
    IF (CASE WHEN p.test THEN d.test ELSE d.live END) < -c_max - 1 + p.amount
        OR (CASE WHEN p.test THEN e.test ELSE e.live END) > c_max - p.amount THEN
        RETURN 'overflow';
    END IF;
    INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, reason)
        VALUES (p.id, p.kind, d.n, e.n, p.amount, p.test, v_now, nullif(p.reason, ''));
    UPDATE account SET
        live = live + CASE WHEN p.test THEN 0 WHEN n = d.n THEN -p.amount ELSE p.amount END,
        test = test + CASE WHEN NOT p.test THEN 0 WHEN n = d.n THEN -p.amount ELSE p.amount END
        WHERE n IN (d.n, e.n);
    RETURN 'done';
END $$;

-- refund writes a refund of the charge c. The caller has the lock of its payer. The
-- fee returns to the provider in proportion.
CREATE OR REPLACE FUNCTION refund(p posting, c txn, v_now timestamptz, OUT code outcome_code, OUT remaining bigint) LANGUAGE plpgsql AS $$
DECLARE
    c_max    CONSTANT bigint := 9223372036854775807;
    d        account;
    v_before bigint := (SELECT coalesce(sum(t.amount), 0) FROM txn t WHERE t.ref = c.seq AND t.kind = 3);
    v_amount bigint;
    v_back   bigint := 0; -- the part of the fee that returns to the provider
    v_gain   bigint;      -- the net gain of the payer, which may also be the provider or the operator
    v_gone   bigint;
BEGIN
    remaining := c.amount - v_before;
    v_amount := CASE WHEN p.amount = 0 THEN remaining ELSE p.amount END;
    IF remaining <= 0 OR v_amount > remaining THEN
        code := CASE WHEN remaining <= 0 THEN 'settled'::outcome_code ELSE 'insufficient' END;
        RETURN;
    END IF;
    IF c.fee > 0 THEN
        v_back := div(c.fee::numeric * (v_before + v_amount), c.amount) - div(c.fee::numeric * v_before, c.amount);
    END IF;
    v_gain := CASE WHEN c.creditor = c.debtor THEN v_back WHEN c.fee_to = c.debtor THEN v_amount - v_back ELSE v_amount END;
    SELECT * INTO d FROM account a WHERE a.n = c.debtor;
    IF (CASE WHEN c.test THEN d.test ELSE d.live END) > c_max - v_gain THEN
        code := 'overflow';
        RETURN;
    END IF;
    INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, ref, reason)
        VALUES (p.id, 3, c.creditor, c.debtor, v_amount, c.test, v_now, c.seq, nullif(p.reason, ''));
    IF v_back > 0 THEN
        INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, ref)
            VALUES (p.fee_id, 5, c.fee_to, c.creditor, v_back, c.test, v_now, c.seq);
    END IF;
    UPDATE account SET live = live + CASE WHEN c.test THEN 0 ELSE v_gain END, test = test + CASE WHEN c.test THEN v_gain ELSE 0 END
        WHERE n = c.debtor;
    INSERT INTO earning (account, test, amount)
        SELECT y.n, c.test, y.amount FROM (VALUES (c.creditor, v_back - v_amount), (c.fee_to, -v_back)) AS y (n, amount)
        WHERE y.n <> c.debtor AND y.amount <> 0;
    IF v_amount = remaining THEN
        -- A response that is not stored cannot be replayed, so the call may run again.
        DELETE FROM idempotency t WHERE t.charge = c.id AND t.captured_at IS NOT NULL AND t.size = 0;
        GET DIAGNOSTICS v_gone = ROW_COUNT;
        UPDATE account SET idempotency_keys = idempotency_keys - v_gone WHERE n = c.debtor AND v_gone > 0;
    END IF;
    code := 'done';
END $$;

-- post writes a top-up, an adjustment or a refund with its audit row, in one
-- transaction. If the same posting is sent again, post returns the first outcome.
CREATE OR REPLACE FUNCTION post(p posting, a audit, v_shift bigint) RETURNS posted LANGUAGE plpgsql AS $$
DECLARE
    r       posted;
    c       txn;         -- the charge
    x       txn;         -- the transaction of the posting, which may have been in the journal before
    d       account;
    e       account;
    v_now   timestamptz;
    v_about bigint;      -- account.n
    v_funds bigint := (SELECT y.n FROM account y WHERE y.id = '@funding');
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1180791397, 1); -- shared by writers to the journal
    SELECT * INTO x FROM txn t WHERE t.id = p.id;
    IF x.seq IS NULL THEN
        IF p.kind = 3 THEN
            SELECT * INTO c FROM txn t WHERE t.id = p.charge AND t.kind = 1;
            IF c.seq IS NULL THEN
                r.code := 'no_charge';
                RETURN r;
            END IF;
            v_about := c.debtor;
            PERFORM 1 FROM account y WHERE y.n = c.debtor FOR NO KEY UPDATE;
        ELSE
            PERFORM 1 FROM account y WHERE y.id IN (p.debtor, p.creditor) ORDER BY y.n FOR NO KEY UPDATE;
            SELECT * INTO d FROM account y WHERE y.id = p.debtor;
            SELECT * INTO e FROM account y WHERE y.id = p.creditor;
            -- One of the two accounts belongs to the ledger itself, and the other must
            -- not.
            IF d.n IS NULL OR e.n IS NULL OR d.id LIKE '@%' AND e.id LIKE '@%' THEN
                r.code := 'no_account';
                RETURN r;
            END IF;
            v_about := CASE WHEN e.id LIKE '@%' THEN d.n ELSE e.n END;
        END IF;
        SELECT * INTO x FROM txn t WHERE t.id = p.id; -- another node may have posted it while this one waited
    END IF;
    v_now := moved_clock(v_shift);

    IF x.seq IS NOT NULL THEN
        IF NOT posted_before(p, x) THEN
            r.code := 'conflict';
            RETURN r;
        END IF;
        v_about := CASE WHEN x.creditor = v_funds THEN x.debtor ELSE x.creditor END;
        PERFORM lock_account(v_about, v_now);
        r.code := 'done';
        r.made := false;
    ELSE
        PERFORM lock_account(v_about, v_now);
        IF p.kind = 3 THEN
            SELECT y.code, y.remaining INTO r.code, r.remaining FROM refund(p, c, v_now) y;
        ELSE
            SELECT * INTO d FROM account y WHERE y.n = d.n;
            SELECT * INTO e FROM account y WHERE y.n = e.n;
            r.code := transfer(p, d, e, v_now);
        END IF;
        IF r.code <> 'done' THEN
            RETURN r;
        END IF;
        SELECT * INTO x FROM txn t WHERE t.id = p.id;
        INSERT INTO audit (at, actor, origin, action, target, detail) VALUES (coalesce(a.at, v_now), a.actor, a.origin, a.action, a.target, a.detail);
        r.made := true;
    END IF;
    r.debtor := (SELECT y.id FROM account y WHERE y.n = x.debtor);
    r.creditor := (SELECT y.id FROM account y WHERE y.n = x.creditor);
    r.amount := x.amount; r.test := x.test; r.at := x.at;
    SELECT CASE WHEN x.test THEN y.test ELSE y.live END, CASE WHEN x.test THEN y.test_reserved ELSE y.live_reserved END
        INTO r.balance, r.reserved FROM account y WHERE y.n = v_about;
    RETURN r;
END $$;
