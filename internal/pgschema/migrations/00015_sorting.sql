-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Lists of keys by name. In the collation "C", lower changes ASCII letters only, as in
-- ledger.ByName.
CREATE INDEX key_name ON key (lower(name COLLATE "C"), n);
CREATE INDEX key_account_name ON key (account, lower(name COLLATE "C"), n);
