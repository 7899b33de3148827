-- +goose Up

-- Requests that were made together are shown together.
ALTER TABLE requests ADD COLUMN batch TEXT NOT NULL DEFAULT '';
CREATE INDEX requests_batch ON requests (batch, created_at, id);

-- +goose Down
SELECT 1;
