package access

import "slices"

// A CheckState says how a step of a check ended.
type CheckState string

// The states. What could not be looked at is unknown, and is not taken for good.
const (
	CheckOK      CheckState = "ok"
	CheckFailed  CheckState = "failed"
	CheckUnknown CheckState = "unknown"
)

// The steps of a check, in the order in which they are taken. What lies behind a
// step that failed is not tried.
const (
	CheckName        = "name"        // the name in the address resolves
	CheckPort        = "port"        // somebody answers there
	CheckVersion     = "version"     // it speaks SSH, with algorithms that we use
	CheckHostKey     = "host-key"    // it shows the key that we know
	CheckWay         = "way"         // a hop lets us in, for what is behind it
	CheckLogin       = "login"       // an account lets us in
	CheckAuthority   = "authority"   // sshd trusts our user authority: somebody was let in
	CheckProvisioner = "provisioner" // the provisioner is root, or becomes it, and has its tools
	CheckClock       = "clock"       // the clock is right
	CheckRevoked     = "revocations" // sshd has a list of revoked certificates that is fresh
)

// A CheckStep is one thing that a check has looked at. Detail may hold what the
// target said, without control characters.
type CheckStep struct {
	Step    string
	Target  string // the target, or a hop on the way
	Account string // for which it was tried
	State   CheckState
	Detail  string
	Next    string // what to type
}

// AnyFailed reports whether one of the steps failed.
func AnyFailed(steps []CheckStep) bool {
	return slices.ContainsFunc(steps, func(s CheckStep) bool { return s.State == CheckFailed })
}

// LoggedIn reports whether an account of the target let us in: one that people
// ask for, or one of the two that nobody does.
func LoggedIn(steps []CheckStep) bool {
	return slices.ContainsFunc(steps, func(s CheckStep) bool { return s.Step == CheckAuthority && s.State == CheckOK })
}
