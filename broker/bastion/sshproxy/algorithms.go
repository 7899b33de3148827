package sshproxy

import (
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The algorithms, in order of preference. Nothing with SHA-1, no group of the
// NIST curves for the key exchange, and the post-quantum hybrid first.
var (
	keyExchanges = []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519}
	// gcmCiphers are the ones that amd64 and arm64 have instructions for.
	gcmCiphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	allCiphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.CipherAES256CTR}
	// macs serve the CTR ciphers only; the others carry their own.
	macs = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512}
	// userKeys are the signatures that people may prove themselves with.
	userKeys = []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
	// hostKeyAlgorithms says which signatures go with a pinned key's type.
	hostKeyAlgorithms = map[string][]string{
		ssh.KeyAlgoED25519:  {ssh.KeyAlgoED25519},
		ssh.KeyAlgoECDSA256: {ssh.KeyAlgoECDSA256},
		ssh.KeyAlgoECDSA384: {ssh.KeyAlgoECDSA384},
		ssh.KeyAlgoECDSA521: {ssh.KeyAlgoECDSA521},
		ssh.KeyAlgoRSA:      {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
	}
	// hostCertAlgorithms are asked for when a target is known by our host CA.
	hostCertAlgorithms = []string{
		ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	}
)

// algorithms gives what is offered to a client of this version. The order of
// ciphers is the client's to choose (RFC 4253, section 7.1), and stock OpenSSH
// puts ChaCha20 first, which has no assembly in x/crypto on amd64: so clients
// that are known to have AES-GCM are offered nothing else.
func algorithms(clientVersion string) ssh.Config {
	c := ssh.Config{KeyExchanges: keyExchanges, Ciphers: allCiphers, MACs: macs}
	if knowsGCM(clientVersion) {
		c.Ciphers = gcmCiphers
	}
	return c
}

// targetAlgorithms are those of the leg to a target.
func targetAlgorithms() ssh.Config {
	return ssh.Config{KeyExchanges: keyExchanges, Ciphers: allCiphers, MACs: macs}
}

var openSSHVersion = regexp.MustCompile(`^SSH-2\.0-OpenSSH_(?:for_Windows_)?([0-9]{1,3})\.([0-9]{1,3})`)

// knowsGCM reports whether a client with this version line has AES-GCM:
// OpenSSH since 6.2, and x/crypto/ssh.
func knowsGCM(version string) bool {
	if m := openSSHVersion.FindStringSubmatch(version); m != nil {
		major, _ := strconv.Atoi(m[1])
		minor, _ := strconv.Atoi(m[2])
		return major > 6 || major == 6 && minor >= 2
	}
	return version == "SSH-2.0-Go" || strings.HasPrefix(version, "SSH-2.0-Go ")
}
