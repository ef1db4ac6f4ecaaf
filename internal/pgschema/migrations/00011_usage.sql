-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Sums of usage, derived from the journal: see the package rollup. A view is a
-- projection, a period and an environment. Dimensions are numbers: account.n,
-- usage_key.n and usage_name.n, or 0.
CREATE TABLE usage_sum (
    view         bigint NOT NULL,
    subject      bigint NOT NULL,
    bucket       bigint NOT NULL,                                     -- hour, day or month since 1970
    x            bigint NOT NULL,
    y            bigint NOT NULL,
    z            bigint NOT NULL,
    calls        bigint NOT NULL,
    free         bigint NOT NULL,                                     -- calls that a free quota has paid
    charged      bigint NOT NULL,                                     -- before refunds
    refund_count bigint NOT NULL,
    refunded     bigint NOT NULL,
    fee          bigint NOT NULL,
    fee_returned bigint NOT NULL,
    PRIMARY KEY (view, subject, bucket, x, y, z)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- The lineages of keys that have paid, of each account.
CREATE TABLE usage_key (
    n       bigint PRIMARY KEY,
    account bigint NOT NULL,                                          -- account.n
    lineage text COLLATE "C" NOT NULL,
    UNIQUE (lineage, account)
);
CREATE INDEX usage_key_account ON usage_key (account, n);

-- The servers and tools that were paid for.
CREATE TABLE usage_name (
    n    bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- cursor: the last transaction in the sums. Sums by hours were deleted before
-- hours_from. archived_at: the latest time of the transactions that were archived
-- after they were summed up. skipped: that of those archived before. Times are in
-- microseconds since 1970, as in the package rollup.
CREATE TABLE usage_state (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    cursor      bigint NOT NULL,
    cursor_at   bigint NOT NULL,
    hours_from  bigint NOT NULL DEFAULT 0,
    archived_at bigint NOT NULL DEFAULT 0,
    skipped     bigint NOT NULL
);

INSERT INTO usage_state (cursor, cursor_at, skipped)
    SELECT coalesce(max(last_seq), 0), coalesce((extract(epoch FROM max(last_at)) * 1000000)::bigint, 0),
        coalesce((extract(epoch FROM max(last_at)) * 1000000)::bigint, 0) FROM archive;

-- The archive takes nothing that is not in the sums, even if a node of an earlier
-- version asks for it.
-- +goose StatementBegin
CREATE FUNCTION archive_after_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.last_seq > (SELECT cursor FROM usage_state) THEN
        RAISE EXCEPTION 'the usage of transactions up to % is not summed up yet', NEW.last_seq;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER archive_after_usage BEFORE INSERT ON archive FOR EACH ROW EXECUTE FUNCTION archive_after_usage();
