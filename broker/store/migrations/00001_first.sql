-- +goose Up

-- Every time is unix microseconds UTC; 0 stands for "not yet". Lists and small
-- structures that no query looks into are JSON in TEXT. BYTEA is understood by
-- both engines: SQLite keeps a blob under any declared type.

CREATE TABLE users (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    display     TEXT   NOT NULL,
    groups      TEXT   NOT NULL,
    attributes  TEXT   NOT NULL,
    bot         BOOLEAN NOT NULL,
    locked      BOOLEAN NOT NULL,
    lock_reason TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);

CREATE TABLE public_keys (
    fingerprint TEXT   NOT NULL PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES users (id),
    key         TEXT   NOT NULL,
    comment     TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX public_keys_user ON public_keys (user_id);

CREATE TABLE targets (
    id           TEXT   NOT NULL PRIMARY KEY,
    name         TEXT   NOT NULL UNIQUE,
    address      TEXT   NOT NULL,
    labels       TEXT   NOT NULL,
    applications TEXT   NOT NULL,
    accounts     TEXT   NOT NULL,
    host_keys    TEXT   NOT NULL,
    locked       BOOLEAN NOT NULL,
    lock_reason  TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL
);

CREATE TABLE roles (
    name     TEXT   NOT NULL PRIMARY KEY,
    inherits TEXT   NOT NULL,
    groups   TEXT   NOT NULL,
    users    TEXT   NOT NULL,
    rules    TEXT   NOT NULL,
    version  BIGINT NOT NULL
);

-- One row: grows with every change of a role, so that every server knows when
-- to load the policy data again.
CREATE TABLE policy_data (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL
);
INSERT INTO policy_data (id, generation) VALUES (1, 1);

CREATE TABLE requests (
    id             TEXT   NOT NULL PRIMARY KEY,
    requester_id   TEXT   NOT NULL REFERENCES users (id),
    requester_name TEXT   NOT NULL,
    target_id      TEXT   NOT NULL,
    target_name    TEXT   NOT NULL,
    target_address TEXT   NOT NULL,
    target_keys    TEXT   NOT NULL,
    account        TEXT   NOT NULL,
    reason         TEXT   NOT NULL,
    ticket         TEXT   NOT NULL,
    duration       BIGINT NOT NULL CHECK (duration > 0),
    start_at       BIGINT NOT NULL,
    break_glass    BOOLEAN NOT NULL,
    source         TEXT   NOT NULL,
    via            TEXT   NOT NULL,
    state          TEXT   NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'cancelled')),
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    decided_at     BIGINT NOT NULL,
    decided_by     TEXT   NOT NULL,
    note           TEXT   NOT NULL,
    role           TEXT   NOT NULL,
    needs          TEXT   NOT NULL,
    rules          TEXT   NOT NULL,
    policy         TEXT   NOT NULL,
    version        BIGINT NOT NULL
);
CREATE INDEX requests_state ON requests (state, created_at);
CREATE INDEX requests_requester ON requests (requester_id, target_id, account, state);
CREATE INDEX requests_created ON requests (created_at, id);

-- One person, one vote: the key says so as well.
CREATE TABLE approvals (
    request_id TEXT   NOT NULL REFERENCES requests (id),
    user_id    TEXT   NOT NULL,
    user_name  TEXT   NOT NULL,
    groups     TEXT   NOT NULL,
    comment    TEXT   NOT NULL,
    duration   BIGINT NOT NULL CHECK (duration > 0),
    digest     TEXT   NOT NULL,
    via        TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (request_id, user_id)
);

CREATE TABLE grants (
    id          TEXT   NOT NULL PRIMARY KEY,
    request_id  TEXT   NOT NULL UNIQUE REFERENCES requests (id),
    user_id     TEXT   NOT NULL REFERENCES users (id),
    user_name   TEXT   NOT NULL,
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    rules       TEXT   NOT NULL,
    duration    BIGINT NOT NULL CHECK (duration > 0),
    break_glass BOOLEAN NOT NULL,
    digest      TEXT   NOT NULL,
    policy      TEXT   NOT NULL,
    opened_at   BIGINT NOT NULL,
    not_before  BIGINT NOT NULL,
    activate_by BIGINT NOT NULL,
    start_at    BIGINT NOT NULL,
    end_at      BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    end_reason  TEXT   NOT NULL CHECK (end_reason IN ('', 'released', 'revoked', 'superseded')),
    ended_by    TEXT   NOT NULL,
    end_note    TEXT   NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX grants_holder ON grants (user_id, target_id, account, end_at);
CREATE INDEX grants_end ON grants (end_at);

CREATE TABLE sessions (
    id          TEXT   NOT NULL PRIMARY KEY,
    grant_id    TEXT   NOT NULL REFERENCES grants (id),
    request_id  TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    user_name   TEXT   NOT NULL,
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    command     TEXT   NOT NULL,
    source      TEXT   NOT NULL,
    client      TEXT   NOT NULL,
    node        TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('opening', 'open', 'closed')),
    opened_at   BIGINT NOT NULL,
    closed_at   BIGINT NOT NULL,
    end_reason  TEXT   NOT NULL,
    exit_status TEXT   NOT NULL,
    serial      BIGINT NOT NULL,
    recording   TEXT   NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX sessions_state ON sessions (state, node);
CREATE INDEX sessions_opened ON sessions (opened_at, id);
CREATE INDEX sessions_grant ON sessions (grant_id);

-- A certificate exists only if its serial is here: the row is written before
-- the certificate is signed.
CREATE TABLE certificates (
    serial     BIGINT NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    principal  TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    key_id     TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    mfa_at     BIGINT NOT NULL
);

CREATE TABLE vault_records (
    id      TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    sealed  BYTEA  NOT NULL
);

-- Who is logged in. The token that a person carries only points here.
CREATE TABLE logins (
    id         TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL REFERENCES users (id),
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    mfa_at     BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    source     TEXT   NOT NULL,
    via        TEXT   NOT NULL
);
CREATE INDEX logins_user ON logins (user_id, expires_at);
CREATE INDEX logins_expiry ON logins (expires_at);

-- Command line clients that wait for their person to confirm them.
CREATE TABLE devices (
    code        TEXT   NOT NULL PRIMARY KEY,
    secret_hash BYTEA  NOT NULL UNIQUE,
    client      TEXT   NOT NULL,
    source      TEXT   NOT NULL,
    origin      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    user_id     TEXT   NOT NULL,
    mfa_at      BIGINT NOT NULL
);
CREATE INDEX devices_expiry ON devices (expires_at);

-- What the broker keeps to recognise a user by itself. An authenticator is
-- sealed by the vault; empty stands for none.
CREATE TABLE credentials (
    user_id      TEXT   NOT NULL PRIMARY KEY REFERENCES users (id),
    hash         TEXT   NOT NULL,
    changed_at   BIGINT NOT NULL,
    totp         BYTEA  NOT NULL,
    totp_step    BIGINT NOT NULL,
    pending_totp BYTEA  NOT NULL
);

CREATE TABLE setups (
    hash       BYTEA  NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL UNIQUE REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Tries that went wrong.
CREATE TABLE login_counters (
    key           TEXT   NOT NULL PRIMARY KEY,
    failures      BIGINT NOT NULL,
    counted_at    BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    good_at       BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL
);
CREATE INDEX login_counters_expiry ON login_counters (expires_at);

-- The audit log, written in the transaction of the change that it tells of.
-- The head has the size of the log and the right edge of its Merkle tree: the
-- roots of the full subtrees, largest first, 32 bytes each. That is all that a
-- further leaf builds on, and it cannot be of another history than the size.
CREATE TABLE audit_head (
    id   BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    size BIGINT NOT NULL,
    edge BYTEA  NOT NULL,
    time BIGINT NOT NULL -- of the newest event
);
INSERT INTO audit_head (id, size, edge, time) VALUES (1, 0, '', 0);

-- hashes are the leaf's and those of the subtrees that it completes, smallest
-- first, 32 bytes each. They stand before the leaf because they are read alone.
CREATE TABLE audit_leaves (
    seq     BIGINT NOT NULL PRIMARY KEY,
    time    BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    target  TEXT   NOT NULL,
    session TEXT   NOT NULL,
    hashes  BYTEA  NOT NULL,
    leaf    BYTEA  NOT NULL
);
-- Most events belong to no session; they need not be in the index.
CREATE INDEX audit_leaves_session ON audit_leaves (session, action) WHERE session <> '';

CREATE TABLE audit_checkpoints (
    size    BIGINT NOT NULL PRIMARY KEY,
    time    BIGINT NOT NULL,
    message BYTEA  NOT NULL
);

-- +goose Down
SELECT 1;
