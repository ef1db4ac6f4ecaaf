-- +goose Up

-- Records of calls that charged nothing: see the package callrecord. Times are
-- microseconds since 1970. The table and its columns are the same on PostgreSQL.
CREATE TABLE call_record (
    n        INTEGER PRIMARY KEY,                           -- has no gaps but those of old rows
    at       INTEGER NOT NULL,                              -- the end of the call
    account  TEXT    NOT NULL,                              -- account.id
    key_id   TEXT    NOT NULL,                              -- key.id
    server   TEXT    NOT NULL,
    method   TEXT    NOT NULL,
    tool     TEXT    NOT NULL,                              -- the price book's entry, or empty
    outcome  TEXT    NOT NULL,
    code     TEXT    NOT NULL,
    test     INTEGER NOT NULL,                              -- 0 or 1
    price    INTEGER NOT NULL,                              -- micro-units, or -1 if it is unknown
    status   INTEGER NOT NULL,                              -- HTTP status of a refusal, or 0
    duration INTEGER NOT NULL,                              -- microseconds
    trace    TEXT    NOT NULL
) STRICT;

CREATE INDEX call_record_at ON call_record (at);
CREATE INDEX call_record_account ON call_record (account, at);
CREATE INDEX call_record_key ON call_record (key_id, at);

ALTER TABLE usage_sum ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_sum ADD COLUMN failed  INTEGER NOT NULL DEFAULT 0;
