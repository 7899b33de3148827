-- +goose Up

-- What becomes of the views of recordings: which are to be made, by whom just now,
-- and which could not be.
CREATE TABLE views (
    session_id  TEXT   NOT NULL PRIMARY KEY,
    state       TEXT   NOT NULL CHECK (state IN ('waiting', 'making', 'made', 'failed', 'removed')),
    version     BIGINT NOT NULL, -- of the view that was made, or tried
    node        TEXT   NOT NULL, -- that makes it, or did
    tries       BIGINT NOT NULL,
    error       TEXT   NOT NULL, -- of the last try
    closed_at   BIGINT NOT NULL, -- of the session
    due_at      BIGINT NOT NULL, -- waiting: not before; making: another server may, from then on
    made_at     BIGINT NOT NULL
);
CREATE INDEX views_due ON views (state, closed_at);
CREATE INDEX sessions_closed ON sessions (closed_at) WHERE state = 'closed';

-- +goose Down
SELECT 1;
