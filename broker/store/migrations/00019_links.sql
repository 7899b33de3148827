-- +goose Up

-- Accounts of people in other systems, and whose they are.
CREATE TABLE links (
    kind       TEXT   NOT NULL,
    team       TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (kind, team, account)
);
CREATE INDEX links_of_user ON links (user_id);

-- Codes with which the holder of such an account says that it is theirs.
CREATE TABLE link_codes (
    hash       TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    team       TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (kind, team, account)
);

-- What a channel has posted, so that it can be brought up to date.
CREATE TABLE posts (
    channel   TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    part      TEXT   NOT NULL,
    place     TEXT   NOT NULL,
    room      TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    shown     TEXT   NOT NULL,
    posted_at BIGINT NOT NULL,
    PRIMARY KEY (channel, subject, part, place)
);
CREATE INDEX posts_by_age ON posts (posted_at);

-- What counts once: signatures of messages that came in, and the like.
CREATE TABLE used_once (
    hash       TEXT   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX used_once_by_end ON used_once (expires_at);

-- +goose Down
SELECT 1;
