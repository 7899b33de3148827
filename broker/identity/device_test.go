package identity_test

import (
	"bytes"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
)

func TestDeviceFlow(t *testing.T) {
	h := newHouse(t)
	laptop := netip.MustParseAddr("2001:db8:1:2:3::4")
	d, secret, err := h.StartDevice(t.Context(), laptop, "alice's laptop")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[BCDFGHJKMNPQRSTVWXYZ2-79]{4}-[BCDFGHJKMNPQRSTVWXYZ2-79]{4}$`).MatchString(d.Code) {
		t.Errorf("code %q", d.Code)
	}
	if bytes.Contains(d.SecretHash, []byte(secret)) || len(secret) < 43 {
		t.Errorf("the secret %q is short or kept in clear", secret)
	}
	if _, _, err := h.ClaimDevice(t.Context(), secret, laptop); !errors.Is(err, identity.ErrPending) {
		t.Errorf("claim before the confirmation: %v, want pending", err)
	}
	// As people type it.
	for _, typed := range []string{d.Code, strings.ToLower(d.Code), strings.ReplaceAll(d.Code, "-", ""), " " + d.Code + " "} {
		got, err := h.Device(t.Context(), typed)
		if err != nil || got.Client != "alice's laptop" || got.Source != laptop.String() {
			t.Errorf("Device(%q) = %+v, %v", typed, got, err)
		}
	}
	token, _ := h.issue(t, start.Add(-time.Minute))
	by := h.caller(t, token)
	if err := h.ConfirmDevice(t.Context(), by, strings.ToLower(d.Code)); err != nil {
		t.Fatal(err)
	}
	if err := h.ConfirmDevice(t.Context(), by, d.Code); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("confirmed twice: %v", err)
	}
	if _, _, err := h.ClaimDevice(t.Context(), d.Code, laptop); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("claimed with the code that was on the screen: %v", err)
	}

	var won atomic.Int32
	tokens := make([]string, 50)
	for i, err := range identitytest.Parallel(50, func(i int) error {
		var err error
		tokens[i], _, err = h.ClaimDevice(t.Context(), secret, laptop)
		return err
	}) {
		switch {
		case err == nil:
			won.Add(1)
			c := h.caller(t, tokens[i])
			if c.User.ID != h.alice.ID || !c.MFAAt.Equal(start.Add(-time.Minute)) {
				t.Errorf("the claimed login is of %+v", c)
			}
		case !errors.Is(err, access.ErrNotFound):
			t.Errorf("claim: %v", err)
		}
	}
	if won.Load() != 1 {
		t.Errorf("%d of 50 parallel claims succeeded, want 1", won.Load())
	}
}

func TestDeviceEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *house, by access.Caller, d identity.Device) error{
		"denied": func(t *testing.T, h *house, by access.Caller, d identity.Device) error {
			return h.DenyDevice(t.Context(), by, d.Code)
		},
		"expired": func(t *testing.T, h *house, by access.Caller, d identity.Device) error {
			h.now = d.ExpiresAt
			return nil
		},
		"expired after the confirmation": func(t *testing.T, h *house, by access.Caller, d identity.Device) error {
			err := h.ConfirmDevice(t.Context(), by, d.Code)
			h.now = d.ExpiresAt
			return err
		},
		"all logins revoked after the confirmation": func(t *testing.T, h *house, by access.Caller, d identity.Device) error {
			err := h.ConfirmDevice(t.Context(), by, d.Code)
			_, err2 := h.RevokeAll(t.Context(), by, by.User.ID)
			return errors.Join(err, err2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			token, _ := h.issue(t, time.Time{})
			by := h.caller(t, token)
			d, secret, err := h.StartDevice(t.Context(), source, "laptop")
			if err != nil {
				t.Fatal(err)
			}
			if err := end(t, h, by, d); err != nil {
				t.Fatal(err)
			}
			if _, _, err := h.ClaimDevice(t.Context(), secret, source); !errors.Is(err, access.ErrNotFound) {
				t.Errorf("claim: %v, want not found", err)
			}
		})
	}
}

// A device that is confirmed does not outlive a lock of its person.
func TestDeviceOfLockedUser(t *testing.T) {
	h := newHouse(t)
	token, _ := h.issue(t, time.Time{})
	d, secret, err := h.StartDevice(t.Context(), source, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.ConfirmDevice(t.Context(), h.caller(t, token), d.Code); err != nil {
		t.Fatal(err)
	}
	u := h.alice
	u.Locked = true
	h.store.PutUser(u)
	if _, _, err := h.ClaimDevice(t.Context(), secret, source); err == nil {
		t.Error("a locked user claimed a login")
	}
}

func TestDeviceBounds(t *testing.T) {
	h := newHouse(t)
	for i := range identity.MaxDevicesPerSource + 1 {
		// One IPv6 host has a whole /64.
		from := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)})
		_, _, err := h.StartDevice(t.Context(), from, "laptop")
		if want := i < identity.MaxDevicesPerSource; (err == nil) != want {
			t.Errorf("device %d: %v", i+1, err)
		}
		if err != nil && !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("device %d: %v, want unavailable", i+1, err)
		}
	}
	if _, _, err := h.StartDevice(t.Context(), source, "laptop"); err != nil {
		t.Errorf("another source: %v", err)
	}
	for _, client := range []string{strings.Repeat("x", 65), "lap\x1b[2Jtop", "lap\u202etop", "\xff"} {
		if _, _, err := h.StartDevice(t.Context(), source, client); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("client %q: %v, want invalid", client, err)
		}
	}
	for _, code := range []string{"", "KQTW", "KQTW-7JP0", "KQTW-7JPDD", strings.Repeat("-", 1<<20), "ÄÖÜßÄÖÜß", "%%%%-%%%%"} {
		if _, err := h.Device(t.Context(), code); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("code %.20q: %v, want not found", code, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":  "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
		"fe80::1":              "fe80::/64",
		"2001:db8:1:3::1":      "2001:db8:1:3::/64",
	} {
		if got := identity.Origin(netip.MustParseAddr(in)); got != want {
			t.Errorf("Origin(%s) = %s, want %s", in, got, want)
		}
	}
	if got := identity.Origin(netip.Addr{}); got != "invalid IP" {
		t.Errorf("Origin of no address = %q", got)
	}
}
