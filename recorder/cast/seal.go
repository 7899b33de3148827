package cast

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Seal is the signed statement at the end of a recording.
type Seal struct {
	ID       string
	Started  time.Time // UTC, whole microseconds
	Duration time.Duration
	Events   int64    // event lines
	Size     int64    // bytes of the file before the seal
	SHA256   [32]byte // of those bytes
	Aborted  bool     // the recorder died before the session's end
	Reason   string   // why the session ended
	Journal  [32]byte // head of the hash chain of the journal it was made from
}

const sealFirst = "drawbolt recording seal v1"

// text is the signed text. Each field is a line; none can hold a newline.
func (s *Seal) text() string {
	return fmt.Sprintf("%s\nid %s\nstarted %s\nduration %d\nevents %d\nsize %d\nsha256 %x\naborted %t\nreason %s\njournal %x\n",
		sealFirst, s.ID, s.Started.Format(timeLayout), s.Duration.Microseconds(), s.Events, s.Size, s.SHA256,
		s.Aborted, strconv.QuoteToASCII(s.Reason), s.Journal)
}

// parseSeal reads the signed text. It takes only what text writes.
func parseSeal(text string) (Seal, error) {
	bad := errors.New("the seal is not one that this program can read")
	lines := strings.Split(text, "\n")
	names := []string{"id ", "started ", "duration ", "events ", "size ", "sha256 ", "aborted ", "reason ", "journal "}
	if len(lines) != len(names)+2 || lines[0] != sealFirst {
		return Seal{}, bad
	}
	v := make([]string, len(names))
	for i, name := range names {
		var ok bool
		if v[i], ok = strings.CutPrefix(lines[i+1], name); !ok {
			return Seal{}, bad
		}
	}
	// What does not parse leaves a zero, and the comparison at the end refuses it.
	s := Seal{ID: v[0], Aborted: v[6] == "true"}
	s.Started, _ = time.Parse(timeLayout, v[1])
	us, _ := strconv.ParseInt(v[2], 10, 64)
	s.Duration = time.Duration(us) * time.Microsecond
	s.Events, _ = strconv.ParseInt(v[3], 10, 64)
	s.Size, _ = strconv.ParseInt(v[4], 10, 64)
	s.Reason, _ = strconv.Unquote(v[7])
	for _, sum := range []struct {
		to  *[sha256.Size]byte
		hex string
	}{{&s.SHA256, v[5]}, {&s.Journal, v[8]}} {
		if b, err := hex.DecodeString(sum.hex); err == nil && len(b) == len(sum.to) {
			copy(sum.to[:], b)
		}
	}
	if s.text() != text {
		return Seal{}, bad
	}
	return s, nil
}

// A Report is what Verify found in a whole recording.
type Report struct {
	Header Header
	Seal   Seal
	Chunks int
	Key    string // name of the key that signed
}

// Verify reads a recording to its end and checks the hash chain, the seal and
// its signature. It needs only public keys and holds one line at a time. The
// error is a *DamageError for the first bad place, or a failure to read.
//
// A recording that verifies is the one that was sealed under Report.Seal.ID; the
// caller compares that with the session it asked for.
func Verify(r io.Reader, known note.Verifiers) (Report, error) {
	c, err := NewReader(r)
	if err != nil {
		return Report{}, err
	}
	for {
		if _, err := c.Next(); err == io.EOF {
			return c.verify(known)
		} else if err != nil {
			return Report{Header: c.header}, err
		}
	}
}

func (c *Reader) verify(known note.Verifiers) (Report, error) {
	report := Report{Header: c.header, Chunks: c.chunks}
	n, err := note.Open(c.seal, known)
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		return report, c.damage(ErrWrongKey, "none of the known keys made the seal")
	}
	if err != nil {
		return report, c.damage(ErrAltered, fmt.Sprintf("the seal's signature: %v", err))
	}
	// One signature, spelled in the one way: else bytes could change unseen.
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return report, c.damage(ErrAltered, "the seal must bear one signature")
	}
	sig := n.Sigs[0]
	if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil ||
		string(c.seal) != fmt.Sprintf("%s\n\u2014 %s %s\n", n.Text, sig.Name, sig.Base64) {
		return report, c.damage(ErrAltered, "the seal's signature is spelled in another way")
	}
	s, err := parseSeal(n.Text)
	if err != nil {
		return report, c.damage(ErrAltered, err.Error())
	}
	if s.ID != c.header.ID || !s.Started.Equal(c.header.Started) || s.Size != c.size || s.SHA256 != c.sum ||
		s.Events != c.events || s.Duration < c.at {
		return report, c.damage(ErrAltered, "the seal was made for other bytes")
	}
	report.Seal, report.Key = s, sig.Name
	return report, nil
}
