-- What lists are found by, so that they cost the same however much there is.

-- Who is in which group, as the rows of users say.
CREATE TABLE members (
    group_name TEXT NOT NULL,
    user_id    TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (group_name, user_id)
);
CREATE INDEX members_user ON members (user_id);
INSERT INTO members (group_name, user_id)
    SELECT DISTINCT g.value, u.id FROM users u, json_each(u.groups) g WHERE g.value IS NOT NULL;

-- Which groups a request wants votes of, with what of the request they are sieved
-- and ordered by.
CREATE TABLE asked (
    request_id TEXT   NOT NULL REFERENCES requests (id),
    group_name TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (request_id, group_name)
);
INSERT INTO asked (request_id, group_name, state, created_at, expires_at)
    SELECT DISTINCT r.id, g.value, r.state, r.created_at, r.expires_at
    FROM requests r, json_each(r.needs) n, json_each(n.value, '$.Groups') g WHERE g.value IS NOT NULL;
CREATE INDEX asked_state ON asked (group_name, state, created_at, request_id);
CREATE INDEX asked_expiry ON asked (group_name, expires_at, request_id) WHERE state = 'pending';

DROP INDEX requests_state;
-- Of those that wait, which are found by when they expire, it must not be taken.
CREATE INDEX requests_state ON requests (state, created_at, id) WHERE state <> 'pending';
CREATE INDEX requests_expiry ON requests (expires_at, id) WHERE state = 'pending';
CREATE INDEX requests_own ON requests (requester_id, created_at, id);
CREATE INDEX requests_own_expiry ON requests (requester_id, expires_at, id) WHERE state = 'pending';
CREATE INDEX grants_open ON grants (end_at) WHERE ended_at = 0;
CREATE INDEX sessions_live ON sessions (opened_at, id) WHERE state <> 'closed';
CREATE INDEX sessions_of_user ON sessions (user_id, opened_at, id);
CREATE INDEX sessions_at_target ON sessions (target_id, opened_at, id);
CREATE INDEX sessions_request ON sessions (request_id);
