package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The browser flow of the command line client, after RFC 8628: the client
// starts a device and shows its code, the person opens the page, is logged in
// there, compares the code and confirms, and the client claims its login with
// a secret that never was on a screen.
const (
	DeviceTTL = 10 * time.Minute
	// MaxDevicesPerSource is how many devices may wait from one address (for
	// IPv6 one /64); an office behind one address has a few at a time.
	MaxDevicesPerSource = 20
	MaxDevices          = 10_000
	// maxClient bounds what a client may say about itself, in bytes.
	maxClient = 64
)

// codeAlphabet has no vowels, so that no code is a word, and none of 0 O 1 I L.
// 27 letters to the power of 8 are 38 bits: with 10,000 codes outstanding one
// guess, which needs a login, hits with a chance of 1 in 28 million.
const codeAlphabet = "BCDFGHJKMNPQRSTVWXYZ2345679"

// ErrPending says that the person has not confirmed the device yet: ask again
// in some seconds.
var ErrPending = &access.Error{Kind: access.ErrConflict, Code: "DB-4010", Text: "the login has not been confirmed yet"}

func noDevice() error {
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-4011", Text: "no login waits for this code: it has expired, was used or was mistyped", Next: "drawbolt login"}
}

// StartDevice registers a client that wants to log in and returns the device,
// whose Code is to be shown, and the secret that claims it. client is what the
// client says it is (its host name); anybody may call it.
func (l *Logins) StartDevice(ctx context.Context, source netip.Addr, client string) (Device, string, error) {
	if err := access.CheckText("the client's name", client, maxClient); err != nil {
		return Device{}, "", err
	}
	raw := make([]byte, 32)
	rand.Read(raw)
	secret := base64.RawURLEncoding.EncodeToString(raw)
	now := l.now()
	d := Device{
		SecretHash: hashSecret(secret),
		Client:     client,
		Source:     source.String(),
		Origin:     Origin(source),
		CreatedAt:  now,
		ExpiresAt:  now.Add(DeviceTTL),
	}
	for range 4 { // a code that is taken is as rare as a right guess
		d.Code = newCode()
		err := l.c.Store.CreateDevice(ctx, d, MaxDevicesPerSource, MaxDevices)
		switch {
		case err == nil:
			return d, secret, nil
		case errors.Is(err, access.ErrConflict):
			continue
		case errors.Is(err, access.ErrUnavailable):
			return Device{}, "", fmt.Errorf("%w (%w)", &access.Error{
				Kind: access.ErrUnavailable, Code: "DB-4012",
				Text: "too many logins wait to be confirmed: try again in a few minutes",
			}, err)
		}
		return Device{}, "", fmt.Errorf("save device: %w", err)
	}
	return Device{}, "", fmt.Errorf("save device: %w", access.ErrUnavailable)
}

// Device returns the device that waits under a code as a person types it, so
// that the page can show who asks and from where before it is confirmed.
func (l *Logins) Device(ctx context.Context, code string) (Device, error) {
	return found(l.c.Store.DeviceByCode(ctx, normalCode(code), l.now()))
}

// ConfirmDevice lets the device log in as the caller, with the second factor
// that the caller's login has. Each code is confirmed once.
func (l *Logins) ConfirmDevice(ctx context.Context, by access.Caller, code string) error {
	if by.User.Emergency { // that login would outlive this one
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6256", Rule: "emergency.codes", Text: "an emergency user logs in with sealed codes and with nothing else", Next: "drawbolt login --break-glass"}
	}
	_, err := found(Device{}, l.c.Store.ConfirmDevice(ctx, by, normalCode(code), l.now()))
	return err
}

// DenyDevice throws away a device that the caller did not start.
func (l *Logins) DenyDevice(ctx context.Context, by access.Caller, code string) error {
	_, err := found(Device{}, l.c.Store.DenyDevice(ctx, by, normalCode(code), l.now()))
	return err
}

// ClaimDevice exchanges the secret of a confirmed device for a login, once.
// Before the confirmation it returns ErrPending; after the login was claimed,
// denied or has expired, ErrNotFound.
func (l *Logins) ClaimDevice(ctx context.Context, secret string, source netip.Addr) (token string, login Login, err error) {
	d, err := found(l.c.Store.ClaimDevice(ctx, hashSecret(secret), l.now()))
	if err != nil {
		return "", Login{}, err
	}
	if d.UserID == "" {
		return "", Login{}, ErrPending
	}
	// The device is gone now. A crash from here on costs the person one more
	// login; it never gives two.
	return l.Issue(ctx, access.User{ID: d.UserID}, source, "cli", d.MFAAt)
}

func found(d Device, err error) (Device, error) {
	if errors.Is(err, access.ErrNotFound) {
		return Device{}, noDevice()
	}
	return d, err
}

// Origin is the key under which an address is counted: an IPv4 address itself
// (also when it comes mapped into IPv6), an IPv6 address by its /64, because a
// single host has all of that.
func Origin(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // cannot fail: 64 is in range for IPv6
		return p.String()
	}
	return a.String()
}

// newCode returns a random code of the form KQTW-7JPD.
func newCode() string {
	const limit = 256 - 256%len(codeAlphabet) // reject above: no letter is likelier
	code := make([]byte, 0, 9)
	for b := make([]byte, 1); len(code) < 9; {
		if len(code) == 4 {
			code = append(code, '-')
		}
		if rand.Read(b); int(b[0]) < limit {
			code = append(code, codeAlphabet[int(b[0])%len(codeAlphabet)])
		}
	}
	return string(code)
}

// normalCode brings a code as it was typed into its form; what cannot be a
// code becomes empty, which no device has.
func normalCode(s string) string {
	if len(s) > 32 {
		return ""
	}
	s = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(s))
	if len(s) != 8 || strings.Trim(s, codeAlphabet) != "" {
		return ""
	}
	return s[:4] + "-" + s[4:]
}

func hashSecret(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}
