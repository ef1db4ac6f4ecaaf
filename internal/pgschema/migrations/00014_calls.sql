-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Records of calls that charged nothing: see the package callrecord. Times are
-- microseconds since 1970. The table and its columns are the same on SQLite.
CREATE TABLE call_record (
    n        BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       BIGINT  NOT NULL,                              -- the end of the call
    account  TEXT    NOT NULL,                              -- account.id
    key_id   TEXT    NOT NULL,                              -- key.id
    server   TEXT    NOT NULL,
    method   TEXT    NOT NULL,
    tool     TEXT    NOT NULL,                              -- the price book's entry, or empty
    outcome  TEXT    NOT NULL,
    code     TEXT    NOT NULL,
    test     BIGINT  NOT NULL,                              -- 0 or 1
    price    BIGINT  NOT NULL,                              -- micro-units, or -1 if it is unknown
    status   BIGINT  NOT NULL,                              -- HTTP status of a refusal, or 0
    duration BIGINT  NOT NULL,                              -- microseconds
    trace    TEXT    NOT NULL
);

CREATE INDEX call_record_at ON call_record (at, n);
CREATE INDEX call_record_account ON call_record (account, at, n);
CREATE INDEX call_record_key ON call_record (key_id, at, n);

ALTER TABLE usage_sum ADD COLUMN refused bigint NOT NULL DEFAULT 0;
ALTER TABLE usage_sum ADD COLUMN failed  bigint NOT NULL DEFAULT 0;
