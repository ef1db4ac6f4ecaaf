-- +goose Up

-- Says that the file is a Farebox store ("Fare" in ASCII).
PRAGMA application_id = 1180791397;

-- Balances, heads and as_of are snapshots: the truth is the journal. A row
-- holds all transactions up to as_of and none above it.
CREATE TABLE account (
    n            INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    name         TEXT    NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,                          -- microseconds since 1970, as are all times
    credit_limit INTEGER NOT NULL CHECK (credit_limit >= 0),
    live         INTEGER NOT NULL DEFAULT 0,
    sandbox      INTEGER NOT NULL DEFAULT 0,
    as_of        INTEGER NOT NULL DEFAULT 0,
    debit_head   INTEGER NOT NULL DEFAULT 0,                -- newest transaction that it paid, 0 for none
    credit_head  INTEGER NOT NULL DEFAULT 0                 -- newest transaction that it earned, 0 for none
) STRICT;

-- The journal. Rows are only ever added. The chains of prev_debtor and
-- prev_creditor stand for an index by account, which would cost more than all
-- the rest of a charge.
CREATE TABLE txn (
    seq           INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 16), -- the UUID of chg_ (charges) or txn_ (others)
    kind          INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),   -- 1 charge, 2 credit, 3 refund, 4 adjustment
    debtor        INTEGER NOT NULL,                                -- account.n
    creditor      INTEGER NOT NULL,                                -- account.n
    amount        INTEGER NOT NULL CHECK (amount > 0),             -- micro-units
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    at            INTEGER NOT NULL,
    prev_debtor   INTEGER NOT NULL,                                -- what the debtor paid before this, 0 for nothing
    prev_creditor INTEGER NOT NULL,                                -- what the creditor earned before this, 0 for nothing
    key           TEXT,                                            -- charges: the paying key
    lineage       TEXT,                                            -- charges: its lineage, null when equal to key
    server        TEXT,
    tool          TEXT,
    ref           INTEGER,                                         -- refunds: seq of the charge
    reason        TEXT
) STRICT;

-- Holds refunds only, so a charge does not pay for it.
CREATE INDEX txn_ref ON txn (ref) WHERE ref IS NOT NULL;

-- Double entry: each transaction is two entries that sum to zero.
CREATE VIEW entry (seq, account, amount, sandbox) AS
    SELECT seq, debtor, -amount, sandbox FROM txn
    UNION ALL
    SELECT seq, creditor, amount, sandbox FROM txn;

-- replay_from: every transaction below it is in the snapshots of its accounts.
-- probes: counts the writes that tried whether the disk works again.
CREATE TABLE meta (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    replay_from INTEGER NOT NULL,
    probes      INTEGER NOT NULL
) STRICT;

CREATE TABLE key (
    n           INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    digest      BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    account     TEXT    NOT NULL,
    lineage     TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    hint        TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,                           -- a JSON array
    servers     TEXT    NOT NULL,                           -- a JSON array
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    disabled_at INTEGER,
    deleted_at  INTEGER,
    last_used_at INTEGER,                                   -- coarse, written in batches
    successor   TEXT    NOT NULL DEFAULT ''                 -- id of the key that a rotation made of it
) STRICT;

CREATE INDEX key_account ON key (account, n);

CREATE TABLE audit (
    n      INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    origin TEXT    NOT NULL,
    action TEXT    NOT NULL,
    target TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER txn_is_final BEFORE UPDATE ON txn
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER txn_stays BEFORE DELETE ON txn
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- +goose StatementEnd

INSERT INTO meta (one, replay_from, probes) VALUES (1, 1, 0);
INSERT INTO account (n, id, name, created_at, credit_limit) VALUES (1, '@funding', '@funding', unixepoch() * 1000000, 0);
