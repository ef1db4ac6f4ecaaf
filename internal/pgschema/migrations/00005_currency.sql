-- +goose Up
-- The currency of all amounts; '' until a config says which.
ALTER TABLE figure ADD COLUMN currency text NOT NULL DEFAULT '';
