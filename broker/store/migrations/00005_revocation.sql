-- +goose Up

-- A certificate for a target, or for a hop on the way to it, belongs to a
-- session; '' is one that belongs to none.
ALTER TABLE certificates ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
CREATE INDEX certificates_session ON certificates (session_id) WHERE session_id <> '';
CREATE INDEX certificates_expiry ON certificates (expires_at);
CREATE INDEX certificates_revoked ON certificates (revoked_at) WHERE revoked_at <> 0;

-- +goose Down
SELECT 1;
