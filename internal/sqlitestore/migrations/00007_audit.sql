-- +goose Up

CREATE INDEX audit_actor ON audit (actor, n);
CREATE INDEX audit_action ON audit (action, n);
CREATE INDEX audit_target ON audit (target, n);

-- The key that a rotation made: its target is the key that was replaced.
CREATE INDEX audit_successor ON audit (CASE WHEN json_valid(detail) THEN detail ->> '$.successor' END)
    WHERE action = 'key.rotate';
