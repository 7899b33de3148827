-- +goose Up

-- What the bots of one person have asked for, in the orders of lists.
CREATE INDEX requests_owner ON requests (owner_id, created_at, id) WHERE owner_id <> '';
CREATE INDEX requests_owner_expiry ON requests (owner_id, expires_at, id) WHERE owner_id <> '' AND state = 'pending';
CREATE INDEX users_owner ON users (owner_id) WHERE owner_id <> '';
