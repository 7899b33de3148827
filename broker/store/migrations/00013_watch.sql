-- +goose Up

-- Who holds back what comes from the holder, in all sessions under the grant.
ALTER TABLE grants ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';

-- Why somebody should look at a session.
ALTER TABLE sessions ADD COLUMN risks TEXT NOT NULL DEFAULT 'null';

-- +goose Down
SELECT 1;
