-- +goose Up

-- What a target is: '' a host with SSH, or a system whose accounts are no logins there.
ALTER TABLE targets ADD COLUMN kind TEXT NOT NULL DEFAULT '';

-- How the passwords stand that are ours: one row a managed account.
CREATE TABLE rotations (
    id          TEXT   NOT NULL PRIMARY KEY, -- target/account
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    due_at      BIGINT NOT NULL, -- 0: no change is due
    cause       TEXT   NOT NULL,
    after_use   BOOLEAN NOT NULL,
    held_until  BIGINT NOT NULL,
    prove_at    BIGINT NOT NULL,
    changed_at  BIGINT NOT NULL,
    proved_at   BIGINT NOT NULL,
    tries       BIGINT NOT NULL,
    since_at    BIGINT NOT NULL,
    problem     TEXT   NOT NULL,
    next_at     BIGINT NOT NULL,
    alarmed_at  BIGINT NOT NULL,
    node        TEXT   NOT NULL,
    until_at    BIGINT NOT NULL,
    urgency     BIGINT NOT NULL, -- the lowest is worked on first
    begin_at    BIGINT NOT NULL, -- no server has anything to do before
    version     BIGINT NOT NULL
);
CREATE INDEX rotations_begin ON rotations (begin_at);
CREATE INDEX rotations_turn ON rotations (urgency, begin_at, id);
CREATE INDEX rotations_target ON rotations (target_id, account);
CREATE INDEX rotations_node ON rotations (node) WHERE node <> '';

-- Who has seen the password that an account has now.
CREATE TABLE password_readers (
    rotation_id TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (rotation_id, user_id)
);
CREATE INDEX password_readers_user ON password_readers (user_id, rotation_id);

-- +goose Down
SELECT 1;
