-- +goose Up

-- Access that was taken without approval, and what somebody else found of it
-- later. What was taken before there were reviews has to be looked at, too.
CREATE TABLE glass_reviews (
    request_id  TEXT   NOT NULL PRIMARY KEY REFERENCES requests (id),
    user_id     TEXT   NOT NULL,
    barred      TEXT   NOT NULL, -- ids of others who may not close it
    opened_at   BIGINT NOT NULL,
    closed_at   BIGINT NOT NULL, -- 0: open
    closed_by   TEXT   NOT NULL,
    closed_name TEXT   NOT NULL,
    finding     TEXT   NOT NULL CHECK (finding IN ('', 'justified', 'not_justified')),
    text        TEXT   NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX glass_reviews_opened ON glass_reviews (opened_at, request_id);
CREATE INDEX glass_reviews_user ON glass_reviews (user_id, opened_at) WHERE closed_at = 0;
INSERT INTO glass_reviews (request_id, user_id, barred, opened_at, closed_at, closed_by, closed_name, finding, text, version)
    SELECT id, requester_id, 'null', created_at, 0, '', '', '', '', 1 FROM requests WHERE break_glass AND state = 'approved';
INSERT INTO dues (kind, object, at)
    SELECT 'breakglass.remind', id, created_at + 14400000000 FROM requests WHERE break_glass AND state = 'approved';

-- The codes in the envelopes. One set is valid at most: the others have a time
-- at which they were made void.
ALTER TABLE users ADD COLUMN emergency BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE code_sets (
    id         TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL REFERENCES users (id),
    need       BIGINT NOT NULL CHECK (need >= 2),
    created_at BIGINT NOT NULL,
    voided_at  BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    codes      TEXT   NOT NULL
);
CREATE UNIQUE INDEX code_sets_valid ON code_sets (voided_at) WHERE voided_at = 0;
CREATE INDEX code_sets_user ON code_sets (user_id, used_at);

-- When a right was last used.
CREATE INDEX grants_used ON grants (user_id, role, start_at);
CREATE INDEX approvals_voter ON approvals (user_id, at);

-- Reviews of who has which role. Items say what was so when it began.
CREATE TABLE campaigns (
    id           TEXT   NOT NULL PRIMARY KEY,
    roles        TEXT   NOT NULL,
    owner_id     TEXT   NOT NULL,
    owner_name   TEXT   NOT NULL,
    started_by   TEXT   NOT NULL,
    started_name TEXT   NOT NULL,
    started_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    closed_at    BIGINT NOT NULL, -- 0: open
    closed_by    TEXT   NOT NULL,
    closed_name  TEXT   NOT NULL,
    items        BIGINT NOT NULL,
    undecided    BIGINT NOT NULL,
    version      BIGINT NOT NULL
);
CREATE INDEX campaigns_started ON campaigns (started_at, id);
CREATE TABLE campaign_items (
    campaign_id TEXT   NOT NULL REFERENCES campaigns (id),
    n           BIGINT NOT NULL,
    user_id     TEXT   NOT NULL,
    user_name   TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    how         TEXT   NOT NULL,
    measured    BOOLEAN NOT NULL,
    last_used   BIGINT NOT NULL,
    uses        BIGINT NOT NULL,
    decision    TEXT   NOT NULL CHECK (decision IN ('', 'kept', 'removed')),
    decided_by  TEXT   NOT NULL,
    decided_name TEXT  NOT NULL,
    decided_at  BIGINT NOT NULL,
    reason      TEXT   NOT NULL,
    PRIMARY KEY (campaign_id, n)
);
CREATE INDEX campaign_items_open ON campaign_items (campaign_id, n) WHERE decision = '';

-- Where the decisions of a campaign stand in the log.
CREATE INDEX audit_leaves_review ON audit_leaves (object, seq) WHERE action = 'review.decide';

-- +goose Down
SELECT 1;
