-- +goose Up

-- Lists of keys by name. NOCASE is the order of ledger.ByName.
CREATE INDEX key_name ON key (name COLLATE NOCASE, n);
CREATE INDEX key_account_name ON key (account, name COLLATE NOCASE, n);
