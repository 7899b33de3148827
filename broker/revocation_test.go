package broker_test

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// lists reports whether the revocation list names the serial. That the list is
// one for OpenSSH is shown where it is made.
func (h *house) lists(serial uint64) bool {
	h.t.Helper()
	krl, err := h.KRL(h.t.Context())
	ok(h.t, err)
	return bytes.Contains(krl, binary.BigEndian.AppendUint64(nil, serial))
}

// Whatever takes a session away takes its certificates away.
func TestRevocationList(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error{
		"revoked": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			_, err := h.Revoke(t.Context(), h.as("bob"), c.Request.ID, "INC-7")
			return err
		},
		"released": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			_, err := h.Release(t.Context(), h.as("alice"), c.Grant.ID)
			return err
		},
		"user locked": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			return h.LockUser(t.Context(), h.as("root"), "alice", true, "INC-7")
		},
		"target locked": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			return h.LockTarget(t.Context(), h.as("root"), "db01", true, "INC-7")
		},
		"target removed": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			return h.RemoveTarget(t.Context(), h.as("root"), "db01")
		},
		"terminated": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			return h.Terminate(t.Context(), h.as("root"), l.Session.ID, "INC-7")
		},
		"by serial": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			n, err := h.RevokeCertificate(t.Context(), h.as("root"), strconv.FormatUint(cert.Serial, 10), "INC-7")
			if n != 1 {
				t.Errorf("revoked %d certificates", n)
			}
			return err
		},
		"by session": func(t *testing.T, h *house, c broker.Case, l *broker.Live, cert *ssh.Certificate) error {
			_, err := h.RevokeCertificate(t.Context(), h.as("root"), l.Session.ID, "INC-7")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				c := h.granted()
				l := h.session("alice", c)
				cert, err := h.Credential(t.Context(), l, newKey(t))
				ok(t, err)
				_, err = h.AddTarget(t.Context(), h.as("root"), access.Target{Name: "db09", Address: "192.0.2.9:22"})
				ok(t, err)
				other := h.certificate("mallory")
				before, err := h.KRL(t.Context())
				ok(t, err)
				if h.lists(cert.Serial) {
					t.Fatal("listed before")
				}
				ok(t, do(t, h, c, l, cert))
				after, err := h.KRL(t.Context())
				ok(t, err)
				if !h.lists(cert.Serial) || h.lists(other.Serial) || bytes.Equal(before, after) {
					t.Error("not listed, or too much is")
				}
				events := h.events()
				told := false
				for _, e := range events[len(events)-2:] {
					told = told || e.Details["certificates_revoked"] == "1"
				}
				if !told {
					t.Errorf("told %+v", events[len(events)-2:])
				}
				again, err := h.another("node2").KRL(t.Context())
				ok(t, err)
				if !bytes.Equal(after, again) {
					t.Error("two servers give different lists")
				}
				h.clock.advance(2 * time.Hour)
				if h.lists(cert.Serial) {
					t.Error("a certificate that has expired long ago is still listed")
				}
			})
		})
	}
}

func TestRevokeCertificateRefuses(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	l := h.session("alice", h.granted())
	cert, err := h.Credential(ctx, l, newKey(t))
	ok(t, err)
	serial := strconv.FormatUint(cert.Serial, 10)
	for _, what := range []string{"", "0", "-1", "x", "0x10", "18446744073709551615", "9223372036854775808", "SES-1", "' OR 1=1 --", serial + "x"} {
		_, err := h.RevokeCertificate(ctx, h.as("root"), what, "INC-7")
		want(t, err, access.ErrInvalid)
	}
	_, err = h.RevokeCertificate(ctx, h.as("root"), serial, "")
	want(t, err, access.ErrInvalid)
	_, err = h.RevokeCertificate(ctx, h.as("alice"), serial, "INC-7")
	want(t, err, access.ErrDenied)
	_, err = h.RevokeCertificate(ctx, h.as("root"), "1", "INC-7")
	want(t, err, access.ErrNotFound)
	if h.lists(cert.Serial) {
		t.Error("something was revoked")
	}
	// An identity certificate ends at once, and is not for targets to know.
	id := h.certificate("alice")
	_, err = h.Recognize(ctx, h.as("alice").Source, id)
	ok(t, err)
	_, err = h.RevokeCertificate(ctx, h.as("root"), strconv.FormatUint(id.Serial, 10), "INC-7 stolen laptop")
	ok(t, err)
	_, err = h.Recognize(ctx, h.as("alice").Source, id)
	want(t, err, access.ErrUnauthenticated)
	if h.lists(id.Serial) {
		t.Error("an identity certificate is on the list for targets")
	}
}

// certificate is an identity certificate of somebody.
func (h *house) certificate(name string) *ssh.Certificate {
	h.t.Helper()
	c, err := h.Certify(h.t.Context(), h.as(name), newKey(h.t))
	ok(h.t, err)
	return c
}
