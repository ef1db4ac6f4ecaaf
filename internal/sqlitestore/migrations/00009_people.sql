-- +goose Up

-- Persons who can sign in. All times are microseconds since 1970, and 0 for never.
-- The tables of people and their columns are the same on PostgreSQL.
CREATE TABLE person (
    n            INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    email        TEXT    NOT NULL UNIQUE,                   -- in lower case
    name         TEXT    NOT NULL,
    is_operator  INTEGER NOT NULL,                          -- 0 or 1
    password     TEXT    NOT NULL,                          -- an argon2id hash, or empty
    created_at   INTEGER NOT NULL,
    last_sign_in INTEGER NOT NULL,
    disabled_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE membership (
    person  TEXT NOT NULL,                                  -- person.id
    account TEXT NOT NULL,                                  -- account.id
    role    TEXT NOT NULL,
    PRIMARY KEY (person, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX membership_account ON membership (account, person);

CREATE TABLE passkey (
    id            TEXT    NOT NULL PRIMARY KEY,
    person        TEXT    NOT NULL,
    credential_id BLOB    NOT NULL UNIQUE,                  -- of the authenticator
    credential    TEXT    NOT NULL,                         -- its public key, counter and flags, as JSON
    name          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    used_at       INTEGER NOT NULL
) STRICT;

CREATE INDEX passkey_person ON passkey (person);

-- Users of OpenID providers, and the persons that they are.
CREATE TABLE provider_user (
    issuer     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    person     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX provider_user_person ON provider_user (person);

CREATE TABLE person_session (
    n          INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    digest     BLOB    NOT NULL UNIQUE,                     -- SHA-256 of the token
    person     TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    agent      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL                             -- the absolute end
) STRICT;

CREATE INDEX person_session_person ON person_session (person);
CREATE INDEX person_session_end ON person_session (ends_at);

CREATE TABLE invitation (
    n           INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    digest      BLOB    NOT NULL UNIQUE,                    -- SHA-256 of the secret
    account     TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    is_operator INTEGER NOT NULL,
    email       TEXT    NOT NULL,
    person      TEXT    NOT NULL,                           -- whose credentials it replaces
    registers   INTEGER NOT NULL,                           -- 1 if it creates the account
    author      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL,
    used_by     TEXT    NOT NULL
) STRICT;

CREATE INDEX invitation_end ON invitation (expires_at);
CREATE INDEX invitation_person ON invitation (person) WHERE person <> '';
CREATE INDEX invitation_author ON invitation (author);

-- Steps of a browser that have begun: a passkey's challenge, or a visit to the
-- provider.
CREATE TABLE ceremony (
    digest     BLOB    NOT NULL PRIMARY KEY,                -- SHA-256 of the secret
    kind       TEXT    NOT NULL,
    data       TEXT    NOT NULL,                            -- JSON
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ceremony_end ON ceremony (expires_at);
