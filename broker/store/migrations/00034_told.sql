-- +goose Up

-- What cards in chats tell: how many commands were run in a session (-1: it was
-- indexed before they were counted), and when who broke glass had last shown a second
-- factor.
ALTER TABLE text_sessions ADD COLUMN commands BIGINT NOT NULL DEFAULT -1;
ALTER TABLE glass_reviews ADD COLUMN factor_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
SELECT 1;
