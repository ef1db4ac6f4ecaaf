-- +goose Up

-- Who may settle a charge: the lineage of the key that a gateway or a provider
-- has asked a platform by, null for what the store's own process reserves.
ALTER TABLE reservation ADD COLUMN settler text;
ALTER TABLE txn ADD COLUMN settler text;

-- Ids that were given up for good: nothing is captured under them, whatever
-- becomes of their reservations.
CREATE TABLE void (
    id    uuid PRIMARY KEY,                                           -- of a charge
    until timestamptz NOT NULL
);
CREATE INDEX void_until ON void (until);

-- Each server has marks of its own. Those from before are of any server.
ALTER TABLE bond ADD COLUMN server text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE bond DROP CONSTRAINT bond_pkey;
ALTER TABLE bond ADD PRIMARY KEY (mark, server);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tidy_old(v_shift bigint, v_remember bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := moved_clock(v_shift);
BEGIN
    DELETE FROM reservation WHERE id IN (
        SELECT id FROM reservation WHERE state <> 1 AND expires_at <= v_now - v_remember * interval '1 microsecond'
        ORDER BY expires_at LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
    DELETE FROM bond WHERE (mark, server) IN (
        SELECT mark, server FROM bond WHERE until <= v_now ORDER BY until LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
    DELETE FROM void WHERE id IN (
        SELECT id FROM void WHERE until <= v_now ORDER BY until LIMIT v_limit FOR UPDATE SKIP LOCKED
    );
END $$;
-- +goose StatementEnd

-- The apply without settlers stays for the nodes of a cluster that are not
-- brought up to date yet. What they reserve and capture nobody settles through a
-- platform.

-- apply carries out a batch of operations on charges, each as if it were alone,
-- in one transaction. A refusal concerns one operation only. Ids must differ
-- within a batch.
--
-- op: 1 reserve, 2 capture, 3 charge, 4 release, 5 renew, 6 release for good.
-- made says that a capture was made now, and not before. code: 0 done,
-- 1 no such charge, 2 no such account, 3 conflict, 4 settled, 5 insufficient,
-- 6 capped (facts: holder, period, cap, spent, held, day), 7 in flight,
-- 8 reused, 9 answered before by the charge of that id, 10 too many retries,
-- 11 overflow, 12 to be asked for again in a batch of its own.
--
-- The queries are written so that no plan reads more than the rows it is about,
-- whatever the tables looked like when it was made: LATERAL with LIMIT is a
-- lookup by index for each row.
--
-- v_alone says that it is a batch of one: then who earns is locked, too, and
-- its balance is exact, so that an overflow is found.
-- +goose StatementBegin
CREATE FUNCTION apply(
    v_shift bigint, v_alone boolean, v_most_retries bigint, v_most_retries_each bigint,
    p_op smallint[], p_id uuid[], p_account text[], p_provider text[], p_key text[], p_lineage text[], p_server text[],
    p_tool text[], p_amount bigint[], p_fee bigint[], p_fee_to text[], p_sandbox boolean[],
    p_key_call bigint[], p_key_day bigint[], p_key_month bigint[],
    p_server_call bigint[], p_server_day bigint[], p_server_month bigint[],
    p_free_calls bigint[], p_mark uuid[], p_fingerprint bytea[], p_answer bytea[], p_fee_id uuid[], p_settler text[]
) RETURNS TABLE (
    ord bigint, code smallint, balance bigint, reserved bigint, waived boolean, facts bigint[], near bigint[], charge uuid,
    at timestamptz, account text, provider text, key text, lineage text, server text, tool text,
    amount bigint, fee bigint, fee_to text, sandbox boolean, refunded bigint,
    settler text, made boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c_life    CONSTANT interval := interval '2 minutes';
    c_day     CONSTANT interval := interval '24 hours';
    c_settle  CONSTANT interval := interval '2 hours';
    c_huge    CONSTANT bigint := 1::bigint << 40; -- from here on amounts come alone
    c_rich    CONSTANT bigint := 1::bigint << 62; -- from here on who earns is looked at
    c_most    CONSTANT bigint := 9223372036854775807;
    o         record;
    k         record;
    v_now     timestamptz;
    v_date    date;
    v_today   integer;
    v_locked  bigint[];
    v_total   bigint;      -- retries of all accounts
    -- The account whose operations are being carried out.
    v_payer   bigint;
    v_changed boolean;
    v_bal     bigint[];    -- live, sandbox
    v_res     bigint[];
    v_retries bigint;
    -- What its meters gain: one entry for each.
    w_key     text[];
    w_holder  smallint[];
    w_name    text[];
    w_sandbox boolean[];
    w_day     integer[];
    w_spent   bigint[];
    w_held    bigint[];
    w_free    bigint[];
    w_waiting bigint[];
    -- What batch-mates earn, by account and balance.
    e_account bigint[] := '{}';
    e_sandbox boolean[] := '{}';
    e_amount  bigint[] := '{}';
    -- One operation.
    p         integer;     -- its balance: 1 live, 2 sandbox
    i         integer;
    h         integer;
    v_same    boolean;
    v_admit   boolean;
    v_hold    boolean;     -- to be reserved
    v_pay     boolean;     -- to be captured
    v_waived  boolean;
    v_paid    bigint;
    v_day     integer;
    v_name    text;
    v_gain    bigint;
    v_seq     bigint;
    d_spent   bigint;
    d_held    bigint;
    d_free    bigint;
    d_waiting bigint;
    v_cap     bigint[];    -- call, day, month
    v_spent   numeric[];   -- day, month
    v_held    numeric[];
    v_count   numeric;
BEGIN
    IF p_op && '{2,3}'::smallint[] THEN
        PERFORM pg_advisory_xact_lock_shared(1180791397, 1);
    END IF;
    -- Of an id that nothing is known of, no row can be locked.
    PERFORM pg_advisory_xact_lock(x.n) FROM (
        SELECT DISTINCT hashtextextended(u.id::text, 0) AS n FROM unnest(p_op, p_id, p_settler) AS u (op, id, settler)
        WHERE u.op = 6 OR u.op = 3 AND u.settler <> '' ORDER BY 1
    ) x;
    SELECT coalesce(array_agg(DISTINCT x.n), '{}') INTO v_locked FROM unnest(p_id, p_account, p_provider, p_fee_to) AS u (id, account, provider, fee_to)
        LEFT JOIN LATERAL (SELECT * FROM reservation x WHERE x.id = u.id LIMIT 1) r ON true
        LEFT JOIN LATERAL (SELECT * FROM txn x WHERE x.id = u.id LIMIT 1) t ON true
        LEFT JOIN account a ON a.id = u.account
        CROSS JOIN LATERAL (
            SELECT coalesce(t.debtor, r.payer, a.n) AS n
            UNION ALL SELECT coalesce(r.payee, (SELECT b.n FROM account b WHERE b.id = u.provider)) WHERE v_alone
            UNION ALL SELECT coalesce(r.fee_to, (SELECT b.n FROM account b WHERE b.id = u.fee_to)) WHERE v_alone
        ) x WHERE x.n IS NOT NULL;
    PERFORM 1 FROM account a WHERE a.n = ANY (v_locked) ORDER BY a.n FOR NO KEY UPDATE;

    v_now := moved_clock(v_shift);
    v_date := (v_now AT TIME ZONE 'UTC')::date;
    v_today := v_date - DATE '1970-01-01';
    PERFORM expire(x.n, v_now) FROM (
        SELECT a.n FROM account a CROSS JOIN LATERAL (
            SELECT FROM reservation r WHERE r.payer = a.n AND r.state = 1
                AND r.expires_at > least(a.swept_to, v_now) AND r.expires_at <= v_now LIMIT 1
        ) r WHERE a.n = ANY (v_locked) OFFSET 0
    ) x;
    PERFORM fold(v_locked);

    FOR o IN
        SELECT u.*, r.state, r.day AS r_day, r.waived AS r_waived, r.mark AS r_mark,
            v.id IS NOT NULL AS voided,
            t.seq, t.kind, t.at AS t_at, t.amount AS t_amount, t.waived AS t_waived,
            coalesce(t.debtor, r.payer, ai.n) AS payer,
            CASE WHEN t.seq IS NOT NULL THEN t.creditor WHEN r.id IS NOT NULL THEN r.payee ELSE bi.n END AS payee,
            CASE WHEN t.seq IS NOT NULL THEN t.fee_to WHEN r.id IS NOT NULL THEN r.fee_to ELSE ci.n END AS fee_to_n,
            -- The order as it is known, or else as it is given.
            coalesce(t.key, r.key, u.key) AS e_key, coalesce(t.lineage, r.lineage, u.lineage) AS e_lineage,
            coalesce(t.server, r.server, u.server) AS e_server, coalesce(t.tool, r.tool, u.tool) AS e_tool,
            coalesce(t.amount + coalesce(t.waived, 0), r.amount, u.amount) AS e_amount,
            CASE WHEN t.seq IS NOT NULL THEN coalesce(t.fee, 0) ELSE coalesce(r.fee, u.fee) END AS e_fee,
            coalesce(t.sandbox, r.sandbox, u.sandbox) AS e_sandbox,
            CASE WHEN t.seq IS NOT NULL THEN coalesce(t.settler, '') WHEN r.id IS NOT NULL THEN coalesce(r.settler, '') ELSE u.settler END AS e_settler,
            coalesce(r.key_call, u.key_call) AS e_key_call, coalesce(r.key_day, u.key_day) AS e_key_day, coalesce(r.key_month, u.key_month) AS e_key_month,
            coalesce(r.server_call, u.server_call) AS e_server_call, coalesce(r.server_day, u.server_day) AS e_server_day,
            coalesce(r.server_month, u.server_month) AS e_server_month,
            coalesce(r.free_calls, u.free_calls) AS e_free_calls,
            CASE WHEN r.id IS NULL THEN u.mark ELSE r.mark END AS e_mark,
            CASE WHEN r.id IS NULL THEN u.fingerprint ELSE r.fingerprint END AS e_fingerprint,
            pa.id AS payer_id, pa.live, pa.sandbox AS sandbox_balance, pa.live_reserved, pa.sandbox_reserved, pa.credit_limit,
            pa.cap_call, pa.cap_day, pa.cap_month, pa.retries,
            pb.id AS payee_id, CASE WHEN coalesce(r.sandbox, u.sandbox) THEN pb.sandbox ELSE pb.live END AS payee_balance,
            pc.id AS fee_to_id, CASE WHEN coalesce(r.sandbox, u.sandbox) THEN pc.sandbox ELSE pc.live END AS fee_to_balance
        FROM unnest(p_op, p_id, p_account, p_provider, p_key, p_lineage, p_server, p_tool, p_amount, p_fee, p_fee_to, p_sandbox,
                p_key_call, p_key_day, p_key_month, p_server_call, p_server_day, p_server_month,
                p_free_calls, p_mark, p_fingerprint, p_answer, p_fee_id, p_settler) WITH ORDINALITY
            AS u (op, id, account, provider, key, lineage, server, tool, amount, fee, fee_to, sandbox,
                key_call, key_day, key_month, server_call, server_day, server_month, free_calls, mark, fingerprint, answer, fee_id, settler, ord)
            LEFT JOIN LATERAL (SELECT * FROM reservation x WHERE x.id = u.id LIMIT 1) r ON true
            LEFT JOIN LATERAL (SELECT * FROM txn x WHERE x.id = u.id LIMIT 1) t ON true
            LEFT JOIN LATERAL (SELECT x.id FROM void x WHERE x.id = u.id AND x.until > v_now LIMIT 1) v ON true
            LEFT JOIN account ai ON ai.id = u.account AND ai.id NOT LIKE '@%'
            LEFT JOIN account bi ON bi.id = u.provider AND bi.id NOT LIKE '@%'
            LEFT JOIN account ci ON ci.id = u.fee_to AND ci.id NOT LIKE '@%'
            LEFT JOIN account pa ON pa.n = coalesce(t.debtor, r.payer, ai.n)
            LEFT JOIN account pb ON pb.n = CASE WHEN t.seq IS NOT NULL THEN t.creditor WHEN r.id IS NOT NULL THEN r.payee ELSE bi.n END
            LEFT JOIN account pc ON pc.n = CASE WHEN t.seq IS NOT NULL THEN t.fee_to WHEN r.id IS NOT NULL THEN r.fee_to ELSE ci.n END
        ORDER BY coalesce(t.debtor, r.payer, ai.n) NULLS LAST, u.ord
    LOOP
        IF o.payer IS DISTINCT FROM v_payer THEN
            IF v_changed THEN
                PERFORM save(v_payer, v_bal, v_res, v_retries, v_now, w_holder, w_name, w_sandbox, w_day, w_spent, w_held, w_free, w_waiting);
            END IF;
            v_payer := o.payer;
            v_changed := false;
            v_bal := ARRAY[o.live, o.sandbox_balance];
            v_res := ARRAY[o.live_reserved, o.sandbox_reserved];
            v_retries := o.retries;
            w_key := '{}'; w_holder := '{}'; w_name := '{}'; w_sandbox := '{}'; w_day := '{}';
            w_spent := '{}'; w_held := '{}'; w_free := '{}'; w_waiting := '{}';
        END IF;
        p := CASE WHEN o.e_sandbox THEN 2 ELSE 1 END;
        ord := o.ord; code := 0; facts := NULL; near := NULL; charge := NULL; refunded := 0; at := v_now; made := false;
        v_admit := false; v_hold := false; v_pay := false; v_waived := o.r_waived; v_day := o.r_day;
        d_spent := 0; d_held := 0; d_free := 0; d_waiting := 0;
        v_same := o.op NOT IN (1, 3) OR o.account = o.payer_id AND o.provider = o.payee_id AND o.fee_to = coalesce(o.fee_to_id, '')
            AND o.key = o.e_key AND o.lineage = o.e_lineage AND o.server = o.e_server AND o.tool = o.e_tool
            AND o.amount = o.e_amount AND o.fee = o.e_fee AND o.sandbox = o.e_sandbox AND o.settler = o.e_settler;

        -- What becomes of the operation, by what is known of the id.
        IF o.payer IS NOT NULL AND o.payer <> ALL (v_locked) THEN
            code := 12; -- the id has come to be known only now, as another account's
        ELSIF o.seq IS NOT NULL THEN
            IF o.kind <> 1 THEN
                code := CASE WHEN o.op IN (1, 3) THEN 3 ELSE 1 END;
            ELSIF NOT v_same THEN
                code := 3;
            ELSIF o.op IN (2, 3) THEN -- the first outcome
                at := o.t_at;
                v_waived := o.t_waived IS NOT NULL;
                refunded := (SELECT coalesce(sum(x.amount), 0) FROM txn x WHERE x.ref = o.seq AND x.kind = 3);
            ELSE
                code := 4;
            END IF;
        ELSIF o.voided AND o.op < 4 THEN
            code := 4;
        ELSIF o.state IS NOT NULL THEN
            IF NOT v_same THEN
                code := 3;
            ELSIF o.op IN (4, 6) THEN
                IF o.state = 1 THEN
                    d_held := CASE WHEN v_waived THEN 0 ELSE -o.e_amount END;
                    d_waiting := CASE WHEN v_waived THEN -1 ELSE 0 END;
                    v_res[p] := v_res[p] + d_held;
                    IF o.r_mark IS NOT NULL THEN
                        DELETE FROM retry x WHERE x.mark = o.r_mark AND x.charge = o.id AND x.captured_at IS NULL;
                        IF FOUND THEN
                            v_retries := v_retries - 1;
                        END IF;
                    END IF;
                END IF;
                IF o.state <> 2 THEN
                    UPDATE reservation x SET state = 2 WHERE x.id = o.id;
                    v_changed := true;
                END IF;
            ELSIF o.op IN (2, 3) AND o.state = 3 THEN
                v_admit := true;
                v_pay := true;
            ELSIF o.state <> 1 THEN
                code := 4;
            ELSIF o.op = 5 THEN
                UPDATE reservation x SET expires_at = v_now + c_life WHERE x.id = o.id;
            ELSIF o.op <> 1 THEN
                v_pay := true;
            END IF;
        ELSIF o.op NOT IN (1, 3) THEN
            code := 1;
        ELSIF o.payer IS NULL OR o.payee IS NULL OR o.fee_to <> '' AND o.fee_to_n IS NULL THEN
            code := 2;
            facts := ARRAY[CASE WHEN o.payer IS NULL THEN 1 WHEN o.payee IS NULL THEN 2 ELSE 3 END];
        ELSE
            v_admit := true;
            v_hold := o.op = 1;
            v_pay := o.op = 3;
        END IF;
        IF v_pay AND NOT v_alone AND (o.e_amount >= c_huge OR o.payee_balance >= c_rich OR o.fee_to_balance >= c_rich) THEN
            code := 12;
            v_admit := false; v_pay := false;
        END IF;

        -- May the call be begun, as far as its caller's key goes?
        IF v_admit AND o.e_mark IS NOT NULL THEN
            SELECT x.charge, x.fingerprint, x.captured_at INTO k FROM retry x WHERE x.mark = o.e_mark;
            IF FOUND AND k.captured_at IS NOT NULL AND v_now - k.captured_at >= c_day THEN
                DELETE FROM retry x WHERE x.mark = o.e_mark;
                v_retries := v_retries - 1;
                v_changed := true;
            ELSIF FOUND THEN
                IF k.captured_at IS NOT NULL THEN
                    code := 9;
                    charge := k.charge;
                ELSE
                    code := CASE WHEN k.fingerprint = o.e_fingerprint THEN 7 ELSE 8 END;
                END IF;
                IF o.state = 3 OR o.op = 3 AND code = 9 THEN
                    code := 4; -- the caller has begun the call anew
                END IF;
                v_admit := false; v_hold := false; v_pay := false;
            END IF;
            IF v_admit THEN
                v_total := coalesce(v_total, (SELECT x.retries FROM figure x));
                IF v_retries >= v_most_retries_each OR v_total >= v_most_retries THEN
                    code := 10;
                    v_admit := false; v_hold := false; v_pay := false;
                END IF;
            END IF;
        END IF;

        -- And as far as quota, caps and balance go?
        IF v_admit THEN
            v_day := v_today;
            v_waived := false;
            IF o.e_free_calls > 0 THEN
                SELECT coalesce(sum(m.free + m.waiting), 0) INTO v_count FROM meter m
                    WHERE m.account = v_payer AND m.holder = 2 AND m.name = o.e_server AND m.sandbox = o.e_sandbox AND m.day = v_day;
                i := array_position(w_key, '2' || p || ':' || v_day || ':' || o.e_server);
                IF i IS NOT NULL THEN
                    v_count := v_count + w_free[i] + w_waiting[i];
                END IF;
                v_waived := v_count < o.e_free_calls;
            END IF;
            v_paid := CASE WHEN v_waived THEN 0 ELSE o.e_amount END;
            FOR h IN 0..2 LOOP
                EXIT WHEN v_waived;
                v_cap := CASE h WHEN 0 THEN ARRAY[o.e_key_call, o.e_key_day, o.e_key_month]
                    WHEN 1 THEN ARRAY[o.cap_call, o.cap_day, o.cap_month]
                    ELSE ARRAY[o.e_server_call, o.e_server_day, o.e_server_month] END;
                IF v_cap[1] > 0 AND v_paid > v_cap[1] THEN
                    code := 6;
                    facts := ARRAY[h, 0, v_cap[1], 0, 0, v_day];
                    EXIT;
                END IF;
                CONTINUE WHEN v_cap[2] = 0 AND v_cap[3] = 0;
                v_name := CASE h WHEN 0 THEN o.e_lineage WHEN 1 THEN '' ELSE o.e_server END;
                SELECT x.spent, x.held INTO v_spent, v_held
                    FROM used(v_payer, h, v_name, o.e_sandbox, v_day, v_cap[3] > 0, w_holder, w_name, w_sandbox, w_day, w_spent, w_held) x;
                FOR i IN 1..2 LOOP
                    IF v_cap[i + 1] > 0 AND v_paid > v_cap[i + 1] - v_spent[i] - v_held[i] THEN
                        code := 6;
                        facts := ARRAY[h, i, v_cap[i + 1], least(v_spent[i], c_most), least(v_held[i], c_most), v_day];
                        EXIT;
                    END IF;
                END LOOP;
                EXIT WHEN code <> 0;
            END LOOP;
            IF code = 0 AND NOT v_waived AND (v_paid > v_bal[p]::numeric - v_res[p] + CASE WHEN p = 1 THEN o.credit_limit ELSE 0 END
                    OR v_res[p] > c_most - v_paid) THEN
                code := 5;
            END IF;
            IF code <> 0 THEN
                v_hold := false; v_pay := false;
            END IF;
        END IF;

        IF o.op = 6 AND code IN (0, 1) THEN
            INSERT INTO void (id, until) VALUES (o.id, v_now + c_settle) ON CONFLICT (id) DO UPDATE SET until = excluded.until;
        END IF;
        IF v_hold THEN
            INSERT INTO reservation (id, payer, payee, fee_to, key, lineage, server, tool, amount, fee, sandbox, state, expires_at, day, waived,
                    key_call, key_day, key_month, server_call, server_day, server_month, free_calls, mark, fingerprint, settler)
                VALUES (o.id, o.payer, o.payee, o.fee_to_n, o.key, o.lineage, o.server, o.tool, o.amount, o.fee, o.sandbox, 1, v_now + c_life, v_day, v_waived,
                    o.key_call, o.key_day, o.key_month, o.server_call, o.server_day, o.server_month, o.free_calls, o.mark, o.fingerprint, nullif(o.settler, ''));
            IF o.mark IS NOT NULL THEN
                INSERT INTO retry (mark, payer, charge, fingerprint) VALUES (o.mark, v_payer, o.id, o.fingerprint);
                v_retries := v_retries + 1;
            END IF;
            v_res[p] := v_res[p] + v_paid;
            d_held := v_paid;
            d_waiting := CASE WHEN v_waived THEN 1 ELSE 0 END;
            v_changed := true;
            charge := o.id; -- says that it was reserved now
        END IF;

        IF v_pay THEN
            v_paid := CASE WHEN v_waived THEN 0 ELSE o.e_amount END;
            v_gain := 0; -- what the payer gets of its own money
            IF o.payee = v_payer THEN
                v_gain := v_gain + v_paid - CASE WHEN v_waived THEN 0 ELSE o.e_fee END;
            END IF;
            IF o.fee_to_n = v_payer AND NOT v_waived THEN
                v_gain := v_gain + o.e_fee;
            END IF;
            -- The edges of what a balance can be.
            IF v_bal[p] < -c_most - 1 + v_paid
                OR v_alone AND o.payee <> v_payer AND o.payee_balance > c_most - (v_paid - CASE WHEN v_waived THEN 0 ELSE o.e_fee END)
                OR v_alone AND o.fee_to_n <> v_payer AND NOT v_waived AND o.fee_to_balance > c_most - o.e_fee THEN
                code := 11;
                v_pay := false;
            END IF;
        END IF;
        IF v_pay THEN
            INSERT INTO txn (id, kind, debtor, creditor, amount, sandbox, at, key, lineage, server, tool, day, waived, fee, fee_to, settler)
                VALUES (o.id, 1, v_payer, o.payee, v_paid, o.e_sandbox, v_now, o.e_key, o.e_lineage, o.e_server, o.e_tool, v_day,
                    CASE WHEN v_waived THEN o.e_amount END, nullif(o.e_fee, 0), o.fee_to_n, nullif(o.e_settler, ''))
                RETURNING txn.seq INTO v_seq;
            made := true;
            IF o.e_fee > 0 AND NOT v_waived THEN
                INSERT INTO txn (id, kind, debtor, creditor, amount, sandbox, at, ref)
                    VALUES (o.fee_id, 5, o.payee, o.fee_to_n, o.e_fee, o.e_sandbox, v_now, v_seq);
            END IF;
            IF o.state IS NOT NULL THEN
                DELETE FROM reservation x WHERE x.id = o.id;
            END IF;
            IF o.state = 1 THEN
                v_res[p] := v_res[p] - v_paid;
                d_held := -v_paid;
                d_waiting := CASE WHEN v_waived THEN -1 ELSE 0 END;
                IF o.e_mark IS NOT NULL THEN
                    UPDATE retry x SET captured_at = v_now, size = coalesce(length(o.answer), 0), body = o.answer
                        WHERE x.mark = o.e_mark AND x.charge = o.id;
                END IF;
            ELSIF o.e_mark IS NOT NULL THEN
                INSERT INTO retry (mark, payer, charge, fingerprint, captured_at, size, body)
                    VALUES (o.e_mark, v_payer, o.id, o.e_fingerprint, v_now, coalesce(length(o.answer), 0), o.answer);
                v_retries := v_retries + 1;
            END IF;
            d_spent := v_paid;
            d_free := CASE WHEN v_waived THEN 1 ELSE 0 END;
            v_bal[p] := v_bal[p] - v_paid + v_gain;
            v_changed := true;
            -- What others earn.
            IF v_paid > 0 AND v_alone THEN
                UPDATE account x SET
                    live = x.live + CASE WHEN o.e_sandbox THEN 0 ELSE y.amount END, sandbox = x.sandbox + CASE WHEN o.e_sandbox THEN y.amount ELSE 0 END
                    FROM (VALUES (o.payee, v_paid - o.e_fee), (o.fee_to_n, o.e_fee)) AS y (n, amount)
                    WHERE x.n = y.n AND y.n <> v_payer AND y.amount > 0;
            ELSIF v_paid > 0 THEN
                IF o.payee <> v_payer AND v_paid > o.e_fee THEN
                    e_account := e_account || o.payee; e_sandbox := e_sandbox || o.e_sandbox; e_amount := e_amount || v_paid - o.e_fee;
                END IF;
                IF o.fee_to_n <> v_payer AND o.e_fee > 0 THEN
                    e_account := e_account || o.fee_to_n; e_sandbox := e_sandbox || o.e_sandbox; e_amount := e_amount || o.e_fee;
                END IF;
            END IF;
            -- Caps of which 80 % are spent now, and were not before.
            FOR h IN 0..2 LOOP
                EXIT WHEN v_paid = 0;
                v_cap := CASE h WHEN 0 THEN ARRAY[0, o.e_key_day, o.e_key_month] WHEN 1 THEN ARRAY[0, o.cap_day, o.cap_month]
                    ELSE ARRAY[0, o.e_server_day, o.e_server_month] END;
                CONTINUE WHEN v_cap[2] = 0 AND v_cap[3] = 0;
                v_name := CASE h WHEN 0 THEN o.e_lineage WHEN 1 THEN '' ELSE o.e_server END;
                SELECT x.spent INTO v_spent
                    FROM used(v_payer, h, v_name, o.e_sandbox, v_day, v_cap[3] > 0, w_holder, w_name, w_sandbox, w_day, w_spent, w_held) x;
                FOR i IN 1..2 LOOP
                    IF v_cap[i + 1] > 0 AND v_spent[i] < v_cap[i + 1] - v_cap[i + 1] / 5 AND v_spent[i] + v_paid >= v_cap[i + 1] - v_cap[i + 1] / 5 THEN
                        near := near || ARRAY[h, i, v_cap[i + 1], least(v_spent[i] + v_paid, c_most), v_day]::bigint[];
                    END IF;
                END LOOP;
            END LOOP;
        END IF;

        IF d_spent <> 0 OR d_held <> 0 OR d_free <> 0 OR d_waiting <> 0 THEN
            FOR h IN 0..2 LOOP
                v_name := CASE h WHEN 0 THEN o.e_lineage WHEN 1 THEN '' ELSE o.e_server END;
                i := array_position(w_key, h::text || p || ':' || v_day || ':' || v_name);
                IF i IS NULL THEN
                    i := coalesce(array_length(w_key, 1), 0) + 1;
                    w_key[i] := h::text || p || ':' || v_day || ':' || v_name;
                    w_holder[i] := h; w_name[i] := v_name; w_sandbox[i] := o.e_sandbox; w_day[i] := v_day;
                    w_spent[i] := d_spent; w_held[i] := d_held; w_free[i] := d_free; w_waiting[i] := d_waiting;
                ELSE
                    w_spent[i] := w_spent[i] + d_spent; w_held[i] := w_held[i] + d_held;
                    w_free[i] := w_free[i] + d_free; w_waiting[i] := w_waiting[i] + d_waiting;
                END IF;
            END LOOP;
        END IF;

        balance := v_bal[p]; reserved := v_res[p]; waived := v_waived;
        IF o.op IN (2, 3) THEN
            account := o.payer_id; provider := o.payee_id; key := o.e_key; lineage := o.e_lineage; server := o.e_server; tool := o.e_tool;
            amount := o.e_amount; fee := o.e_fee; fee_to := o.fee_to_id; sandbox := o.e_sandbox; settler := o.e_settler;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF v_changed THEN
        PERFORM save(v_payer, v_bal, v_res, v_retries, v_now, w_holder, w_name, w_sandbox, w_day, w_spent, w_held, w_free, w_waiting);
    END IF;
    IF array_length(e_account, 1) > 0 THEN
        INSERT INTO earning (account, sandbox, amount)
            SELECT x.account, x.sandbox, sum(x.amount) FROM unnest(e_account, e_sandbox, e_amount) AS x (account, sandbox, amount)
            GROUP BY x.account, x.sandbox;
    END IF;
END $$;
-- +goose StatementEnd
