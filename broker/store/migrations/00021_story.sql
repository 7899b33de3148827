-- +goose Up

-- What happened to one request or grant is read by its id, and when somebody was
-- last here by theirs.
CREATE INDEX audit_leaves_object ON audit_leaves (object, seq) WHERE object <> '';
CREATE INDEX audit_leaves_login ON audit_leaves (actor, seq) WHERE action = 'login';

-- +goose Down
SELECT 1;
