-- +goose Up

ALTER TABLE users ADD COLUMN owner_id TEXT NOT NULL DEFAULT ''; -- of a bot: whose it is

ALTER TABLE requests ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN edited_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN edits BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN deny_threshold BIGINT NOT NULL DEFAULT 0;

-- A vote is a yes or a no; one person has one, as the key says.
ALTER TABLE approvals ADD COLUMN against BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE approvals ADD COLUMN stands_for TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN narrowing TEXT NOT NULL DEFAULT '{}';
ALTER TABLE approvals ADD COLUMN step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN statement TEXT NOT NULL DEFAULT '';

-- Who votes in whose place, and when.
CREATE TABLE delegations (
    user_id       TEXT   NOT NULL PRIMARY KEY REFERENCES users (id),
    user_name     TEXT   NOT NULL,
    delegate_id   TEXT   NOT NULL REFERENCES users (id),
    delegate_name TEXT   NOT NULL,
    from_at       BIGINT NOT NULL,
    until_at      BIGINT NOT NULL,
    reason        TEXT   NOT NULL,
    version       BIGINT NOT NULL
);
CREATE INDEX delegations_delegate ON delegations (delegate_id, until_at);
CREATE INDEX delegations_until ON delegations (until_at);

-- +goose Down
SELECT 1;
