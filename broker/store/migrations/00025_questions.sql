-- +goose Up

-- What approvers and guards say besides yes and no.
ALTER TABLE requests ADD COLUMN questions TEXT NOT NULL DEFAULT 'null';
ALTER TABLE requests ADD COLUMN hand_overs TEXT NOT NULL DEFAULT 'null';
ALTER TABLE sessions ADD COLUMN alarms TEXT NOT NULL DEFAULT 'null';
ALTER TABLE glass_reviews ADD COLUMN ack_id TEXT NOT NULL DEFAULT '';
ALTER TABLE glass_reviews ADD COLUMN ack_name TEXT NOT NULL DEFAULT '';
ALTER TABLE glass_reviews ADD COLUMN ack_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
SELECT 1;
