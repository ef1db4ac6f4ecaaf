-- +goose Up

-- Grants, authorizations and tokens of OAuth: see the package oauth. All times are
-- microseconds since 1970, and 0 for never. The tables and their columns are the same on
-- PostgreSQL.
CREATE TABLE oauth_grant (
    n           INTEGER PRIMARY KEY,
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
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    revoked_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,                           -- when the tokens of a revoked grant were deleted
    reason      TEXT    NOT NULL
) STRICT;

CREATE INDEX oauth_grant_account ON oauth_grant (account, n);
CREATE INDEX oauth_grant_key ON oauth_grant (agent_key, n) WHERE agent_key <> '';
CREATE INDEX oauth_grant_person ON oauth_grant (person, n) WHERE person <> '';
CREATE INDEX oauth_grant_client ON oauth_grant (client, n);
CREATE INDEX oauth_grant_payer ON oauth_grant (n) WHERE revoked_at = 0 AND agent_key <> '';
CREATE INDEX oauth_grant_unfinished ON oauth_grant (n) WHERE revoked_at > 0 AND ended_at = 0;

-- Authorization codes, and devices that wait for a person.
CREATE TABLE oauth_authorization (
    digest       BLOB    NOT NULL PRIMARY KEY,              -- SHA-256 of the code
    owner        TEXT    NOT NULL,                          -- oauth_grant.id, or empty
    client       TEXT    NOT NULL,
    server       TEXT    NOT NULL,
    redirect_uri TEXT    NOT NULL,
    challenge    TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,                          -- JSON
    user_code    BLOB    NOT NULL,                          -- SHA-256, or empty
    denied       INTEGER NOT NULL,                          -- 0 or 1
    expires_at   INTEGER NOT NULL,
    used_at      INTEGER NOT NULL,
    polled_at    INTEGER NOT NULL,
    client_name  TEXT    NOT NULL,
    host         TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_authorization_end ON oauth_authorization (expires_at);
CREATE UNIQUE INDEX oauth_authorization_user ON oauth_authorization (user_code) WHERE length(user_code) > 0;

-- Which grant a token belongs to. The token itself is a row of key.
CREATE TABLE oauth_token (
    id         TEXT    NOT NULL PRIMARY KEY,                -- key.id
    digest     BLOB    NOT NULL UNIQUE,                     -- SHA-256 of the secret
    owner      TEXT    NOT NULL,                            -- oauth_grant.id
    kind       TEXT    NOT NULL,                            -- access or refresh
    method     TEXT    NOT NULL,                            -- how the client authenticated
    seed       BLOB    NOT NULL,                            -- of the successors, or empty
    used_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    access_id  TEXT    NOT NULL,
    refresh_id TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_token_owner ON oauth_token (owner, id);
CREATE INDEX oauth_token_end ON oauth_token (expires_at, id);
CREATE INDEX oauth_token_seed ON oauth_token (used_at) WHERE length(seed) > 0;

-- Clients that have registered themselves (RFC 7591).
CREATE TABLE oauth_client (
    id         TEXT    NOT NULL PRIMARY KEY,                -- client_id
    name       TEXT    NOT NULL,
    metadata   BLOB    NOT NULL,                            -- JSON
    secret     BLOB    NOT NULL,                            -- SHA-256, or empty
    source     TEXT    NOT NULL,                            -- network from which it registered
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL                             -- 0 until its first grant
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_client_unused ON oauth_client (created_at, source) WHERE used_at = 0;
CREATE INDEX oauth_client_used ON oauth_client (used_at) WHERE used_at > 0;

-- The last good metadata documents of clients.
CREATE TABLE oauth_document (
    url        TEXT    NOT NULL PRIMARY KEY,                -- client_id
    body       BLOB    NOT NULL,
    fetched_at INTEGER NOT NULL,
    fresh_to   INTEGER NOT NULL,
    failed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_document_fetched ON oauth_document (fetched_at);

-- Digests of ids of assertions that were used, until the assertions expire.
CREATE TABLE oauth_assertion (
    digest     BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_assertion_end ON oauth_assertion (expires_at);
