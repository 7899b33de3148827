-- +goose Up

-- What falls due by the clock alone and is to be put on record then. The row goes in
-- the transaction of the event, so that it is told once.
CREATE TABLE dues (
    kind   TEXT   NOT NULL, -- the action of the event
    object TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (kind, object)
);
CREATE INDEX dues_at ON dues (at);

-- What was over before the last event is not told afterwards.
INSERT INTO dues (kind, object, at) SELECT 'request.expire', id, expires_at FROM requests
    WHERE state = 'pending' AND expires_at > (SELECT time FROM audit_head WHERE id = 1);
INSERT INTO dues (kind, object, at) SELECT 'grant.end', id, end_at FROM grants
    WHERE ended_at = 0 AND end_at > (SELECT time FROM audit_head WHERE id = 1);

-- How far each channel has told of the audit log, and who tells now. A token grows
-- with each holder of the lease: one that has lost it saves nothing.
CREATE TABLE channels (
    name       TEXT   NOT NULL PRIMARY KEY,
    type       TEXT   NOT NULL,
    position   BIGINT NOT NULL, -- of the next event
    node       TEXT   NOT NULL,
    token      BIGINT NOT NULL,
    until_at   BIGINT NOT NULL, -- end of the lease
    tries      BIGINT NOT NULL, -- of the notice at position that failed
    next_at    BIGINT NOT NULL, -- not before
    error      TEXT   NOT NULL, -- the last one
    error_at   BIGINT NOT NULL,
    success_at BIGINT NOT NULL
);

-- Notices that were stepped over because they failed while others did not.
CREATE TABLE notices (
    channel  TEXT   NOT NULL,
    position BIGINT NOT NULL,
    action   TEXT   NOT NULL, -- of the event
    state    TEXT   NOT NULL CHECK (state IN ('late', 'aside')),
    tries    BIGINT NOT NULL,
    since_at BIGINT NOT NULL, -- its day begins
    next_at  BIGINT NOT NULL, -- late: not before
    error    TEXT   NOT NULL,
    PRIMARY KEY (channel, position)
);
CREATE INDEX notices_due ON notices (channel, state, next_at);

-- +goose Down
SELECT 1;
