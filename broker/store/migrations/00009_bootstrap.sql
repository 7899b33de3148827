-- +goose Up

-- Scripts that enrol a target, each until a login at it was proven.
CREATE TABLE bootstraps (
    target_id  TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL,
    token      TEXT   NOT NULL UNIQUE,
    mfa_at     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    proven_at  BIGINT NOT NULL,
    tries      BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

-- +goose Down
SELECT 1;
