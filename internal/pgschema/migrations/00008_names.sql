-- +goose Up
-- A name is of one account, in whatever case.
CREATE UNIQUE INDEX account_name ON account (lower(name));
