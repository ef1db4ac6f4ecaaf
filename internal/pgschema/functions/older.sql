-- The functions in this file are called by nodes of schema version 8 and earlier. They
-- have the arguments, columns and rules of that version. See migration 9.

CREATE OR REPLACE FUNCTION apply(
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
    v_rules CONSTANT rules := ('2 minutes', '2 hours', '24 hours', 5, v_most_retries, v_most_retries_each);
    v_batch operation[];
BEGIN
    SELECT array_agg(((enum_range(NULL::operation_kind))[u.op], u.id, u.account, u.provider, u.key, u.lineage, u.server, u.tool,
            u.amount, u.fee, u.fee_to, u.sandbox, u.settler, u.key_call, u.key_day, u.key_month, u.server_call, u.server_day, u.server_month,
            u.free_calls, u.mark, u.fingerprint, u.answer, u.fee_id)::operation ORDER BY u.ord)
        INTO v_batch FROM unnest(p_op, p_id, p_account, p_provider, p_key, p_lineage, p_server, p_tool, p_amount, p_fee, p_fee_to, p_sandbox,
                p_key_call, p_key_day, p_key_month, p_server_call, p_server_day, p_server_month,
                p_free_calls, p_mark, p_fingerprint, p_answer, p_fee_id, p_settler) WITH ORDINALITY
            AS u (op, id, account, provider, key, lineage, server, tool, amount, fee, fee_to, sandbox,
                key_call, key_day, key_month, server_call, server_day, server_month, free_calls, mark, fingerprint, answer, fee_id, settler, ord);
    RETURN QUERY SELECT x.ord, (array_position(enum_range(NULL::outcome_code), x.code) - 1)::smallint, x.balance, x.reserved, x.waived,
            x.facts, x.near, x.charge, x.at, x.account, x.provider, x.key, x.lineage, x.server, x.tool,
            x.amount, x.fee, x.fee_to, x.test, x.refunded, x.settler, x.made
        FROM apply(v_batch, v_alone, v_shift, v_rules) x;
END $$;

CREATE OR REPLACE FUNCTION apply(
    v_shift bigint, v_alone boolean, v_most_retries bigint, v_most_retries_each bigint,
    p_op smallint[], p_id uuid[], p_account text[], p_provider text[], p_key text[], p_lineage text[], p_server text[],
    p_tool text[], p_amount bigint[], p_fee bigint[], p_fee_to text[], p_sandbox boolean[],
    p_key_call bigint[], p_key_day bigint[], p_key_month bigint[],
    p_server_call bigint[], p_server_day bigint[], p_server_month bigint[],
    p_free_calls bigint[], p_mark uuid[], p_fingerprint bytea[], p_answer bytea[], p_fee_id uuid[]
) RETURNS TABLE (
    ord bigint, code smallint, balance bigint, reserved bigint, waived boolean, facts bigint[], near bigint[], charge uuid,
    at timestamptz, account text, provider text, key text, lineage text, server text, tool text,
    amount bigint, fee bigint, fee_to text, sandbox boolean, refunded bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT x.ord, x.code, x.balance, x.reserved, x.waived, x.facts, x.near, x.charge,
            x.at, x.account, x.provider, x.key, x.lineage, x.server, x.tool, x.amount, x.fee, x.fee_to, x.sandbox, x.refunded
        FROM apply(v_shift, v_alone, v_most_retries, v_most_retries_each, p_op, p_id, p_account, p_provider, p_key, p_lineage, p_server,
            p_tool, p_amount, p_fee, p_fee_to, p_sandbox, p_key_call, p_key_day, p_key_month, p_server_call, p_server_day, p_server_month,
            p_free_calls, p_mark, p_fingerprint, p_answer, p_fee_id, array_fill(''::text, ARRAY[cardinality(p_op)])) x;
END $$;

CREATE OR REPLACE FUNCTION post(
    v_shift bigint, p_id uuid, p_kind smallint, p_debtor text, p_creditor text, p_amount bigint, p_sandbox boolean, p_reason text,
    p_charge uuid, p_fee_id uuid, a_at timestamptz, a_actor text, a_origin text, a_action text, a_target text, a_detail text,
    OUT code smallint, OUT total bigint, OUT held bigint, OUT x_debtor text, OUT x_creditor text, OUT x_amount bigint, OUT x_sandbox boolean,
    OUT x_at timestamptz, OUT remaining bigint
) LANGUAGE plpgsql AS $$
DECLARE
    r posted := post((p_id, p_kind, p_debtor, p_creditor, p_sandbox, p_amount, p_reason, p_charge, p_fee_id)::posting,
        (NULL, a_at, a_actor, a_origin, a_action, a_target, a_detail)::audit, v_shift);
BEGIN
    code := array_position(enum_range(NULL::outcome_code), r.code) - 1;
    total := r.balance; held := r.reserved; x_debtor := r.debtor; x_creditor := r.creditor; x_amount := r.amount; x_sandbox := r.test;
    x_at := r.at; remaining := r.remaining;
END $$;

CREATE OR REPLACE FUNCTION tidy_reservations(v_shift bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM expire_reservations(v_shift, v_limit);
END $$;

CREATE OR REPLACE FUNCTION tidy_earnings(v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fold_earnings(v_limit);
END $$;

CREATE OR REPLACE FUNCTION tidy_retries(v_shift bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM expire_idempotency(v_shift, '24 hours', v_limit);
END $$;

CREATE OR REPLACE FUNCTION tidy_answers(v_most bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bound_responses(v_most);
END $$;

CREATE OR REPLACE FUNCTION tidy_old(v_shift bigint, v_remember bigint, v_limit integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM delete_ended(v_shift, v_remember * interval '1 microsecond', v_limit);
END $$;

CREATE OR REPLACE FUNCTION tidy_nodes(keep interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM delete_nodes(keep);
END $$;
