-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- How a node describes itself to operators, as JSON. It is null until the node has
-- written it, and for nodes of an earlier version.
ALTER TABLE node ADD COLUMN about text;
