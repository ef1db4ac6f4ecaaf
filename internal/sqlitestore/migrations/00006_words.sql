-- +goose Up
-- Renames only: SQLite changes the schema and no rows, however large the store.

-- Test keys spend the test balance.
DROP VIEW entry;
ALTER TABLE account RENAME COLUMN sandbox TO test;
ALTER TABLE txn RENAME COLUMN sandbox TO test;
ALTER TABLE archived_account RENAME COLUMN sandbox TO test;
ALTER TABLE carried RENAME COLUMN sandbox TO test;

-- Double entry: each transaction is two entries that sum to zero.
CREATE VIEW entry (seq, account, amount, test) AS
    SELECT seq, debtor, -amount, test FROM txn
    UNION ALL
    SELECT seq, creditor, amount, test FROM txn;

-- Responses stored under the caller's idempotency key.
ALTER TABLE answer RENAME TO stored_response;
ALTER TABLE stored_response RENAME COLUMN mark TO idempotency_hash;

-- The account that a handle of a server is bound to.
DROP INDEX bond_until;
ALTER TABLE bond RENAME TO binding;
ALTER TABLE binding RENAME COLUMN mark TO handle_hash;
CREATE INDEX binding_until ON binding (until);
