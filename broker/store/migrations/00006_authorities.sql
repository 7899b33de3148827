-- +goose Up

-- The keys of the certificate authorities, of which the private halves lie in
-- the vault. A kind without a row has its first key, which is active.
CREATE TABLE authorities (
    id         TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    generation BIGINT NOT NULL CHECK (generation > 0),
    state      TEXT   NOT NULL CHECK (state IN ('next', 'active', 'old', 'retired')),
    key        TEXT   NOT NULL,
    changed_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    UNIQUE (kind, generation)
);
-- One signs, one is to sign next, one is trusted still.
CREATE UNIQUE INDEX authorities_state ON authorities (kind, state) WHERE state <> 'retired';

-- +goose Down
SELECT 1;
