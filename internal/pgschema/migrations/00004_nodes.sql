-- +goose Up

-- The processes that keep keys in memory, and for how long each may go on to
-- believe what it knows. A row is worth nothing once its lease is over.
CREATE TABLE node (
    id          text PRIMARY KEY,
    seen        bigint      NOT NULL,   -- revocation.seq up to which it has read and heeded
    lease_until timestamptz NOT NULL    -- by the server's own clock, which no test moves
);

-- What is taken for everybody: the ids of the requests that are under way in
-- sessions, and of those that may still be answered. Nothing of it outlives a
-- crash of the server, nor need it.
CREATE UNLOGGED TABLE claim (
    mark  bytea PRIMARY KEY CHECK (length(mark) = 16),
    until timestamptz NOT NULL      -- by the server's own clock, as of node
);
CREATE INDEX claim_until ON claim (until);

-- +goose StatementBegin
-- follow renews the lease of a node and returns what was revoked after what it
-- has seen. The snapshot is older than the lease, so that who finds a lease that
-- is over knows that its node believes nothing that it has not read since.
CREATE FUNCTION follow(node_id text, has_seen bigint, lease interval, most int)
RETURNS TABLE (seq bigint, digest bytea, newest bigint, oldest bigint)
LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    last  bigint;
BEGIN
    SELECT coalesce(min(r.seq), 0), coalesce(max(r.seq), 0) INTO first, last FROM revocation r;
    INSERT INTO node AS n (id, seen, lease_until)
        VALUES (node_id, CASE WHEN has_seen < 0 THEN last ELSE has_seen END, clock_timestamp() + lease)
        ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, lease_until = excluded.lease_until;
    IF has_seen < 0 OR has_seen > last OR has_seen < first - 1 THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bytea, last, first;
        RETURN;
    END IF;
    RETURN QUERY SELECT r.seq, r.digest, last, first FROM revocation r WHERE r.seq > has_seen ORDER BY r.seq LIMIT most;
    IF NOT FOUND THEN
        RETURN QUERY SELECT NULL::bigint, NULL::bytea, last, first;
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- tidy_nodes drops what no node can ask for any more: revocations that are older
-- than any lease, but for the newest, nodes whose lease has long been over, and
-- claims that have ended.
CREATE FUNCTION tidy_nodes(keep interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM revocation WHERE at < clock_timestamp() - keep AND seq < (SELECT max(seq) FROM revocation);
    DELETE FROM node WHERE lease_until < clock_timestamp() - keep;
    DELETE FROM claim WHERE until < clock_timestamp();
END $$;
-- +goose StatementEnd
