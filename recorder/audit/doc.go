// Package audit is the audit log as evidence: what an event is, how events
// become leaves of a Merkle tree, how the head of that tree is signed, and how
// somebody who has nothing but a public key checks an export of the whole.
//
// The tree is the one of RFC 6962, computed by golang.org/x/mod/sumdb/tlog; the
// signed head is a note in the shape of C2SP tlog-checkpoint. Leaves and hashes
// are kept by the caller, in the same transaction as the change they tell of;
// this package runs no SQL, opens no file and holds no state between calls.
//
// It trusts the signing key and nothing else. Whoever can change the database,
// an export or both, but has not the key, can at most cut the log back to an
// older signed checkpoint, and Verify finds that too when it is given a newer
// checkpoint kept elsewhere. Whoever has the key can sign a second history; it
// shows as a fork against any checkpoint kept elsewhere that covers it.
//
// It does not decide what is audited, does not redact, and does not judge
// whether what an event says is true. The format is told in docs/formats/audit.md.
package audit
