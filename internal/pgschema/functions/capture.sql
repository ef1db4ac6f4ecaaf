-- captured returns the first outcome of an operation with an id that is in the journal.
CREATE OR REPLACE FUNCTION captured(o record) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e effect;
BEGIN
    IF NOT o.charged THEN -- the id belongs to a transaction of another kind
        e.code := CASE WHEN o.kind IN ('reserve', 'charge') THEN 'conflict'::outcome_code ELSE 'no_charge' END;
    ELSIF NOT o.same THEN
        e.code := 'conflict';
    ELSIF o.kind IN ('capture', 'charge') THEN
        e.code := 'done'; e.at := o.at; e.waived := o.waived;
        e.refunded := (SELECT coalesce(sum(x.amount), 0) FROM txn x WHERE x.ref = o.seq AND x.kind = 3);
    ELSE
        e.code := 'settled';
    END IF;
    RETURN e;
END $$;

-- nearly_spent returns the caps that a charge of v_paid nearly exhausts: after the
-- charge at most one part in v_part of the cap is left, and before it more was left.
CREATE OR REPLACE FUNCTION nearly_spent(o record, v_paid bigint, v_day integer, v_part bigint, v_spends spend[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    u      record;
    v_cap  bigint;
    v_near bigint[];
BEGIN
    FOR h IN 0..2 LOOP
        CONTINUE WHEN o.caps[3*h + 2] = 0 AND o.caps[3*h + 3] = 0;
        u := used(o.payer, h, CASE h WHEN 0 THEN o.lineage WHEN 1 THEN '' ELSE o.server END, o.test, v_day, o.caps[3*h + 3] > 0, v_spends);
        FOR i IN 1..2 LOOP
            v_cap := o.caps[3*h + 1 + i];
            IF v_cap > 0 AND u.spent[i] < v_cap - v_cap / v_part AND u.spent[i] + v_paid >= v_cap - v_cap / v_part THEN
                v_near := v_near || ARRAY[h, i, v_cap, least(u.spent[i] + v_paid, 9223372036854775807), v_day]::bigint[];
            END IF;
        END LOOP;
    END LOOP;
    RETURN v_near;
END $$;

-- capture charges an open reservation. Without a reservation, it charges an order that
-- the payer's terms allow now. In a batch of several operations, it answers 'alone' to
-- an operation with an amount or a balance near the limit of a bigint, so that the
-- caller sends it again in a batch of one. v_alone means a batch of one, in which the
-- earners are locked and their balances are exact.
CREATE OR REPLACE FUNCTION capture(
    o record, v_alone boolean, v_balance bigint, v_limit bigint, v_reserved bigint, v_keys bigint, v_spends spend[],
    v_now timestamptz, v_today integer, v_rules rules
) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    c_large  CONSTANT bigint := 1::bigint << 40; -- operations with this amount or more need a batch of one
    c_rich   CONSTANT bigint := 1::bigint << 62; -- so do earners with this balance or more
    c_max    CONSTANT bigint := 9223372036854775807;
    e        effect;
    v_paid   bigint;
    v_fee    bigint;
    v_gain   bigint := 0; -- the part of the charge that the payer itself earns
BEGIN
    IF o.state IS NULL AND o.kind = 'capture' THEN
        e.code := 'no_charge';
        RETURN e;
    ELSIF o.state = 2 THEN
        e.code := 'settled'; e.waived := o.waived;
        RETURN e;
    ELSIF o.state IS NULL AND NOT o.complete THEN
        RETURN missing_account(o);
    ELSIF NOT v_alone AND (o.amount >= c_large OR o.payee_balance >= c_rich OR o.fee_to_balance >= c_rich) THEN
        e.code := 'alone';
        RETURN e;
    END IF;
    IF o.state = 1 THEN
        e.code := 'done'; e.waived := o.waived; e.day := o.day;
    ELSE
        e := admit(o, v_balance::numeric + v_limit, v_reserved, v_keys, v_spends, v_now, v_today, v_rules);
        IF e.code = 'replay' OR o.state = 3 AND e.code IN ('in_flight', 'reused') THEN
            e.code := 'settled'; -- the caller has started the call again
        END IF;
        IF e.code <> 'done' THEN
            RETURN e;
        END IF;
    END IF;

    v_paid := CASE WHEN e.waived THEN 0 ELSE o.amount END;
    v_fee := CASE WHEN e.waived THEN 0 ELSE o.fee END;
    IF o.payee = o.payer THEN
        v_gain := v_paid - v_fee;
    END IF;
    IF o.fee_to = o.payer THEN
        v_gain := v_gain + v_fee;
    END IF;
    IF v_balance < -c_max - 1 + v_paid
        OR v_alone AND o.payee <> o.payer AND o.payee_balance > c_max - (v_paid - v_fee)
        OR v_alone AND o.fee_to <> o.payer AND o.fee_to_balance > c_max - v_fee THEN
        e.code := 'overflow';
        RETURN e;
    END IF;
    e.keys := coalesce(e.keys, 0) + record_charge(o, v_paid, v_fee, e.waived, e.day, v_now);
    IF v_alone AND v_paid > 0 THEN
        UPDATE account x SET
            live = x.live + CASE WHEN o.test THEN 0 ELSE y.amount END, test = x.test + CASE WHEN o.test THEN y.amount ELSE 0 END
            FROM (VALUES (o.payee, v_paid - v_fee), (o.fee_to, v_fee)) AS y (n, amount)
            WHERE x.n = y.n AND y.n <> o.payer AND y.amount > 0;
    END IF;
    IF o.state = 1 THEN
        e.held := -v_paid;
        e.waiting := CASE WHEN e.waived THEN -1 ELSE 0 END;
    END IF;
    e.made := true;
    e.spent := v_paid;
    e.free := CASE WHEN e.waived THEN 1 ELSE 0 END;
    e.balance := v_gain - v_paid;
    IF o.capped AND v_paid > 0 THEN
        e.near := nearly_spent(o, v_paid, e.day, v_rules.near_part, v_spends);
    END IF;
    RETURN e;
END $$;

-- record_charge writes a charge and its fee to the journal, and the response for its
-- idempotency key. It deletes the reservation. It returns how many idempotency keys are
-- new.
CREATE OR REPLACE FUNCTION record_charge(o record, v_paid bigint, v_fee bigint, v_waived boolean, v_day integer, v_now timestamptz)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_seq bigint;
BEGIN
    INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, key, lineage, server, tool, day, waived, fee, fee_to, settler)
        VALUES (o.id, 1, o.payer, o.payee, v_paid, o.test, v_now, o.key, o.lineage, o.server, o.tool, v_day,
            CASE WHEN v_waived THEN o.amount END, nullif(o.fee, 0), o.fee_to, nullif(o.settler, ''))
        RETURNING seq INTO v_seq;
    IF v_fee > 0 THEN
        INSERT INTO txn (id, kind, debtor, creditor, amount, test, at, ref) VALUES (o.fee_id, 5, o.payee, o.fee_to, v_fee, o.test, v_now, v_seq);
    END IF;
    IF o.state IS NOT NULL THEN
        DELETE FROM reservation x WHERE x.id = o.id;
    END IF;
    IF o.hash IS NULL THEN
        RETURN 0;
    ELSIF o.state = 1 THEN
        UPDATE idempotency x SET captured_at = v_now, size = coalesce(length(o.response), 0), body = o.response
            WHERE x.hash = o.hash AND x.charge = o.id;
        RETURN 0;
    END IF;
    INSERT INTO idempotency (hash, payer, charge, fingerprint, captured_at, size, body)
        VALUES (o.hash, o.payer, o.id, o.fingerprint, v_now, coalesce(length(o.response), 0), o.response);
    RETURN 1;
END $$;
