-- revoke logs that a key was made or changed, and notifies the listeners. It holds a
-- lock until the commit, so that the rows of the log have their numbers seq in the
-- order of their commits. A reader that has seen a row has therefore missed no row
-- before it.
CREATE OR REPLACE FUNCTION revoke(v_digest bytea, v_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1180791397, 2);
    INSERT INTO revocation (digest, at) VALUES (v_digest, v_at);
    NOTIFY farebox_revocation;
END $$;

-- follow renews the lease of a node and returns the revocations after the last one that
-- it has seen. It reads the log before it writes the lease. Once a lease has ended, its
-- node trusts no key that it has not read again since.
CREATE OR REPLACE FUNCTION follow(node_id text, has_seen bigint, lease interval, most int)
RETURNS TABLE (seq bigint, digest bytea, newest bigint, oldest bigint) LANGUAGE plpgsql AS $$
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
