-- +goose Up

-- Times that mean something for some targets. Their generation is that of the
-- policy data, so every server loads them again.
CREATE TABLE windows (
    id         TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL CHECK (kind IN ('maintenance', 'freeze')),
    reason     TEXT   NOT NULL,
    targets    TEXT   NOT NULL,
    from_at    BIGINT NOT NULL,
    to_at      BIGINT NOT NULL, -- 0: it goes on
    hours      TEXT   NOT NULL,
    weekdays   TEXT   NOT NULL,
    time_zone  TEXT   NOT NULL,
    by_id      TEXT   NOT NULL,
    by_name    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
CREATE INDEX windows_to ON windows (to_at);

CREATE TABLE networks (
    name    TEXT   NOT NULL PRIMARY KEY,
    ranges  TEXT   NOT NULL,
    version BIGINT NOT NULL
);

ALTER TABLE targets ADD COLUMN facts TEXT NOT NULL DEFAULT 'null';
ALTER TABLE roles ADD COLUMN attributes TEXT NOT NULL DEFAULT 'null';
ALTER TABLE roles ADD COLUMN excludes TEXT NOT NULL DEFAULT 'null';

-- What the ticket system said when it was asked for, and who else asked under the
-- same ticket.
ALTER TABLE requests ADD COLUMN ticket_check TEXT NOT NULL DEFAULT '{}';
CREATE INDEX requests_ticket ON requests (ticket, created_at) WHERE ticket <> '';

-- +goose Down
SELECT 1;
