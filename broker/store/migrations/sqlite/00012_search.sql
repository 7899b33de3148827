-- What was shown, typed and run in sessions, to be found. All of it can be made
-- again from the recordings.

-- Who was at which account of which target: that decides who may find what.
CREATE TABLE text_scopes (
    id          INTEGER NOT NULL PRIMARY KEY,
    user_id     TEXT    NOT NULL,
    target_id   TEXT    NOT NULL,
    target_name TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    UNIQUE (user_id, target_id, target_name, account)
);

-- The texts of a session have ids without a gap from first_id on, which is the
-- millisecond when the session was opened (or, where others were opened in the
-- same one, the next that is free) times 2^20: so the order of ids is that of
-- time, and of a session's texts, their own.
CREATE TABLE text_sessions (
    first_id   INTEGER NOT NULL PRIMARY KEY,
    session_id TEXT    NOT NULL UNIQUE REFERENCES sessions (id),
    scope_id   BIGINT  NOT NULL REFERENCES text_scopes (id),
    texts      BIGINT  NOT NULL, -- how many
    files      BIGINT  NOT NULL, -- how many of these tell of a file
    whole      BOOLEAN NOT NULL  -- none is missing
);
CREATE INDEX text_sessions_scope ON text_sessions (scope_id, first_id, texts, whole);

CREATE TABLE texts (
    id     INTEGER NOT NULL PRIMARY KEY,
    at     BIGINT  NOT NULL, -- microseconds since the recording began
    source TEXT    NOT NULL CHECK (source IN ('output', 'keys', 'command', 'file', 'mark')),
    text   TEXT    NOT NULL
);

-- Which texts hold which three characters. What is removed from it is
-- overwritten, and not only marked as gone.
CREATE VIRTUAL TABLE texts_index USING fts5 (
    text, content = 'texts', content_rowid = 'id', tokenize = 'trigram', detail = 'none', columnsize = 0
);
INSERT INTO texts_index (texts_index, rank) VALUES ('secure-delete', 1);
