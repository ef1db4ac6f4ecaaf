-- +goose Up

-- From this version on the functions live in ../functions and are loaded in the
-- transaction of the last migration, so that nodes of an older version, which go
-- on beside newer ones, never meet tables and functions that do not match.

-- Running nodes lock these tables in the same order, so that the migration and they
-- do not deadlock. Waiting longer would make their calls wait behind it: it gives
-- up, and the node tries again.
SET LOCAL lock_timeout = '2s';
SELECT pg_advisory_xact_lock(1180791397, 1);
LOCK TABLE reservation, txn, retry, account, earning, meter, figure, carried, archived_account, bond, claim IN ACCESS EXCLUSIVE MODE;

-- Tables and columns take the names that the rest of the program uses.
ALTER TABLE account RENAME COLUMN sandbox TO test;
ALTER TABLE account RENAME COLUMN sandbox_reserved TO test_reserved;
ALTER TABLE account RENAME COLUMN retries TO idempotency_keys;
ALTER TABLE earning RENAME COLUMN sandbox TO test;
ALTER TABLE txn RENAME COLUMN sandbox TO test;
ALTER VIEW entry RENAME COLUMN sandbox TO test;
ALTER TABLE archived_account RENAME COLUMN sandbox TO test;
ALTER TABLE carried RENAME COLUMN sandbox TO test;
ALTER VIEW known_charge RENAME COLUMN sandbox TO test;
ALTER TABLE reservation RENAME COLUMN sandbox TO test;
ALTER TABLE reservation RENAME COLUMN mark TO idempotency_hash;
ALTER TABLE figure RENAME COLUMN retries TO idempotency_keys;
ALTER TABLE figure RENAME COLUMN answers TO response_bytes;

ALTER TABLE meter RENAME TO spend_counter;
ALTER TABLE spend_counter RENAME COLUMN sandbox TO test;
ALTER INDEX meter_pkey RENAME TO spend_counter_pkey;

ALTER TABLE retry RENAME TO idempotency;
ALTER TABLE idempotency RENAME COLUMN mark TO hash;
ALTER INDEX retry_pkey RENAME TO idempotency_pkey;
ALTER INDEX retry_age RENAME TO idempotency_age;
ALTER INDEX retry_kept RENAME TO idempotency_kept;
ALTER INDEX retry_charge RENAME TO idempotency_charge;

ALTER TABLE bond RENAME TO binding;
ALTER TABLE binding RENAME COLUMN mark TO handle_hash;
ALTER INDEX bond_pkey RENAME TO binding_pkey;
ALTER INDEX bond_until RENAME TO binding_until;

ALTER TABLE claim RENAME TO request_lock;
ALTER TABLE request_lock RENAME COLUMN mark TO hash;
ALTER INDEX claim_pkey RENAME TO request_lock_pkey;
ALTER INDEX claim_until RENAME TO request_lock_until;

-- Nodes of an older version read and write under the old names: tables through
-- views, columns through functions, since t.sandbox is sandbox(t) where t has no
-- such column. Their archiving and verification fail until they are upgraded;
-- their calls go on.
CREATE VIEW meter AS SELECT account, holder, name, test AS sandbox, day, spent, held, free, waiting FROM spend_counter;
CREATE VIEW retry AS SELECT hash AS mark, payer, charge, fingerprint, captured_at, size, body FROM idempotency;
CREATE VIEW bond AS SELECT handle_hash AS mark, account, until, payload, server FROM binding;
CREATE VIEW claim AS SELECT hash AS mark, until FROM request_lock;
CREATE FUNCTION sandbox(account) RETURNS bigint LANGUAGE sql STABLE RETURN $1.test;
CREATE FUNCTION sandbox_reserved(account) RETURNS bigint LANGUAGE sql STABLE RETURN $1.test_reserved;
CREATE FUNCTION sandbox(earning) RETURNS boolean LANGUAGE sql STABLE RETURN $1.test;
CREATE FUNCTION sandbox(txn) RETURNS boolean LANGUAGE sql STABLE RETURN $1.test;
CREATE FUNCTION sandbox(reservation) RETURNS boolean LANGUAGE sql STABLE RETURN $1.test;

-- Operations on charges and their outcomes. Go names them in operation.go and
-- outcome.go. Types may gain attributes and values at their end, and lose none
-- while nodes of an older version may run.
CREATE TYPE operation_kind AS ENUM ('reserve', 'capture', 'charge', 'release', 'renew', 'void');

CREATE TYPE operation AS (
    kind         operation_kind,
    id           uuid,                                                -- charge id
    account      text,                                                -- the order; only for reserve and charge
    provider     text,
    key          text,
    lineage      text,
    server       text,
    tool         text,
    amount       bigint,
    fee          bigint,
    fee_to       text,                                                -- '' for no fee
    test         boolean,
    settler      text,
    key_call     bigint,                                              -- the terms: caps, 0 for none
    key_day      bigint,
    key_month    bigint,
    server_call  bigint,
    server_day   bigint,
    server_month bigint,
    free_calls   bigint,
    hash         uuid,                                                -- hash of the idempotency key, null without one
    fingerprint  bytea,
    response     bytea,                                               -- to store, for capture and charge
    fee_id       uuid                                                 -- id for the fee's transaction
);

CREATE TYPE outcome_code AS ENUM ('done', 'no_charge', 'no_account', 'conflict', 'settled', 'insufficient', 'capped', 'in_flight',
    'reused', 'replay', 'too_many_keys', 'overflow', 'alone');

CREATE TYPE outcome AS (
    ord      bigint,                                                  -- number in the batch, from 1
    code     outcome_code,
    balance  bigint,
    reserved bigint,
    waived   boolean,                                                 -- a free quota pays
    facts    bigint[],                                                -- capped: holder, period, cap, spent, held, day; no_account: 1 payer, 2 provider, 3 operator
    near     bigint[],                                                -- caps that are nearly spent since: holder, period, cap, spent, day of each
    charge   uuid,                                                    -- reserve: the new reservation, or the charge with the stored response
    at       timestamptz,
    account  text,                                                    -- the order; only for capture and charge
    provider text,
    key      text,
    lineage  text,
    server   text,
    tool     text,
    amount   bigint,
    fee      bigint,
    fee_to   text,
    test     boolean,
    settler  text,
    refunded bigint,
    made     boolean                                                  -- captured now, not before
);

-- The changes of an operation to the account that pays.
CREATE TYPE effect AS (
    code     outcome_code,
    facts    bigint[],
    near     bigint[],
    charge   uuid,
    at       timestamptz,
    made     boolean,
    refunded bigint,
    waived   boolean,
    day      integer,                                                 -- that it counts by, since 1970
    balance  bigint,                                                  -- added to the balance, as are the next to their figures
    spent    bigint,
    held     bigint,
    free     integer,
    waiting  integer,
    keys     integer                                                  -- idempotency keys
);

-- An account that a batch has changed.
CREATE TYPE payer AS (
    n             bigint,                                             -- account.n
    live          bigint,
    test          bigint,
    live_reserved bigint,
    test_reserved bigint,
    keys          bigint                                              -- idempotency keys
);

-- One addition of a batch to an account's spend counters.
CREATE TYPE spend AS (
    account bigint,                                                   -- account.n
    test    boolean,
    day     integer,
    lineage text,
    server  text,
    spent   bigint,
    held    bigint,
    free    integer,
    waiting integer
);

-- Rules that Go has, too. Go passes them.
CREATE TYPE rules AS (
    reservation_life     interval,
    settle_time          interval,
    idempotency_life     interval,
    near_part            bigint,                                      -- a cap is nearly spent when one part of so many is left
    max_keys             bigint,                                      -- idempotency keys of all accounts
    max_keys_per_account bigint
);

-- Which functions are loaded: nodes load newer ones over older ones, never the reverse.
CREATE TABLE functions (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    sum     bytea NOT NULL                                            -- SHA-256 of their text
);

-- A request for a top-up, an adjustment or a refund.
CREATE TYPE posting AS (
    id       uuid,
    kind     smallint,                                                -- as in txn: 2 credit, 3 refund, 4 adjustment
    debtor   text,                                                    -- not for refunds, as the next two
    creditor text,
    test     boolean,
    amount   bigint,                                                  -- 0 refunds the rest of a charge
    reason   text,
    charge   uuid,                                                    -- only for refunds
    fee_id   uuid                                                     -- id for the transaction that returns the fee
);

-- The outcome of a posting: the transaction, and its account's balance.
CREATE TYPE posted AS (
    code      outcome_code,
    debtor    text,
    creditor  text,
    amount    bigint,
    test      boolean,
    at        timestamptz,
    balance   bigint,
    reserved  bigint,
    remaining bigint                                                  -- refund: the rest of the charge before it
);

-- Replaced by functions with other arguments.
DROP FUNCTION save(bigint, bigint[], bigint[], bigint, timestamptz, smallint[], text[], boolean[], integer[], bigint[], bigint[], bigint[], bigint[]);
DROP FUNCTION used(bigint, integer, text, boolean, integer, boolean, smallint[], text[], boolean[], integer[], bigint[], bigint[]);
