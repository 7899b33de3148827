package sshproxy

import (
	"errors"
	"io"

	gossh "golang.org/x/crypto/ssh"
)

// A meteredKey is a host key that one connection shows. Each key exchange needs
// one signature of it (RFC 4253, section 8), so it is where a client that
// exchanges keys without end is noticed: x/crypto/ssh has no limit of its own.
type meteredKey struct {
	gossh.AlgorithmSigner
	link *link
}

var errTooManyKeys = errors.New("too many key exchanges in one connection")

// metered gives a host key for this connection alone.
func (l *link) metered(key gossh.Signer) gossh.Signer {
	if k, ok := key.(gossh.AlgorithmSigner); ok {
		return meteredKey{k, l}
	}
	return key // Ed25519 keys and their certificates are all AlgorithmSigners
}

// Sign signs for one more key exchange, or ends the connection.
func (k meteredKey) Sign(rand io.Reader, data []byte) (*gossh.Signature, error) {
	return k.SignWithAlgorithm(rand, data, "")
}

// SignWithAlgorithm is Sign; an empty algorithm is the key's own.
func (k meteredKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*gossh.Signature, error) {
	if !k.link.rekeys.AllowN(k.link.now(), 1) {
		k.link.conn.shut(errTooManyKeys)
		return nil, errTooManyKeys
	}
	return k.AlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}
