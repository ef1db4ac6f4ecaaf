-- +goose Up

-- Sums of usage, derived from the journal: see the package rollup. A view is a
-- projection, a period and an environment. Dimensions are numbers: account.n,
-- usage_key.n and usage_name.n, or 0.
CREATE TABLE usage_sum (
    view         INTEGER NOT NULL,
    subject      INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,                          -- hour, day or month since 1970
    x            INTEGER NOT NULL,
    y            INTEGER NOT NULL,
    z            INTEGER NOT NULL,
    calls        INTEGER NOT NULL,
    free         INTEGER NOT NULL,                          -- calls that a free quota has paid
    charged      INTEGER NOT NULL,                          -- micro-units, before refunds
    refund_count INTEGER NOT NULL,
    refunded     INTEGER NOT NULL,
    fee          INTEGER NOT NULL,
    fee_returned INTEGER NOT NULL,
    PRIMARY KEY (view, subject, bucket, x, y, z)
) STRICT, WITHOUT ROWID;

-- The lineages of keys that have paid, of each account.
CREATE TABLE usage_key (
    n       INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,                               -- account.n
    lineage TEXT    NOT NULL,
    UNIQUE (lineage, account)
) STRICT;

CREATE INDEX usage_key_account ON usage_key (account, n);

-- The servers and tools that were paid for.
CREATE TABLE usage_name (
    n    INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

-- cursor: the last transaction in the sums. Sums by hours were deleted before
-- hours_from. archived_at: the latest time of the transactions that were archived
-- after they were summed up. skipped: that of those archived before.
CREATE TABLE usage_state (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    cursor      INTEGER NOT NULL,
    cursor_at   INTEGER NOT NULL,
    hours_from  INTEGER NOT NULL DEFAULT 0,
    archived_at INTEGER NOT NULL DEFAULT 0,
    skipped     INTEGER NOT NULL
) STRICT;

INSERT INTO usage_state (one, cursor, cursor_at, skipped)
    SELECT 1, coalesce(max(last_seq), 0), coalesce(max(last_at), 0), coalesce(max(last_at), 0) FROM archive;

-- The archive takes nothing that is not in the sums.
-- +goose StatementBegin
CREATE TRIGGER archive_after_usage BEFORE INSERT ON archive WHEN new.last_seq > (SELECT cursor FROM usage_state)
BEGIN SELECT RAISE(ABORT, 'the usage of these transactions is not summed up yet'); END;
-- +goose StatementEnd
