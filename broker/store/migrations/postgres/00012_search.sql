-- The same as for SQLite, where it is explained. The index is made when the
-- server starts, because it needs an extension.

CREATE TABLE text_scopes (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     TEXT   NOT NULL,
    target_id   TEXT   NOT NULL,
    target_name TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    UNIQUE (user_id, target_id, target_name, account)
);

CREATE TABLE text_sessions (
    first_id   BIGINT  NOT NULL PRIMARY KEY,
    session_id TEXT    NOT NULL UNIQUE REFERENCES sessions (id),
    scope_id   BIGINT  NOT NULL REFERENCES text_scopes (id),
    texts      BIGINT  NOT NULL,
    files      BIGINT  NOT NULL,
    whole      BOOLEAN NOT NULL
);
CREATE INDEX text_sessions_scope ON text_sessions (scope_id, first_id, texts, whole);

CREATE TABLE texts (
    id     BIGINT NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    source TEXT   NOT NULL CHECK (source IN ('output', 'keys', 'command', 'file', 'mark')),
    text   TEXT   NOT NULL
);
