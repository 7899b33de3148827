-- +goose Up

-- At each opening the open sessions of the person and on the target are counted.
CREATE INDEX sessions_user ON sessions (user_id) WHERE state <> 'closed';
CREATE INDEX sessions_target ON sessions (target_id) WHERE state <> 'closed';

-- +goose Down
SELECT 1;
