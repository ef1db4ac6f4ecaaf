-- +goose Up

-- Who may settle a charge: the lineages of the keys that gateways and providers
-- have asked a platform by. A charge has a small number in place of a long text.
CREATE TABLE settler (
    n       INTEGER PRIMARY KEY,
    lineage TEXT    NOT NULL UNIQUE
) STRICT;

ALTER TABLE txn ADD COLUMN settler INTEGER;                 -- charges: settler.n, null for those of the store's own process

-- Ids that were given up for good: nothing is captured under them by whoever
-- asked a platform, also after a restart that forgot the reservation.
CREATE TABLE void (
    id    BLOB    PRIMARY KEY CHECK (length(id) = 16),      -- the UUID of a charge
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX void_until ON void (until);

-- Each server has marks of its own. Those from before are of any server.
CREATE TABLE bond_of_server (
    mark    BLOB    NOT NULL CHECK (length(mark) = 16),
    server  TEXT    NOT NULL,
    account TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    payload BLOB    NOT NULL,
    PRIMARY KEY (mark, server)
) STRICT, WITHOUT ROWID;

INSERT INTO bond_of_server (mark, server, account, until, payload) SELECT mark, '', account, until, payload FROM bond;
DROP TABLE bond;
ALTER TABLE bond_of_server RENAME TO bond;
CREATE INDEX bond_until ON bond (until);
