-- The functions in this file clean up a limited number of rows in each call. Any
-- number of nodes can call them at the same time, because they skip locked rows.

CREATE OR REPLACE FUNCTION expire_reservations(v_shift bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION fold_earnings(v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_locked bigint[];
BEGIN
    SELECT array_agg(x.n) INTO v_locked FROM (
        SELECT a.n FROM account a WHERE a.n IN (SELECT DISTINCT e.account FROM earning e LIMIT v_limit)
        FOR NO KEY UPDATE SKIP LOCKED
    ) x;
    PERFORM fold(v_locked);
END $$;

-- expire_idempotency deletes the idempotency keys of calls that were captured
-- longer than v_life ago.
CREATE OR REPLACE FUNCTION expire_idempotency(v_shift bigint, v_life interval, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_before timestamptz := moved_clock(v_shift) - v_life;
    v_payer  bigint;
    v_gone   bigint;
BEGIN
    FOR v_payer IN
        SELECT DISTINCT r.payer FROM (
            SELECT payer FROM idempotency WHERE captured_at <= v_before ORDER BY captured_at LIMIT v_limit
        ) r
    LOOP
        PERFORM 1 FROM account WHERE n = v_payer FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            DELETE FROM idempotency WHERE hash IN (
                SELECT hash FROM idempotency WHERE captured_at <= v_before AND payer = v_payer ORDER BY captured_at LIMIT v_limit
            );
            GET DIAGNOSTICS v_gone = ROW_COUNT;
            UPDATE account SET idempotency_keys = idempotency_keys - v_gone WHERE n = v_payer;
        END IF;
    END LOOP;
END $$;

-- bound_responses counts the idempotency keys, and drops the oldest stored
-- responses beyond v_max bytes; their keys stay. One node at a time does so.
CREATE OR REPLACE FUNCTION bound_responses(v_max bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_kept  bigint;
    v_freed bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1180791397, 3) THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(size), 0) INTO v_kept FROM idempotency WHERE size > 0;
    WHILE v_kept > v_max LOOP
        WITH oldest AS (
            SELECT hash, size, captured_at FROM idempotency WHERE size > 0 ORDER BY captured_at LIMIT 512 FOR UPDATE SKIP LOCKED
        ), running AS (
            SELECT hash, size, v_kept - sum(size) OVER (ORDER BY captured_at, hash) + size AS before FROM oldest
        ), dropped AS (
            UPDATE idempotency SET size = 0, body = NULL FROM running WHERE idempotency.hash = running.hash AND running.before > v_max
            RETURNING running.size
        )
        SELECT sum(size) INTO v_freed FROM dropped;
        EXIT WHEN v_freed IS NULL;
        v_kept := v_kept - v_freed;
    END LOOP;
    UPDATE figure SET idempotency_keys = (SELECT count(*) FROM idempotency), response_bytes = v_kept;
END $$;

-- delete_ended deletes reservations that ended longer than v_remember ago,
-- bindings, and voided ids.
CREATE OR REPLACE FUNCTION delete_ended(v_shift bigint, v_remember interval, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := moved_clock(v_shift);
BEGIN
    DELETE FROM reservation WHERE id IN (
        SELECT id FROM reservation WHERE state <> 1 AND expires_at <= v_now - v_remember
        ORDER BY expires_at LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
    DELETE FROM binding WHERE (handle_hash, server) IN (
        SELECT handle_hash, server FROM binding WHERE until <= v_now ORDER BY until LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
    DELETE FROM void WHERE id IN (
        SELECT id FROM void WHERE until <= v_now ORDER BY until LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
END $$;

-- delete_nodes deletes all revocations older than v_keep except the newest one, all
-- nodes without a lease for that time, and all expired request locks. v_keep must be
-- longer than any lease.
CREATE OR REPLACE FUNCTION delete_nodes(v_keep interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM revocation WHERE at < clock_timestamp() - v_keep AND seq < (SELECT max(seq) FROM revocation);
    DELETE FROM node WHERE lease_until < clock_timestamp() - v_keep;
    DELETE FROM request_lock WHERE until < clock_timestamp();
END $$;
