-- +goose Up

-- When somebody took a second factor away that its person had lost; 0: never.
ALTER TABLE credentials ADD COLUMN taken_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
SELECT 1;
