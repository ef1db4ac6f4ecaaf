-- +goose Up

-- The files of the archive, in their order: which transactions each has taken
-- out of the journal.
CREATE TABLE archive (
    n            bigint PRIMARY KEY,
    at           timestamptz NOT NULL,
    first_seq    bigint NOT NULL,
    last_seq     bigint NOT NULL,
    last_at      timestamptz NOT NULL,                                -- of its last transaction
    transactions bigint NOT NULL,
    charges      bigint NOT NULL,
    last_day     integer NOT NULL,                                    -- that a charge of it or of a file before counts by
    last_id      uuid NOT NULL,                                       -- the greatest UUIDv7 of it or of a file before
    sum          bytea NOT NULL CHECK (length(sum) = 32)              -- the SHA-256 in its seal
);

-- The balances with which the journal begins now.
CREATE TABLE archived_account (
    account bigint PRIMARY KEY,                                       -- account.n
    live    bigint NOT NULL,
    sandbox bigint NOT NULL,
    paid    bigint NOT NULL,                                          -- the last transaction that it paid, and earned
    earned  bigint NOT NULL
);

-- Archived charges that transactions in the journal belong to, as txn had them,
-- with what was given back of them in the archive. The last ones go with it.
CREATE TABLE carried (
    seq      bigint PRIMARY KEY,
    id       uuid NOT NULL UNIQUE,
    debtor   bigint NOT NULL,
    creditor bigint NOT NULL,
    amount   bigint NOT NULL,
    sandbox  boolean NOT NULL,
    at       timestamptz NOT NULL,
    key      text,
    lineage  text,
    server   text,
    tool     text,
    day      integer,
    waived   bigint,
    fee      bigint,
    fee_to   bigint,
    refunded bigint NOT NULL,
    fee_back bigint NOT NULL
);

-- The charges that transactions in the journal may belong to.
CREATE VIEW known_charge (seq, debtor, creditor, sandbox, amount, waived, fee, fee_to, refunded, fee_back, archived) AS
    SELECT seq, debtor, creditor, sandbox, amount, waived, fee, fee_to, 0::bigint, 0::bigint, false FROM txn WHERE kind = 1
    UNION ALL
    SELECT seq, debtor, creditor, sandbox, amount, waived, fee, fee_to, refunded, fee_back, true FROM carried;

-- Archived ids that do not tell their age: other UUIDs than those of version 7,
-- and those that were ahead of their time. All others are known by archive.last_id.
CREATE TABLE archived_id (
    id uuid PRIMARY KEY
);

-- was_archived tells whether the id was archived, or is of a time that was.
-- +goose StatementBegin
CREATE FUNCTION was_archived(v_id uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM archive WHERE n = (SELECT max(n) FROM archive) AND v_id <= last_id AND substr(v_id::text, 15, 1) = '7')
        OR EXISTS (SELECT FROM archived_id WHERE id = v_id);
END $$;
-- +goose StatementEnd

-- stays_archived keeps an id from being written a second time. It is the last
-- resort: who writes has looked for the id in the journal before, and nodes know
-- what was archived.
-- +goose StatementBegin
CREATE FUNCTION stays_archived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM archive) AND was_archived(NEW.id) THEN
        RAISE EXCEPTION 'transaction % is of a time that was archived', NEW.id USING ERRCODE = 'FB001';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER txn_archived BEFORE INSERT ON txn FOR EACH ROW EXECUTE FUNCTION stays_archived();

-- The journal may lose what an archive has recorded, and nothing else.
-- +goose StatementBegin
CREATE FUNCTION journal_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq <= (SELECT coalesce(max(last_seq), 0) FROM archive WHERE n = (SELECT max(n) FROM archive)) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd

DROP TRIGGER txn_is_final ON txn;
CREATE TRIGGER txn_is_final BEFORE UPDATE ON txn FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER txn_goes BEFORE DELETE ON txn FOR EACH ROW EXECUTE FUNCTION journal_stays();
CREATE TRIGGER archive_is_final BEFORE UPDATE OR DELETE ON archive FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER archive_stays BEFORE TRUNCATE ON archive EXECUTE FUNCTION append_only();
