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
    cap_call     INTEGER NOT NULL DEFAULT 0,                -- micro-units, 0 for no cap; so are the next two
    cap_day      INTEGER NOT NULL DEFAULT 0,
    cap_month    INTEGER NOT NULL DEFAULT 0,
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
    kind          INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),   -- 1 charge, 2 credit, 3 refund, 4 adjustment, 5 fee
    debtor        INTEGER NOT NULL,                                -- account.n
    creditor      INTEGER NOT NULL,                                -- account.n
    amount        INTEGER NOT NULL,                                -- micro-units, > 0 unless waived
    sandbox       INTEGER NOT NULL CHECK (sandbox IN (0, 1)),
    at            INTEGER NOT NULL,
    prev_debtor   INTEGER NOT NULL,                                -- what the debtor paid before this, 0 for nothing
    prev_creditor INTEGER NOT NULL,                                -- what the creditor earned before this, 0 for nothing
    key           TEXT,                                            -- charges: the paying key
    lineage       TEXT,                                            -- charges: its lineage, null when equal to key
    server        TEXT,
    tool          TEXT,
    ref           INTEGER,                                         -- refunds and fees: seq of the charge
    reason        TEXT,
    day           INTEGER,                                         -- charges: day of the reservation since 1970, null when that of at
    waived        INTEGER,                                         -- charges: the price, if a free quota has paid it
    fee           INTEGER,                                         -- charges: the part that goes on to fee_to
    fee_to        INTEGER,                                         -- account.n
    CHECK (amount > 0 AND waived IS NULL OR kind = 1 AND amount = 0 AND waived > 0)
) STRICT;

-- Holds refunds and fees only, so a charge does not pay for it.
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

-- What a lineage of keys, an account, or an account at one server has spent in
-- the last day and month in which it spent anything. Snapshots, as balances are.
CREATE TABLE spend (
    subject     TEXT    PRIMARY KEY,
    day         INTEGER NOT NULL,                           -- since 1970
    spent_day   INTEGER NOT NULL,
    spent_month INTEGER NOT NULL,
    free_day    INTEGER NOT NULL,                           -- calls that a free quota has paid
    as_of       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers that are kept for callers who call again, in the order of their
-- charges. There is no index of marks: memory finds them.
CREATE TABLE answer (
    seq         INTEGER PRIMARY KEY,                        -- of the charge
    mark        BLOB    NOT NULL CHECK (length(mark) = 16), -- of lineage, server and the caller's key
    payer       INTEGER NOT NULL,                           -- account.n
    at          INTEGER NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    size        INTEGER NOT NULL,                           -- of body, 0 if it is not kept
    body        BLOB
) STRICT;

-- Whose the handles of servers are: of tasks, and of requests for input. The
-- handle itself is not kept, only the hash that it is found by.
CREATE TABLE bond (
    mark    BLOB    PRIMARY KEY CHECK (length(mark) = 16),
    account TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    payload BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX bond_until ON bond (until);

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
    limits      TEXT,                                       -- a JSON object; null for none
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    disabled_at INTEGER,
    deleted_at  INTEGER,
    last_used_at INTEGER,                                   -- coarse, written in batches
    successor   TEXT    NOT NULL DEFAULT ''                 -- id of the key that a rotation made of it
) STRICT;

CREATE INDEX key_account ON key (account, n);

-- Those that can be used until they expire.
CREATE INDEX key_expiry ON key (expires_at)
    WHERE expires_at IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL;

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
