-- +goose Up

-- The files of the archive, in their order: which transactions each has taken
-- out of the journal.
CREATE TABLE archive (
    n            INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    first_seq    INTEGER NOT NULL,
    last_seq     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,                          -- of its last transaction
    transactions INTEGER NOT NULL,
    charges      INTEGER NOT NULL,
    last_day     INTEGER NOT NULL,                          -- that a charge of it or of a file before counts by
    last_id      BLOB    NOT NULL CHECK (length(last_id) = 16), -- the greatest UUIDv7 of it or of a file before
    sum          BLOB    NOT NULL CHECK (length(sum) = 32)  -- the SHA-256 in its seal
) STRICT;

-- The balances with which the journal begins now.
CREATE TABLE archived_account (
    account INTEGER PRIMARY KEY,                            -- account.n
    live    INTEGER NOT NULL,
    sandbox INTEGER NOT NULL,
    paid    INTEGER NOT NULL,                               -- the last transaction that it paid, and earned
    earned  INTEGER NOT NULL
) STRICT;

-- Archived charges that transactions in the journal belong to, as txn had them,
-- with what was given back of them in the archive. The last ones go with it.
CREATE TABLE carried (
    seq      INTEGER PRIMARY KEY,
    id       BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    debtor   INTEGER NOT NULL,
    creditor INTEGER NOT NULL,
    amount   INTEGER NOT NULL,
    sandbox  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    key      TEXT,
    lineage  TEXT,
    server   TEXT,
    tool     TEXT,
    day      INTEGER,
    waived   INTEGER,
    fee      INTEGER,
    fee_to   INTEGER,
    refunded INTEGER NOT NULL,
    fee_back INTEGER NOT NULL
) STRICT;

-- Archived ids that do not tell their age: other UUIDs than those of version 7,
-- and those that were ahead of their time. All others are known by archive.last_id.
CREATE TABLE archived_id (
    id BLOB PRIMARY KEY CHECK (length(id) = 16)
) STRICT, WITHOUT ROWID;

-- The journal may lose what an archive has recorded, and nothing else.
DROP TRIGGER txn_stays;

-- +goose StatementBegin
CREATE TRIGGER txn_stays BEFORE DELETE ON txn WHEN old.seq > (SELECT coalesce(max(last_seq), 0) FROM archive WHERE n = (SELECT max(n) FROM archive))
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER archive_is_final BEFORE UPDATE ON archive
BEGIN SELECT RAISE(ABORT, 'the archive is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER archive_stays BEFORE DELETE ON archive
BEGIN SELECT RAISE(ABORT, 'the archive is append-only'); END;
-- +goose StatementEnd
