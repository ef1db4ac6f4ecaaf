-- +goose Up

-- As for other migrations: it gives up rather than make the calls behind it wait.
SET LOCAL lock_timeout = '2s';

-- Grants, authorizations and tokens of OAuth: see the package oauth. All times are
-- microseconds since 1970, and 0 for never. The tables and their columns are the same on
-- SQLite.
CREATE TABLE oauth_grant (
    n           BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    account     TEXT    NOT NULL,                           -- account.id
    environment TEXT    NOT NULL,
    server      TEXT    NOT NULL,
    client      TEXT    NOT NULL,                           -- client_id
    client_name TEXT    NOT NULL,                           -- as the client claims
    host        TEXT    NOT NULL,                           -- of the redirect URI
    scopes      TEXT    NOT NULL,                           -- JSON
    limits      TEXT    NOT NULL,                           -- JSON, or empty
    lineage     TEXT    NOT NULL,                           -- of the tokens
    agent_key   TEXT    NOT NULL,                           -- key.id, or empty
    person      TEXT    NOT NULL,                           -- person.id, or empty
    created_at  BIGINT  NOT NULL,
    expires_at  BIGINT  NOT NULL,
    revoked_at  BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL,                           -- when the tokens of a revoked grant were deleted
    reason      TEXT    NOT NULL
);

CREATE INDEX oauth_grant_account ON oauth_grant (account, n);
CREATE INDEX oauth_grant_key ON oauth_grant (agent_key, n) WHERE agent_key <> '';
CREATE INDEX oauth_grant_person ON oauth_grant (person, n) WHERE person <> '';
CREATE INDEX oauth_grant_client ON oauth_grant (client, n);
CREATE INDEX oauth_grant_payer ON oauth_grant (n) WHERE revoked_at = 0 AND agent_key <> '';
CREATE INDEX oauth_grant_unfinished ON oauth_grant (n) WHERE revoked_at > 0 AND ended_at = 0;

-- Authorization codes, and devices that wait for a person.
CREATE TABLE oauth_authorization (
    digest       BYTEA   NOT NULL PRIMARY KEY,              -- SHA-256 of the code
    owner        TEXT    NOT NULL,                          -- oauth_grant.id, or empty
    client       TEXT    NOT NULL,
    server       TEXT    NOT NULL,
    redirect_uri TEXT    NOT NULL,
    challenge    TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,                          -- JSON
    user_code    BYTEA   NOT NULL,                          -- SHA-256, or empty
    denied       BIGINT  NOT NULL,                          -- 0 or 1
    expires_at   BIGINT  NOT NULL,
    used_at      BIGINT  NOT NULL,
    polled_at    BIGINT  NOT NULL,
    client_name  TEXT    NOT NULL,
    host         TEXT    NOT NULL
);

CREATE INDEX oauth_authorization_end ON oauth_authorization (expires_at);
CREATE UNIQUE INDEX oauth_authorization_user ON oauth_authorization (user_code) WHERE length(user_code) > 0;

-- Which grant a token belongs to. The token itself is a row of key.
CREATE TABLE oauth_token (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,      -- key.id
    digest     BYTEA   NOT NULL UNIQUE,                     -- SHA-256 of the secret
    owner      TEXT    NOT NULL,                            -- oauth_grant.id
    kind       TEXT    NOT NULL,                            -- access or refresh
    method     TEXT    NOT NULL,                            -- how the client authenticated
    seed       BYTEA   NOT NULL,                            -- of the successors, or empty
    used_at    BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    access_id  TEXT    NOT NULL,
    refresh_id TEXT    NOT NULL
);

CREATE INDEX oauth_token_owner ON oauth_token (owner, id);
CREATE INDEX oauth_token_end ON oauth_token (expires_at, id);
CREATE INDEX oauth_token_seed ON oauth_token (used_at) WHERE length(seed) > 0;

-- Clients that have registered themselves (RFC 7591).
CREATE TABLE oauth_client (
    id         TEXT    NOT NULL PRIMARY KEY,                -- client_id
    name       TEXT    NOT NULL,
    metadata   BYTEA   NOT NULL,                            -- JSON
    secret     BYTEA   NOT NULL,                            -- SHA-256, or empty
    source     TEXT    NOT NULL,                            -- network from which it registered
    created_at BIGINT  NOT NULL,
    used_at    BIGINT  NOT NULL                             -- 0 until its first grant
);

CREATE INDEX oauth_client_unused ON oauth_client (created_at, source) WHERE used_at = 0;
CREATE INDEX oauth_client_used ON oauth_client (used_at) WHERE used_at > 0;

-- The last good metadata documents of clients.
CREATE TABLE oauth_document (
    url        TEXT    NOT NULL PRIMARY KEY,                -- client_id
    body       BYTEA   NOT NULL,
    fetched_at BIGINT  NOT NULL,
    fresh_to   BIGINT  NOT NULL,
    failed_at  BIGINT  NOT NULL
);

CREATE INDEX oauth_document_fetched ON oauth_document (fetched_at);

-- Digests of ids of assertions that were used, until the assertions expire.
CREATE TABLE oauth_assertion (
    digest     BYTEA   NOT NULL PRIMARY KEY,
    expires_at BIGINT  NOT NULL
);

CREATE INDEX oauth_assertion_end ON oauth_assertion (expires_at);
