-- renew extends an open reservation to v_expires.
CREATE OR REPLACE FUNCTION renew(o record, v_expires timestamptz) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e effect;
BEGIN
    e.waived := o.waived;
    IF o.state IS NULL THEN
        e.code := 'no_charge';
    ELSIF o.state <> 1 THEN
        e.code := 'settled';
    ELSE
        e.code := 'done';
        UPDATE reservation x SET expires_at = v_expires WHERE x.id = o.id;
    END IF;
    RETURN e;
END $$;

-- release returns the credits of a reservation. An operation void also blocks the id:
-- until v_until nothing can be captured under it, even if there is no reservation with
-- this id.
CREATE OR REPLACE FUNCTION release(o record, v_until timestamptz) RETURNS effect LANGUAGE plpgsql AS $$
DECLARE
    e effect;
BEGIN
    e.code := 'done'; e.day := o.day; e.waived := o.waived;
    IF o.state IS NULL THEN
        e.code := 'no_charge';
    ELSIF o.state <> 2 THEN
        UPDATE reservation x SET state = 2 WHERE x.id = o.id;
    END IF;
    IF o.state = 1 THEN
        e.held := CASE WHEN o.waived THEN 0 ELSE -o.amount END;
        e.waiting := CASE WHEN o.waived THEN -1 ELSE 0 END;
        IF o.hash IS NOT NULL THEN
            DELETE FROM idempotency x WHERE x.hash = o.hash AND x.charge = o.id AND x.captured_at IS NULL;
            IF FOUND THEN
                e.keys := -1;
            END IF;
        END IF;
    END IF;
    IF o.kind = 'void' THEN
        INSERT INTO void (id, until) VALUES (o.id, v_until) ON CONFLICT (id) DO UPDATE SET until = excluded.until;
    END IF;
    RETURN e;
END $$;
