-- admit decides whether the payer may begin the call of an operation: by its
-- idempotency key, free quota, caps and balance, in this order. The parameter o is a
-- row of resolve; v_balance includes the credit limit.
CREATE OR REPLACE FUNCTION admit(
    o record, v_balance numeric, v_reserved bigint, v_keys bigint, v_spends spend[], v_now timestamptz, v_today integer, v_rules rules
) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e       effect;
    k       record;
    u       record;
    v_count numeric;
    v_cap   bigint;
BEGIN
    e.code := 'done'; e.keys := 0; e.waived := false; e.day := v_today;
    IF o.hash IS NOT NULL THEN
        SELECT x.charge, x.fingerprint, x.captured_at INTO k FROM idempotency x WHERE x.hash = o.hash;
        IF FOUND AND k.captured_at IS NOT NULL AND v_now - k.captured_at >= v_rules.idempotency_life THEN
            DELETE FROM idempotency x WHERE x.hash = o.hash;
            e.keys := -1;
        ELSIF FOUND THEN
            e.charge := CASE WHEN k.captured_at IS NOT NULL THEN k.charge END;
            e.code := CASE WHEN k.captured_at IS NOT NULL THEN 'replay'::outcome_code
                WHEN k.fingerprint = o.fingerprint THEN 'in_flight' ELSE 'reused' END;
            RETURN e;
        END IF;
        IF v_keys + e.keys >= v_rules.max_keys_per_account OR (SELECT x.idempotency_keys FROM figure x) >= v_rules.max_keys THEN
            e.code := 'too_many_keys';
            RETURN e;
        END IF;
    END IF;

    IF o.free_calls > 0 THEN
        v_count := (SELECT coalesce(sum(c.free + c.waiting), 0) FROM spend_counter c
                WHERE c.account = o.payer AND c.holder = 2 AND c.name = o.server AND c.test = o.test AND c.day = v_today)
            + (SELECT coalesce(sum(s.free + s.waiting), 0) FROM unnest(v_spends) s WHERE s.server = o.server AND s.test = o.test AND s.day = v_today);
        e.waived := v_count < o.free_calls;
        IF e.waived THEN
            RETURN e;
        END IF;
    END IF;

    IF o.capped THEN
        FOR h IN 0..2 LOOP
            v_cap := o.caps[3*h + 1];
            IF v_cap > 0 AND o.amount > v_cap THEN
                e.code := 'capped';
                e.facts := ARRAY[h, 0, v_cap, 0, 0, v_today];
                RETURN e;
            END IF;
            CONTINUE WHEN o.caps[3*h + 2] = 0 AND o.caps[3*h + 3] = 0;
            u := used(o.payer, h, CASE h WHEN 0 THEN o.lineage WHEN 1 THEN '' ELSE o.server END, o.test, v_today, o.caps[3*h + 3] > 0, v_spends);
            FOR i IN 1..2 LOOP
                v_cap := o.caps[3*h + 1 + i];
                IF v_cap > 0 AND o.amount > v_cap - u.spent[i] - u.held[i] THEN
                    e.code := 'capped';
                    e.facts := ARRAY[h, i, v_cap, least(u.spent[i], 9223372036854775807), least(u.held[i], 9223372036854775807), v_today];
                    RETURN e;
                END IF;
            END LOOP;
        END LOOP;
    END IF;
    IF o.amount > v_balance - v_reserved OR v_reserved > 9223372036854775807 - o.amount THEN
        e.code := 'insufficient';
    END IF;
    RETURN e;
END $$;

-- missing_account refuses an order that names an account that does not exist. It
-- returns the number of that account in the order: 1 for the payer, 2 for the provider,
-- 3 for the operator's account.
CREATE OR REPLACE FUNCTION missing_account(o record) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e effect;
BEGIN
    e.code := 'no_account';
    e.facts := ARRAY[CASE WHEN o.payer IS NULL THEN 1 WHEN o.payee IS NULL THEN 2 ELSE 3 END];
    RETURN e;
END $$;

-- reserve holds the amount of an order.
CREATE OR REPLACE FUNCTION reserve(
    o record, v_balance numeric, v_reserved bigint, v_keys bigint, v_spends spend[], v_now timestamptz, v_today integer, v_rules rules
) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e effect;
BEGIN
    IF o.state IS NOT NULL THEN
        e.code := CASE o.state WHEN 1 THEN 'done'::outcome_code ELSE 'settled' END;
        e.waived := o.waived;
        RETURN e;
    ELSIF NOT o.complete THEN
        RETURN missing_account(o);
    END IF;
    e := admit(o, v_balance, v_reserved, v_keys, v_spends, v_now, v_today, v_rules);
    IF e.code <> 'done' THEN
        RETURN e;
    END IF;
    INSERT INTO reservation (id, payer, payee, fee_to, key, lineage, server, tool, amount, fee, test, state, expires_at, day, waived,
            key_call, key_day, key_month, server_call, server_day, server_month, free_calls, idempotency_hash, fingerprint, settler)
        VALUES (o.id, o.payer, o.payee, o.fee_to, o.key, o.lineage, o.server, o.tool, o.amount, o.fee, o.test, 1, v_now + v_rules.reservation_life,
            e.day, e.waived, o.caps[1], o.caps[2], o.caps[3], o.caps[7], o.caps[8], o.caps[9], o.free_calls, o.hash, o.fingerprint, nullif(o.settler, ''));
    IF o.hash IS NOT NULL THEN
        INSERT INTO idempotency (hash, payer, charge, fingerprint) VALUES (o.hash, o.payer, o.id, o.fingerprint);
        e.keys := e.keys + 1;
    END IF;
    e.charge := o.id;
    IF e.waived THEN
        e.waiting := 1;
    ELSE
        e.held := o.amount;
    END IF;
    RETURN e;
END $$;
