-- +goose Up

-- Passkeys: the public halves. count is how often one has signed, by its own word.
CREATE TABLE passkeys (
    id              TEXT    NOT NULL PRIMARY KEY,
    user_id         TEXT    NOT NULL REFERENCES users (id),
    name            TEXT    NOT NULL,
    credential      BYTEA   NOT NULL UNIQUE,
    public_key      BYTEA   NOT NULL,
    count           BIGINT  NOT NULL,
    backup_eligible BOOLEAN NOT NULL,
    backed_up       BOOLEAN NOT NULL,
    added_at        BIGINT  NOT NULL,
    used_at         BIGINT  NOT NULL, -- 0: never
    blocked_at      BIGINT  NOT NULL  -- 0: it is not
);
CREATE INDEX passkeys_user ON passkeys (user_id, added_at, id);

-- What waits for a passkey to sign it.
CREATE TABLE passkey_challenges (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    owner      TEXT   NOT NULL, -- under whom it is counted
    user_id    TEXT   NOT NULL, -- '': anybody may answer
    login      TEXT   NOT NULL,
    purpose    TEXT   NOT NULL CHECK (purpose IN ('sign-in', 'add', 'vote')),
    digest     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX passkey_challenges_owner ON passkey_challenges (owner, created_at);
CREATE INDEX passkey_challenges_expiry ON passkey_challenges (expires_at);

-- +goose Down
SELECT 1;
