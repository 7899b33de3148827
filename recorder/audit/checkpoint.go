package audit

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxCheckpoint bounds a signed checkpoint in bytes; a real one has some 300.
const maxCheckpoint = 4096

// maxOrigin bounds an origin in bytes.
const maxOrigin = 128

// A Checkpoint says: at Time the log Origin had Size events, and Root is the
// root of their tree. Only one that OpenCheckpoint returned is known to be signed.
type Checkpoint struct {
	Origin string    // names the log, and is the name of its key
	Size   int64     // events covered
	Root   Hash      //
	Time   time.Time // when it was signed; UTC, microseconds
}

// NewKey makes an Ed25519 key pair for the log called origin, in the encoding of
// golang.org/x/mod/sumdb/note. The first is secret; the second is what an auditor
// is given.
func NewKey(origin string) (signerKey, verifierKey string, err error) {
	if err := checkOrigin(origin); err != nil {
		return "", "", fmt.Errorf("new audit key: %w", err)
	}
	signerKey, verifierKey, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", "", fmt.Errorf("new audit key: %w", err)
	}
	return signerKey, verifierKey, nil
}

// checkOrigin holds origins to the characters of a host name with a path, so
// that they need no escaping anywhere.
func checkOrigin(s string) error {
	if s == "" || len(s) > maxOrigin {
		return fmt.Errorf("origin is %d bytes, wanted 1 to %d", len(s), maxOrigin)
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-/:", c) >= 0) {
			return fmt.Errorf("origin %q holds other characters than letters, digits and one of ._-/: in it", s)
		}
	}
	return nil
}

// Sign returns c as a signed note (C2SP tlog-checkpoint, signed-note): origin,
// size, root, one extension line with the time, a blank line, the signature. The
// signer's name must be the origin.
func (c Checkpoint) Sign(s note.Signer) ([]byte, error) {
	if s.Name() != c.Origin {
		return nil, fmt.Errorf("sign checkpoint: the key is called %q, the log %q", s.Name(), c.Origin)
	}
	text := c.text()
	if _, err := parseCheckpoint(text); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return msg, nil
}

func (c Checkpoint) text() string {
	return c.Origin + "\n" +
		strconv.FormatInt(c.Size, 10) + "\n" +
		c.Root.String() + "\n" +
		"time " + c.Time.UTC().Format(timeLayout) + "\n"
}

// OpenCheckpoint checks the signature of a checkpoint and reads it. The origin
// must be v's name, and there must be this one signature and no other, so that
// no byte of msg goes unchecked.
func OpenCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	c, err := openCheckpoint(msg, v)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	return c, nil
}

func openCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	if len(msg) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%d bytes, at most %d", len(msg), maxCheckpoint)
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, err
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, errors.New("more than one signature")
	}
	// note.Open takes sloppy base64 and drops a repeated signature.
	sig := n.Sigs[0]
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || string(msg) != n.Text+"\n— "+sig.Name+" "+base64.StdEncoding.EncodeToString(raw)+"\n" {
		return Checkpoint{}, errors.New("the signature line is not canonical")
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("the log is called %q, the key %q", c.Origin, v.Name())
	}
	return c, nil
}

// parseCheckpoint reads the text above the signature. It takes exactly what
// text writes.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[4] != "" {
		return Checkpoint{}, errors.New("not a checkpoint of four lines")
	}
	if err := checkOrigin(lines[0]); err != nil {
		return Checkpoint{}, err
	}
	size, err := parseSize(lines[1])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("size: %w", err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("root: %w", err)
	}
	word, ok := strings.CutPrefix(lines[3], "time ")
	if !ok {
		return Checkpoint{}, errors.New("the time is missing")
	}
	t, err := parseTime(word)
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root, Time: t}
	if c.text() != text {
		return Checkpoint{}, errors.New("the checkpoint is not canonical")
	}
	return c, nil
}
