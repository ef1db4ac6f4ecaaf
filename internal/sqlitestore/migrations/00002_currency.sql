-- +goose Up
-- The currency of all amounts; '' until a config says which.
ALTER TABLE meta ADD COLUMN currency TEXT NOT NULL DEFAULT '';
