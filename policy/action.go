package policy

// An Action names what a user wants to do. Actions outside [Actions] are
// refused before the bundle is asked.
type Action string

// The life of a request. A rule that lists ActionRequest also carries
// ActionActivate and ActionConnect, because a grant that cannot be used is none.
const (
	ActionRequest  Action = "request"  // ask for an account on a target
	ActionApprove  Action = "approve"  // vote for somebody's request
	ActionDeny     Action = "deny"     // vote against somebody's request
	ActionCancel   Action = "cancel"   // take a pending request back
	ActionActivate Action = "activate" // begin the grant of an approved request
	ActionConnect  Action = "connect"  // open a session under a grant
	ActionCheckout Action = "checkout" // see the password under a grant
	ActionExtend   Action = "extend"   // lengthen a grant
	ActionRelease  Action = "release"  // give one's own grant back
	ActionRevoke   Action = "revoke"   // end somebody's grant
)

// ActionBreakGlass stands in rules only: it lets the holder of the role make
// requests with Request.BreakGlass, which need no approval.
const ActionBreakGlass Action = "break_glass"

// Reading and running the house.
const (
	ActionRequestRead      Action = "request.read" // other people's requests
	ActionSessionList      Action = "session.list"
	ActionSessionReplay    Action = "session.replay"
	ActionSessionWatch     Action = "session.watch"
	ActionSessionTerminate Action = "session.terminate"
	ActionSessionModerate  Action = "session.moderate" // write to its user, hold back what they type
	ActionRecordingHold    Action = "recording.hold"   // keep recordings from being deleted
	ActionRecordingDelete  Action = "recording.delete" // before their time, and say how long that is
	ActionAuditRead        Action = "audit.read"
	ActionAuditExport      Action = "audit.export"
	ActionTargetRead       Action = "target.read"
	ActionTargetWrite      Action = "target.write"
	ActionTargetFacts      Action = "target.facts" // put on record what was found out about it
	ActionUserRead         Action = "user.read"
	ActionUserWrite        Action = "user.write"
	ActionKeyWrite         Action = "key.write"     // SSH keys and certificates that prove who one is
	ActionDelegate         Action = "vote.delegate" // hand one's own votes over
	ActionRoleRead         Action = "role.read"
	ActionRoleWrite        Action = "role.write"
	ActionPolicyRead       Action = "policy.read"
	ActionPolicyWrite      Action = "policy.write"
	ActionSecretRead       Action = "secret.read" // what secrets there are, never their bytes
	ActionSecretWrite      Action = "secret.write"
	ActionSecretRotate     Action = "secret.rotate"
	ActionSecretRecover    Action = "secret.recover" // read every password of an account that may be in force
	ActionLockRead         Action = "lock.read"
	ActionLockWrite        Action = "lock.write"
	ActionIntegrationRead  Action = "integration.read"  // how the channels stand over which people are told
	ActionIntegrationWrite Action = "integration.write" // have them send a test, and what they have set aside
	ActionSystemRead       Action = "system.read"
	ActionSystemWrite      Action = "system.write"
	ActionGlassReview      Action = "breakglass.review" // say whether somebody's break-glass was justified
	ActionReviewRead       Action = "review.read"       // who has which role, and made what of it
	ActionReviewWrite      Action = "review.write"      // have that reviewed, and decide on it
	ActionAccountRead      Action = "account.read"      // which accounts targets have, and how these are set up
	ActionAccountDiscover  Action = "account.discover"  // have that found out
	ActionAccountAdopt     Action = "account.adopt"     // give what was found an owner, and take it over
)

// Actions lists every action that an Input may name, in a fixed order.
func Actions() []Action {
	return []Action{
		ActionRequest, ActionApprove, ActionDeny, ActionCancel, ActionActivate, ActionConnect,
		ActionCheckout, ActionExtend, ActionRelease, ActionRevoke,
		ActionRequestRead, ActionSessionList, ActionSessionReplay, ActionSessionWatch, ActionSessionTerminate, ActionSessionModerate,
		ActionRecordingHold, ActionRecordingDelete,
		ActionAuditRead, ActionAuditExport, ActionTargetRead, ActionTargetWrite, ActionTargetFacts, ActionUserRead, ActionUserWrite, ActionKeyWrite, ActionDelegate,
		ActionRoleRead, ActionRoleWrite, ActionPolicyRead, ActionPolicyWrite,
		ActionSecretRead, ActionSecretWrite, ActionSecretRotate, ActionSecretRecover, ActionLockRead, ActionLockWrite,
		ActionIntegrationRead, ActionIntegrationWrite, ActionSystemRead, ActionSystemWrite,
		ActionGlassReview, ActionReviewRead, ActionReviewWrite,
		ActionAccountRead, ActionAccountDiscover, ActionAccountAdopt,
	}
}

// Known reports whether an Input may name a.
func (a Action) Known() bool {
	switch a {
	case ActionRequest, ActionApprove, ActionDeny, ActionCancel, ActionActivate, ActionConnect,
		ActionCheckout, ActionExtend, ActionRelease, ActionRevoke,
		ActionRequestRead, ActionSessionList, ActionSessionReplay, ActionSessionWatch, ActionSessionTerminate, ActionSessionModerate,
		ActionRecordingHold, ActionRecordingDelete,
		ActionAuditRead, ActionAuditExport, ActionTargetRead, ActionTargetWrite, ActionTargetFacts, ActionUserRead, ActionUserWrite, ActionKeyWrite, ActionDelegate,
		ActionRoleRead, ActionRoleWrite, ActionPolicyRead, ActionPolicyWrite,
		ActionSecretRead, ActionSecretWrite, ActionSecretRotate, ActionSecretRecover, ActionLockRead, ActionLockWrite,
		ActionIntegrationRead, ActionIntegrationWrite, ActionSystemRead, ActionSystemWrite,
		ActionGlassReview, ActionReviewRead, ActionReviewWrite,
		ActionAccountRead, ActionAccountDiscover, ActionAccountAdopt:
		return true
	default:
		return false
	}
}
