-- +goose Up

-- The beginnings of sealed objects, without which nobody can open them.
CREATE TABLE recording_headers (
    name       TEXT   NOT NULL PRIMARY KEY,
    session_id TEXT   NOT NULL,
    header     BYTEA  NOT NULL,
    erased_at  BIGINT NOT NULL, -- 0: not; the row then goes when the object has
    tried_at   BIGINT NOT NULL  -- when the object was last tried to be removed
);
CREATE INDEX recording_headers_erased ON recording_headers (tried_at) WHERE erased_at <> 0;
CREATE INDEX recording_headers_session ON recording_headers (session_id);

-- What the target was when the session was opened, and the end of the recording.
ALTER TABLE sessions ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE sessions ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN deletion TEXT NOT NULL DEFAULT '{}';
CREATE INDEX sessions_kept ON sessions (closed_at, id) WHERE state = 'closed' AND deleted_at = 0;

CREATE TABLE retention (
    id      BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    rules   TEXT   NOT NULL,
    version BIGINT NOT NULL
);
INSERT INTO retention (id, rules, version) VALUES (1, '[]', 1);

CREATE TABLE holds (
    id        TEXT   NOT NULL PRIMARY KEY,
    reason    TEXT   NOT NULL,
    by_id     TEXT   NOT NULL,
    by_name   TEXT   NOT NULL,
    placed_at BIGINT NOT NULL,
    version   BIGINT NOT NULL
);
CREATE TABLE held_sessions (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    hold_id    TEXT NOT NULL REFERENCES holds (id),
    PRIMARY KEY (session_id, hold_id)
);
CREATE INDEX held_sessions_hold ON held_sessions (hold_id);

-- What one person has asked for that takes two.
CREATE TABLE proposals (
    subject TEXT   NOT NULL PRIMARY KEY,
    digest  TEXT   NOT NULL,
    by_id   TEXT   NOT NULL,
    by_name TEXT   NOT NULL,
    reason  TEXT   NOT NULL,
    made_at BIGINT NOT NULL
);

-- +goose Down
SELECT 1;
