-- +goose Up

-- Alerts for operators and owners: see the package alert. All times are microseconds
-- since 1970. The tables and their columns are the same on PostgreSQL.
CREATE TABLE alert (
    n       INTEGER PRIMARY KEY,
    id      TEXT    NOT NULL UNIQUE,
    kind    TEXT    NOT NULL,
    account TEXT    NOT NULL,                               -- account.id
    subject TEXT    NOT NULL,                               -- lineage of a key, or empty
    data    TEXT    NOT NULL,                               -- JSON
    at      INTEGER NOT NULL
) STRICT;

CREATE INDEX alert_account ON alert (account, n);
CREATE INDEX alert_at ON alert (at);

-- What an account wants to be alerted of. An account without a row has the defaults.
CREATE TABLE alert_setting (
    account    TEXT    NOT NULL PRIMARY KEY,                -- account.id
    balance    INTEGER NOT NULL,                            -- threshold in micro-units, 0 for none
    caps       INTEGER NOT NULL,                            -- 0 or 1
    spend      INTEGER NOT NULL,                            -- times the usual day, 0 for none
    tools      INTEGER NOT NULL,                            -- 0 or 1
    networks   INTEGER NOT NULL,                            -- 0 or 1
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX alert_setting_networks ON alert_setting (account) WHERE networks = 1;

-- The memory of crossings, which prevents a second alert for the same one.
CREATE TABLE alert_state (
    kind    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    period  INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX alert_state_at ON alert_state (at) WHERE kind IN ('cap', 'spend');

-- The sending of an alert to a target. state: 0 pending, 1 delivered, 2 given up.
CREATE TABLE alert_delivery (
    alert    TEXT    NOT NULL,                              -- alert.id
    channel  TEXT    NOT NULL,
    target   TEXT    NOT NULL,
    state    INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at  INTEGER NOT NULL,
    problem  TEXT    NOT NULL,
    PRIMARY KEY (alert, channel, target)
) STRICT, WITHOUT ROWID;

CREATE INDEX alert_delivery_due ON alert_delivery (channel, next_at) WHERE state = 0;

-- The last transaction that alerts were evaluated for. Older ones raise nothing.
CREATE TABLE alert_cursor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    at  INTEGER NOT NULL
) STRICT;

INSERT INTO alert_cursor (one, seq, at) SELECT 1, coalesce(max(seq), 0), 0 FROM txn;
