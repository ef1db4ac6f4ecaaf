-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Alerts for operators and owners: see the package alert. All times are microseconds
-- since 1970. The tables and their columns are the same on SQLite.
CREATE TABLE alert (
    n       BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      TEXT    NOT NULL UNIQUE,
    kind    TEXT    NOT NULL,
    account TEXT    NOT NULL,                               -- account.id
    subject TEXT    NOT NULL,                               -- lineage of a key, or empty
    data    TEXT    NOT NULL,                               -- JSON
    at      BIGINT  NOT NULL
);

CREATE INDEX alert_account ON alert (account, n);
CREATE INDEX alert_at ON alert (at);

-- What an account wants to be alerted of. An account without a row has the defaults.
CREATE TABLE alert_setting (
    account    TEXT COLLATE "C" NOT NULL PRIMARY KEY,       -- account.id
    balance    BIGINT  NOT NULL,                            -- threshold in micro-units, 0 for none
    caps       BIGINT  NOT NULL,                            -- 0 or 1
    spend      BIGINT  NOT NULL,                            -- times the usual day, 0 for none
    tools      BIGINT  NOT NULL,                            -- 0 or 1
    networks   BIGINT  NOT NULL,                            -- 0 or 1
    changed_at BIGINT  NOT NULL
);

CREATE INDEX alert_setting_networks ON alert_setting (account) WHERE networks = 1;

-- The memory of crossings, which prevents a second alert for the same one.
CREATE TABLE alert_state (
    kind    TEXT    NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    period  BIGINT  NOT NULL,
    level   BIGINT  NOT NULL,
    amount  BIGINT  NOT NULL,
    at      BIGINT  NOT NULL,
    PRIMARY KEY (kind, subject)
);

CREATE INDEX alert_state_at ON alert_state (at) WHERE kind IN ('cap', 'spend');

-- The sending of an alert to a target. state: 0 pending, 1 delivered, 2 given up.
CREATE TABLE alert_delivery (
    alert    TEXT    NOT NULL,                              -- alert.id
    channel  TEXT    NOT NULL,
    target   TEXT    NOT NULL,
    state    BIGINT  NOT NULL,
    attempts BIGINT  NOT NULL,
    next_at  BIGINT  NOT NULL,
    problem  TEXT    NOT NULL,
    PRIMARY KEY (alert, channel, target)
);

CREATE INDEX alert_delivery_due ON alert_delivery (channel, next_at) WHERE state = 0;

-- The last transaction that alerts were evaluated for. Older ones raise nothing.
CREATE TABLE alert_cursor (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    seq BIGINT NOT NULL,
    at  BIGINT NOT NULL
);

INSERT INTO alert_cursor (seq, at) SELECT coalesce(max(seq), 0), 0 FROM txn;
