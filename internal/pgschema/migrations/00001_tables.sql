-- +goose Up

-- Texts that PostgreSQL cannot hold as they are, because of a zero byte or of
-- what is not UTF-8, begin with U+0001 and are Go string literals after it.

-- The row of an account is the lock for all that it spends: its balance, what
-- is reserved of it, its meters, its reservations and its callers' retries are
-- changed by nobody else while somebody has it FOR NO KEY UPDATE. Who changes
-- several accounts locks them in the order of n.
CREATE TABLE account (
    n                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id               text COLLATE "C" NOT NULL UNIQUE,
    name             text COLLATE "C" NOT NULL UNIQUE,
    created_at       timestamptz NOT NULL,
    credit_limit     bigint NOT NULL CHECK (credit_limit >= 0),       -- micro-units, as are all amounts
    cap_call         bigint NOT NULL DEFAULT 0 CHECK (cap_call >= 0), -- 0 for no cap; so are the next two
    cap_day          bigint NOT NULL DEFAULT 0 CHECK (cap_day >= 0),
    cap_month        bigint NOT NULL DEFAULT 0 CHECK (cap_month >= 0),
    live             bigint NOT NULL DEFAULT 0,                       -- balances, without what earning adds to them
    sandbox          bigint NOT NULL DEFAULT 0,
    live_reserved    bigint NOT NULL DEFAULT 0,
    sandbox_reserved bigint NOT NULL DEFAULT 0,
    retries          bigint NOT NULL DEFAULT 0,                       -- its rows in retry
    swept_to         timestamptz NOT NULL DEFAULT '-infinity'         -- reservations that ended by then are expired
) WITH (fillfactor = 50);

-- What accounts earn and have not been given yet, so that payers of one
-- provider do not wait for one another. Whoever has the account's lock may add
-- its rows to the balance and delete them. The balance is that of the account
-- and of all its rows here.
CREATE TABLE earning (
    account bigint NOT NULL,                                          -- account.n
    sandbox boolean NOT NULL,
    amount  bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX earning_account ON earning (account);

-- The journal. Rows are only ever added. Writers hold the shared advisory lock
-- of their transaction that journal_end takes for itself, so that a reader can
-- tell up to where no row can come in between any more.
CREATE TABLE txn (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       uuid NOT NULL UNIQUE,                                    -- of chg_ (charges) or txn_ (others)
    kind     smallint NOT NULL CHECK (kind BETWEEN 1 AND 5),          -- 1 charge, 2 credit, 3 refund, 4 adjustment, 5 fee
    debtor   bigint NOT NULL,                                         -- account.n
    creditor bigint NOT NULL,                                         -- account.n
    amount   bigint NOT NULL,                                         -- > 0 unless waived
    sandbox  boolean NOT NULL,
    at       timestamptz NOT NULL,
    key      text,                                                    -- charges: the paying key
    lineage  text,                                                    -- charges
    server   text,
    tool     text,
    day      integer,                                                 -- charges: of the reservation, since 1970
    waived   bigint,                                                  -- charges: the price, if a free quota has paid it
    fee      bigint,                                                  -- charges: the part that goes on to fee_to
    fee_to   bigint,                                                  -- account.n
    ref      bigint,                                                  -- refunds and fees: seq of the charge
    reason   text,
    CHECK (amount > 0 AND waived IS NULL OR kind = 1 AND amount = 0 AND waived > 0)
);
CREATE INDEX txn_charges ON txn (debtor, seq) WHERE kind = 1;
CREATE INDEX txn_ref ON txn (ref) WHERE ref IS NOT NULL;

-- Double entry: each transaction is two entries that sum to zero.
CREATE VIEW entry (seq, account, amount, sandbox) AS
    SELECT seq, debtor, -amount, sandbox FROM txn
    UNION ALL
    SELECT seq, creditor, amount, sandbox FROM txn;

-- What was reserved and is not captured. Rows go when they are captured.
CREATE TABLE reservation (
    id           uuid PRIMARY KEY,
    payer        bigint NOT NULL,                                     -- account.n, as are the next
    payee        bigint NOT NULL,
    fee_to       bigint,
    key          text NOT NULL,
    lineage      text NOT NULL,
    server       text NOT NULL,
    tool         text NOT NULL,
    amount       bigint NOT NULL,
    fee          bigint NOT NULL,
    sandbox      boolean NOT NULL,
    state        smallint NOT NULL,                                   -- 1 open, 2 released, 3 expired
    expires_at   timestamptz NOT NULL,
    day          integer NOT NULL,                                    -- by which it counts, since 1970
    waived       boolean NOT NULL,
    key_call     bigint NOT NULL,                                     -- the terms: caps of the key
    key_day      bigint NOT NULL,
    key_month    bigint NOT NULL,
    server_call  bigint NOT NULL,
    server_day   bigint NOT NULL,
    server_month bigint NOT NULL,
    free_calls   bigint NOT NULL,
    mark         uuid,                                                -- of the caller's key to repeat it by
    fingerprint  bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX reservation_open_payer ON reservation (payer, expires_at) WHERE state = 1;
CREATE INDEX reservation_open ON reservation (expires_at) WHERE state = 1;
CREATE INDEX reservation_unpaid ON reservation (expires_at) WHERE state <> 1;

-- What an account spent on a day, and what its open reservations of that day
-- hold: in all (holder 1), by lineage of keys (0) and by server (2).
CREATE TABLE meter (
    account bigint NOT NULL,                                          -- account.n
    holder  smallint NOT NULL,
    name    text COLLATE "C" NOT NULL,                                -- of the lineage or the server
    sandbox boolean NOT NULL,
    day     integer NOT NULL,                                         -- since 1970
    spent   bigint NOT NULL,                                          -- no more than a bigint can hold: that is beyond every cap
    held    bigint NOT NULL,
    free    bigint NOT NULL,                                          -- calls that a free quota has paid
    waiting bigint NOT NULL,                                          -- open calls that it is to pay
    PRIMARY KEY (account, holder, name, sandbox, day)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- Calls that may be sent again: in flight, or captured with their answer.
CREATE TABLE retry (
    mark        uuid PRIMARY KEY,                                     -- a hash of account, lineage, server and the caller's key
    payer       bigint NOT NULL,                                      -- account.n
    charge      uuid NOT NULL,
    fingerprint bytea NOT NULL,
    captured_at timestamptz,                                          -- null in flight
    size        integer NOT NULL DEFAULT 0,                           -- of body, 0 if it is not kept
    body        bytea
);
CREATE INDEX retry_age ON retry (captured_at) WHERE captured_at IS NOT NULL;
CREATE INDEX retry_kept ON retry (captured_at) INCLUDE (size) WHERE size > 0;
CREATE INDEX retry_charge ON retry (charge);

-- Figures about all of the store, which the nodes take now and then.
CREATE TABLE figure (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    retries bigint NOT NULL DEFAULT 0,
    answers bigint NOT NULL DEFAULT 0                                 -- bytes
);
INSERT INTO figure DEFAULT VALUES;

-- Whose the handles of servers are: of tasks, and of requests for input.
CREATE TABLE bond (
    mark     uuid PRIMARY KEY,
    account  text NOT NULL,
    until    timestamptz NOT NULL,
    payload  bytea NOT NULL
);
CREATE INDEX bond_until ON bond (until);

CREATE TABLE key (
    n            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           text COLLATE "C" NOT NULL UNIQUE,
    digest       bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    account      text COLLATE "C" NOT NULL,
    lineage      text NOT NULL,
    kind         text NOT NULL,
    environment  text NOT NULL,
    name         text NOT NULL,
    hint         text NOT NULL,
    scopes       text NOT NULL,                                       -- a JSON array
    servers      text NOT NULL,                                       -- a JSON array
    limits       text,                                                -- a JSON object; null for none
    created_at   timestamptz,
    expires_at   timestamptz,
    disabled_at  timestamptz,
    deleted_at   timestamptz,
    last_used_at timestamptz,                                         -- coarse, written in batches
    successor    text NOT NULL DEFAULT ''                             -- id of the key that a rotation made of it
) WITH (fillfactor = 80);
CREATE INDEX key_account ON key (account, n);
-- Those that can be used until they expire.
CREATE INDEX key_expiry ON key (expires_at) WHERE expires_at IS NOT NULL AND disabled_at IS NULL AND deleted_at IS NULL;

-- Keys that were made or changed, in the order of the commits: see revoke.
CREATE TABLE revocation (
    seq    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL,
    at     timestamptz NOT NULL
);

CREATE TABLE audit (
    n      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL,
    actor  text NOT NULL,
    origin text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail text NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd

CREATE TRIGGER txn_is_final BEFORE UPDATE OR DELETE ON txn FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER txn_stays BEFORE TRUNCATE ON txn EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_is_final BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_stays BEFORE TRUNCATE ON audit EXECUTE FUNCTION append_only();

INSERT INTO account (id, name, created_at, credit_limit) VALUES ('@funding', '@funding', now(), 0);
