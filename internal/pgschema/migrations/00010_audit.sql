-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Whether a posting is new, so that its audit row was written now.
ALTER TYPE posted ADD ATTRIBUTE made boolean;

-- The key that a rotation made, from the detail of its audit row. It is null for a
-- detail that is not an object.
-- +goose StatementBegin
CREATE FUNCTION successor(detail text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN detail LIKE '{%' THEN detail::json ->> 'successor' END;
-- +goose StatementEnd

CREATE INDEX audit_actor ON audit (actor, n);
CREATE INDEX audit_action ON audit (action, n);
CREATE INDEX audit_target ON audit (target, n);
CREATE INDEX audit_successor ON audit (successor(detail)) WHERE action = 'key.rotate';
