-- +goose Up
-- A name is of one account, in whatever case: memory decides, this holds it to it.
CREATE UNIQUE INDEX account_name ON account (lower(name));
