package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// LoginInput is a login by password, with a one-time code where one is set up.
type LoginInput struct {
	User     string `json:"user"`
	Password string `json:"password"`
	OTP      string `json:"otp,omitempty"`
}

// A Login is what proves the caller in later requests.
type Login struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	User      string    `json:"user"` // name
}

// Login exchanges a password for a token. It needs none, and does not set c.Token.
func (c *Client) Login(ctx context.Context, in LoginInput) (Login, error) {
	return call[Login](ctx, c, http.MethodPost, "/v1/login", nil, in)
}

// A DeviceLogin is a login that a person finishes in a browser: open URL, see
// that Code is the one on the page, confirm. Device is secret.
type DeviceLogin struct {
	Code            string    `json:"code"`
	URL             string    `json:"url"`
	Device          string    `json:"device"`
	IntervalSeconds int64     `json:"interval_seconds"` // between two polls, at least
	ExpiresAt       time.Time `json:"expires_at"`
}

// DeviceInput names a DeviceLogin that was begun.
type DeviceInput struct {
	Device string `json:"device"`
}

// BeginDeviceLogin starts a login in the browser.
func (c *Client) BeginDeviceLogin(ctx context.Context) (DeviceLogin, error) {
	return call[DeviceLogin](ctx, c, http.MethodPost, "/v1/login/device", nil, Empty{})
}

// FinishDeviceLogin asks once whether the person has confirmed; not yet is false
// and no error (the server answers 202 with an empty object).
func (c *Client) FinishDeviceLogin(ctx context.Context, device string) (Login, bool, error) {
	l, err := call[Login](ctx, c, http.MethodPost, "/v1/login/device/token", nil, DeviceInput{device})
	return l, err == nil && l.Token != "", err
}

// Logout ends the login that the token belongs to.
func (c *Client) Logout(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/logout", nil, Empty{}, nil)
}

// Me is who the caller is.
type Me struct {
	ID      string   `json:"id"`
	User    string   `json:"user"`
	Display string   `json:"display,omitempty"`
	Groups  []string `json:"groups"`
	Roles   []string `json:"roles"`
	// RolesNotHeld are roles that the caller is given and does not hold all the same.
	RolesNotHeld   []RoleNotHeld `json:"roles_not_held,omitempty"`
	LoginExpiresAt time.Time     `json:"login_expires_at"`
	MFAAgeSeconds  *int64        `json:"mfa_age_seconds"` // null: no second factor in this login
	TOTP           bool          `json:"totp"`            // a one-time code is set up
	SecondFactors  []string      `json:"second_factors"`  // of "passkey" and "totp"
}

// A RoleNotHeld is a role that somebody is given and does not hold.
type RoleNotHeld struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Me tells who the token belongs to.
func (c *Client) Me(ctx context.Context) (Me, error) {
	return call[Me](ctx, c, http.MethodGet, "/v1/me", nil, nil)
}

// CertificateInput asks for a certificate of an SSH public key, which is in the
// form of authorized_keys.
type CertificateInput struct {
	PublicKey string `json:"public_key"`
}

// A Certificate tells the bastion who the owner of the key is. It opens no target.
type Certificate struct {
	Certificate   string `json:"certificate"`    // authorized_keys form
	HostAuthority string `json:"host_authority"` // signs the host keys of the bastion and of what is behind it
	// HostAuthorities are all that are to be trusted, HostAuthority first.
	HostAuthorities []string  `json:"host_authorities"`
	SSHHost         string    `json:"ssh_host"`
	SSHPort         int       `json:"ssh_port"`
	ExpiresAt       time.Time `json:"expires_at"`
}

// Certify asks for a certificate for the caller's public key.
func (c *Client) Certify(ctx context.Context, publicKey string) (Certificate, error) {
	return call[Certificate](ctx, c, http.MethodPost, "/v1/me/certificate", nil, CertificateInput{publicKey})
}

// KeyInput registers an SSH public key, in the form of authorized_keys.
type KeyInput struct {
	Key     string `json:"key"`
	Comment string `json:"comment,omitempty"`
}

// A Key is a registered SSH public key.
type Key struct {
	Fingerprint string    `json:"fingerprint"` // SHA256:... as OpenSSH writes it
	Key         string    `json:"key"`
	Comment     string    `json:"comment,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
}

// MyKeys lists the caller's registered keys.
func (c *Client) MyKeys(ctx context.Context) (List[Key], error) {
	return call[List[Key]](ctx, c, http.MethodGet, "/v1/me/keys", nil, nil)
}

// AddMyKey registers a key of the caller.
func (c *Client) AddMyKey(ctx context.Context, in KeyInput) (Key, error) {
	return call[Key](ctx, c, http.MethodPost, "/v1/me/keys", nil, in)
}

// RemoveMyKey forgets a key of the caller.
func (c *Client) RemoveMyKey(ctx context.Context, fingerprint string) error {
	return c.do(ctx, http.MethodDelete, "/v1/me/keys/"+url.PathEscape(fingerprint), nil, nil, nil)
}

// PasswordInput changes the caller's password.
type PasswordInput struct {
	Current string `json:"current"`
	New     string `json:"new"`
	OTP     string `json:"otp,omitempty"` // where there is an authenticator
}

// SetPassword changes the caller's password.
func (c *Client) SetPassword(ctx context.Context, in PasswordInput) error {
	return c.do(ctx, http.MethodPost, "/v1/me/password", nil, in, nil)
}

// A TOTP is the secret of a one-time code generator, shown once.
type TOTP struct {
	Secret string `json:"secret"` // base32
	URL    string `json:"url"`    // otpauth://
}

// OTPInput is one code of the generator.
type OTPInput struct {
	OTP string `json:"otp"`
}

// TOTPInput proves who asks once more, so that a stolen login cannot add a
// second factor of the thief's.
type TOTPInput struct {
	Password string `json:"password"`
	OTP      string `json:"otp,omitempty"` // of the authenticator that there is
}

// BeginTOTP makes a secret for one-time codes; it counts when it is confirmed.
func (c *Client) BeginTOTP(ctx context.Context, in TOTPInput) (TOTP, error) {
	return call[TOTP](ctx, c, http.MethodPost, "/v1/me/totp", nil, in)
}

// ConfirmTOTP turns one-time codes on by giving the first one.
func (c *Client) ConfirmTOTP(ctx context.Context, otp string) error {
	return c.do(ctx, http.MethodPost, "/v1/me/totp/confirm", nil, OTPInput{otp}, nil)
}

// SetupInput is a new user's first password, under the token of the one-time link.
type SetupInput struct {
	Token    string `json:"token"`
	Password string `json:"password"`
}

// Setup gives a new user a password. It needs no login.
func (c *Client) Setup(ctx context.Context, in SetupInput) error {
	return c.do(ctx, http.MethodPost, "/v1/setup", nil, in, nil)
}
