package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Labels describe a target to the policy.
type Labels struct {
	Environment string `json:"environment,omitempty"`
	Tier        string `json:"tier,omitempty"` // 0, 1 or 2
	Criticality string `json:"criticality,omitempty"`
	Owner       string `json:"owner,omitempty"`
}

// TargetInput is a target as an administrator writes it.
type TargetInput struct {
	Name         string         `json:"name"`
	Kind         string         `json:"kind,omitempty"` // "": a Unix machine with SSH; postgres, mysql, ldap, ad, windows, plugin:NAME
	Address      string         `json:"address"`        // host:port
	Labels       Labels         `json:"labels"`
	Applications []string       `json:"applications,omitempty"`
	Accounts     []AccountInput `json:"accounts"`
	HostKeys     []string       `json:"host_keys,omitempty"` // authorized_keys form; of other kinds certificates, base64 of DER
	Via          []string       `json:"via,omitempty"`       // targets to go through, in order: the whole way
	HopAccount   string         `json:"hop_account,omitempty"`
	// Provisioner is the account in which accounts are made for a grant, and
	// PrincipalsFolder where the target's sshd reads the principals of each.
	Provisioner      string `json:"provisioner,omitempty"`
	PrincipalsFolder string `json:"principals_folder,omitempty"`
	ScanAccount      string `json:"scan_account,omitempty"` // one of Accounts, as which it is scanned
	Version          int64  `json:"version,omitempty"`      // of the target that is changed
}

// AccountInput is an account as an administrator writes it.
type AccountInput struct {
	Name       string `json:"name"`
	Credential string `json:"credential,omitempty"` // "": certificate. Of an account that is there, what it has
	// Made says how the account is made for each grant; none: it is always there.
	Made *AccountTemplate `json:"made,omitempty"`
	// KnownAs is what its system calls it, where that is not Name: the DN of its entry,
	// user@host of MySQL, a role of PostgreSQL.
	KnownAs string `json:"known_as,omitempty"`
}

// An AccountTemplate says how an account is made that exists only while a grant
// does. One of Prefix and Login is set.
type AccountTemplate struct {
	Prefix   string   `json:"prefix,omitempty"` // of the login name, before the person's name
	Login    string   `json:"login,omitempty"`  // one for everybody, one holder at a time
	Groups   []string `json:"groups,omitempty"`
	Sudo     []string `json:"sudo,omitempty"`  // lines of sudoers, without the user
	Shell    string   `json:"shell,omitempty"` // "": /bin/sh
	KeepHome bool     `json:"keep_home,omitempty"`
}

// A MadeAccount is an account that exists for a grant, until it is gone.
type MadeAccount struct {
	ID      string     `json:"id"`
	Target  string     `json:"target"`
	Account string     `json:"account"` // as it was asked for
	Login   string     `json:"login"`   // on the target
	User    string     `json:"user"`
	Request string     `json:"request"`
	State   string     `json:"state"` // planned, creating, present, removing, failed
	Over    bool       `json:"over"`  // the grant has ended: it should be gone
	Stuck   bool       `json:"stuck"` // and its removal has failed for long
	Tries   int64      `json:"tries,omitempty"`
	Since   *time.Time `json:"since,omitempty"` // of the first try that failed
	Problem string     `json:"problem,omitempty"`
	NextAt  *time.Time `json:"next_at,omitempty"`
}

// MadeAccounts lists the accounts that exist for grants: the caller's own, and
// those on targets that the caller may read.
func (c *Client) MadeAccounts(ctx context.Context) (List[MadeAccount], error) {
	return call[List[MadeAccount]](ctx, c, http.MethodGet, "/v1/accounts", nil, nil)
}

// GiveUpAccount ends the removal of an account that fails: it is gone, the
// caller says.
func (c *Client) GiveUpAccount(ctx context.Context, id, reason string) error {
	return c.do(ctx, http.MethodPost, path("accounts", id, "give-up"), nil, Reason{reason}, nil)
}

// A Target is a machine as the caller may see it. Address, HostKeys and the like
// are there for who may read targets.
type Target struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Kind         string    `json:"kind,omitempty"` // "": a machine with SSH
	Address      string    `json:"address,omitempty"`
	Labels       Labels    `json:"labels"`
	Applications []string  `json:"applications,omitempty"`
	Accounts     []Account `json:"accounts"`
	HostKeys     []string  `json:"host_keys,omitempty"`
	Via          []string  `json:"via,omitempty"`
	HopAccount   string    `json:"hop_account,omitempty"` // for the way to others
	Provisioner  string    `json:"provisioner,omitempty"` // makes accounts for grants
	// PrincipalsFolder is where its sshd reads the principals of an account.
	PrincipalsFolder string `json:"principals_folder,omitempty"`
	ScanAccount      string `json:"scan_account,omitempty"` // as which it is scanned
	// Facts are what was found out about it; RecordFacts sets them.
	Facts      map[string]Fact `json:"facts,omitempty"`
	Locked     bool            `json:"locked"`
	LockReason string          `json:"lock_reason,omitempty"`
	CreatedAt  *time.Time      `json:"created_at,omitempty"`
	Version    int64           `json:"version"`
}

// An Account is an account and what stands between it and the caller.
type Account struct {
	Name               string     `json:"name"`
	Credential         string     `json:"credential,omitempty"`
	Usable             bool       `json:"usable"`          // there is an active grant
	Until              *time.Time `json:"until,omitempty"` // its end
	MayAsk             bool       `json:"may_ask"`
	Needs              []Need     `json:"needs,omitempty"` // approvals; none: granted at once
	MaxDurationSeconds int64      `json:"max_duration_seconds,omitempty"`
	Why                string     `json:"why,omitempty"` // it may not be asked for
	// Made says how the account is made for each grant; none: it is always there.
	Made    *AccountTemplate `json:"made,omitempty"`
	KnownAs string           `json:"known_as,omitempty"` // in its system
	// Managed says how its password is changed by drawbolt; none: it is not.
	Managed *Managed `json:"managed,omitempty"`
	// KnownTo are people who were shown what the account still logs in with, for
	// administrators, where one target is asked for.
	KnownTo []Knower `json:"known_to,omitempty"`
}

// A Knower is somebody who was shown a secret.
type Knower struct {
	User string    `json:"user"`
	At   time.Time `json:"at"` // the last time
}

// Targets lists all targets that the caller may know of, by name, page after page.
func (c *Client) Targets(ctx context.Context) (List[Target], error) {
	return c.TargetsLike(ctx, "")
}

// TargetsLike lists those of them in whose name part stands.
func (c *Client) TargetsLike(ctx context.Context, part string) (all List[Target], err error) {
	q := url.Values{}
	set(q, "part", part)
	for {
		page, err := call[List[Target]](ctx, c, http.MethodGet, "/v1/targets", q, nil)
		all.Items = append(all.Items, page.Items...)
		if err != nil || page.Next == "" || page.Next == q.Get("after") { // it goes on, whatever a server says
			return all, err
		}
		q.Set("after", page.Next)
	}
}

// FindTarget returns one target.
func (c *Client) FindTarget(ctx context.Context, name string) (Target, error) {
	return call[Target](ctx, c, http.MethodGet, path("targets", name, ""), nil, nil)
}

// AddTarget adds a target.
func (c *Client) AddTarget(ctx context.Context, in TargetInput) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, "/v1/targets", nil, in)
}

// SetTarget changes the target in.Name from the version in.Version.
func (c *Client) SetTarget(ctx context.Context, in TargetInput) (Target, error) {
	return call[Target](ctx, c, http.MethodPut, path("targets", in.Name, ""), nil, in)
}

// A CredentialInput says what the bastion logs in with at an account.
type CredentialInput struct {
	Credential string `json:"credential"` // certificate, password or key
	// Secret is the password, or the private key in the form of OpenSSH and without
	// a passphrase. In JSON it is base64. No answer has it.
	Secret []byte `json:"secret,omitempty"`
}

// SetCredential says what the bastion logs in with at an account of a target.
func (c *Client) SetCredential(ctx context.Context, target, account string, in CredentialInput) (AccountInput, error) {
	return call[AccountInput](ctx, c, http.MethodPut, path("targets", target, "accounts/"+url.PathEscape(account)+"/credential"), nil, in)
}

// RemoveTarget removes a target.
func (c *Client) RemoveTarget(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("targets", name, ""), nil, nil, nil)
}

// LockTarget denies the target to everybody and cuts its sessions.
func (c *Client) LockTarget(ctx context.Context, name, reason string) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, path("targets", name, "lock"), nil, Reason{reason})
}

// UnlockTarget ends LockTarget.
func (c *Client) UnlockTarget(ctx context.Context, name, reason string) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, path("targets", name, "unlock"), nil, Reason{reason})
}

// The states of a step of a check.
const (
	CheckOK      = "ok"
	CheckFailed  = "failed"
	CheckUnknown = "unknown" // it could not be looked at
)

// A TargetCheck is what a check of a target has found.
type TargetCheck struct {
	Target string      `json:"target"`
	Passed bool        `json:"passed"` // nothing failed
	Steps  []CheckStep `json:"steps"`
}

// A CheckStep is one thing that was looked at.
type CheckStep struct {
	Step    string `json:"step"`   // name, port, version, host-key, way, login, authority, provisioner, clock, revocations
	Target  string `json:"target"` // or the hop on the way to it
	Account string `json:"account,omitempty"`
	State   string `json:"state"`
	Detail  string `json:"detail"`
	Next    string `json:"next,omitempty"` // what to type
}

// A CheckInput says what is checked.
type CheckInput struct {
	Account string `json:"account,omitempty"` // "": all
}

// CheckTarget has the server try what a session at the target needs.
func (c *Client) CheckTarget(ctx context.Context, name string, in CheckInput) (TargetCheck, error) {
	return call[TargetCheck](ctx, c, http.MethodPost, path("targets", name, "check"), nil, in)
}

// A Bootstrap is a shell script that makes a target trust the server. It bears a
// token that is worth something until ExpiresAt, or until it has been used.
type Bootstrap struct {
	Target    string    `json:"target"`
	Script    string    `json:"script"`
	ExpiresAt time.Time `json:"expires_at"`
}

// BootstrapTarget makes the script of a target. The one before is worth nothing
// any more.
func (c *Client) BootstrapTarget(ctx context.Context, name string) (Bootstrap, error) {
	return call[Bootstrap](ctx, c, http.MethodPost, path("targets", name, "bootstrap"), nil, nil)
}

// A BootstrapUse is what the script of a target sends.
type BootstrapUse struct {
	Token    string   `json:"token"`
	HostKeys []string `json:"host_keys"`
}
