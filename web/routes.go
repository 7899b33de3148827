package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// auth says who may call a route. The zero value is none of them, and no route
// may have it.
type auth int

const (
	_     auth = iota
	open       // anybody
	login      // who bears a login: a token, or a browser's cookie
	token      // who bears a token; no browser
)

// A route is one line of what the server answers to. Either api or page is set.
type route struct {
	method, path string
	auth         auth
	costly       bool // an open one that costs a password hash or a row: fewer of them
	body         int  // bytes of the longest body; 0: maxBody
	upload       bool // the form of a page holds a file
	raw          bool // its handler checks the form of the body, whose bytes are signed
	summary      string
	api          func(*Server, huma.API, huma.Operation)
	page         func(*Server, http.ResponseWriter, *http.Request, access.Caller)
}

// maxBody is the longest body that the route takes.
func (rt route) maxBody() int {
	if rt.body > 0 {
		return rt.body
	}
	return maxBody
}

func (rt route) pattern() string {
	if rt.path == "/" {
		return rt.method + " /{$}"
	}
	return rt.method + " " + rt.path
}

// routes is every route there is. Nothing answers that does not stand here.
func (s *Server) routes() []route {
	const get, post, put, remove = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []route{
		// The API, open.
		{method: post, path: "/v1/login", auth: open, costly: true, summary: "Log in with a password", api: call((*Server).login)},
		{method: post, path: "/v1/login/device", auth: open, costly: true, summary: "Begin a login that is finished in a browser", api: call((*Server).beginDevice)},
		{method: post, path: "/v1/login/device/token", auth: open, summary: "Ask whether the login was confirmed; 202: not yet", api: call((*Server).finishDevice)},
		{method: post, path: "/v1/login/passkey", auth: open, costly: true, summary: "What a passkey signs to sign its person in, in a browser", api: call((*Server).askToSignIn)},
		{method: post, path: "/v1/login/breakglass", auth: open, costly: true, summary: "Log in with sealed codes, as the emergency user", api: call((*Server).loginBreakGlass)},
		{method: post, path: "/v1/setup", auth: open, costly: true, summary: "Choose the first password, under a one-time link", api: call((*Server).setup)},
		{method: get, path: "/v1/authorities", auth: open, summary: "Public keys of the SSH authorities", api: call((*Server).authorities)},
		{method: get, path: "/v1/krl", auth: open, page: (*Server).krl},
		{method: post, path: "/v1/bootstrap", auth: open, costly: true, summary: "Have a target checked, with the token of its bootstrap", api: stream((*Server).useBootstrap)},
		{method: get, path: "/v1/version", auth: open, summary: "Version and clock of the server", api: call((*Server).version)},
		{method: get, path: "/healthz", auth: open, page: (*Server).healthz},
		{method: get, path: "/api/openapi.json", auth: open, page: (*Server).openAPIFile},

		// The caller.
		{method: post, path: "/v1/logout", auth: login, summary: "End this login", api: call((*Server).logout)},
		{method: get, path: "/v1/me", auth: login, summary: "Who the caller is", api: call((*Server).me)},
		{method: post, path: "/v1/me/certificate", auth: login, summary: "Certify an SSH key of the caller", api: call((*Server).certify)},
		{method: get, path: "/v1/me/keys", auth: login, summary: "The caller's SSH keys", api: call((*Server).myKeys)},
		{method: post, path: "/v1/me/keys", auth: login, summary: "Register an SSH key of the caller", api: call((*Server).addMyKey)},
		{method: remove, path: "/v1/me/keys/{fingerprint}", auth: login, summary: "Forget an SSH key of the caller", api: call((*Server).removeMyKey)},
		{method: post, path: "/v1/me/password", auth: login, summary: "Change the caller's password", api: call((*Server).setPassword)},
		{method: post, path: "/v1/me/totp", auth: login, summary: "Make an authenticator; it counts when it is confirmed", api: call((*Server).beginTOTP)},
		{method: post, path: "/v1/me/totp/confirm", auth: login, summary: "Turn the authenticator on with its first code", api: call((*Server).confirmTOTP)},

		{method: get, path: "/v1/me/passkeys", auth: login, summary: "The caller's passkeys", api: call((*Server).myPasskeys)},
		{method: post, path: "/v1/me/passkeys/prompt", auth: login, summary: "What a passkey of the caller signs, in a browser", api: call((*Server).askPasskey)},
		{method: get, path: "/v1/me/links", auth: login, summary: "The caller's accounts in other systems", api: call((*Server).myLinks)},
		{method: remove, path: "/v1/me/links/{kind}/{team}/{account}", auth: login, summary: "Unlink an account of the caller", api: call((*Server).removeMyLink)},

		// What the pages ask for besides.
		{method: get, path: "/v1/events", auth: login, summary: "That something has changed, as server-sent events: what it is, is to be asked for", api: stream((*Server).follow)},
		{method: get, path: "/v1/jump", auth: login, summary: "Targets, requests and people by a part of their names", api: call((*Server).jump)},

		// Targets.
		{method: get, path: "/v1/accounts", auth: login, summary: "Accounts that exist for a grant", api: call((*Server).madeAccounts)},
		{method: post, path: "/v1/accounts/{id}/give-up", auth: login, summary: "End the removal of an account that fails: it is gone", api: call((*Server).giveUpAccount)},
		{method: get, path: "/v1/targets", auth: login, summary: "Targets the caller may know of", api: call((*Server).targets)},
		{method: post, path: "/v1/targets", auth: login, summary: "Add a target", api: call((*Server).addTarget)},
		{method: get, path: "/v1/targets/{name}", auth: login, summary: "One target", api: call((*Server).findTarget)},
		{method: put, path: "/v1/targets/{name}", auth: login, summary: "Change a target", api: call((*Server).setTarget)},
		{method: remove, path: "/v1/targets/{name}", auth: login, summary: "Remove a target", api: call((*Server).removeTarget)},
		{method: post, path: "/v1/targets/{name}/lock", auth: login, summary: "Deny a target to everybody and cut its sessions", api: call((*Server).lockTarget)},
		{method: post, path: "/v1/targets/{name}/unlock", auth: login, summary: "End a lock", api: call((*Server).unlockTarget)},
		{method: put, path: "/v1/targets/{name}/accounts/{account}/credential", auth: login, summary: "Say what the bastion logs in with at an account", api: call((*Server).setCredential)},
		{method: put, path: "/v1/targets/{name}/accounts/{account}/managed", auth: login, summary: "Have the password of an account changed by drawbolt", api: call((*Server).manageAccount)},
		{method: post, path: "/v1/targets/{name}/accounts/{account}/unmanage", auth: login, summary: "Leave the password of an account to others", api: call((*Server).unmanageAccount)},
		{method: post, path: "/v1/targets/{name}/accounts/{account}/rotate", auth: login, summary: "Have the password of an account changed now", api: call((*Server).rotateAccount)},
		{method: post, path: "/v1/targets/{name}/accounts/{account}/recover", auth: login, summary: "Every password of an account that may be in force", api: call((*Server).recoverPasswords)},
		{method: get, path: "/v1/targets/{name}/passwords", auth: login, summary: "How the managed passwords of a target stand", api: call((*Server).passwords)},
		{method: put, path: "/v1/targets/{name}/facts", auth: login, summary: "Put on record what was found out about a target", api: call((*Server).recordFacts)},
		{method: get, path: "/v1/windows", auth: login, summary: "Maintenance windows and freezes that are not over", api: call((*Server).windows)},
		{method: post, path: "/v1/windows", auth: login, summary: "Add a maintenance window or a freeze", api: call((*Server).addWindow)},
		{method: remove, path: "/v1/windows/{id}", auth: login, summary: "Remove a window", api: call((*Server).removeWindow)},
		{method: get, path: "/v1/networks", auth: login, summary: "Networks that have names", api: call((*Server).networks)},
		{method: put, path: "/v1/networks/{name}", auth: login, summary: "Make or change a network", api: call((*Server).setNetwork)},
		{method: remove, path: "/v1/networks/{name}", auth: login, summary: "Remove a network", api: call((*Server).removeNetwork)},
		{method: post, path: "/v1/targets/{name}/check", auth: login, summary: "Try what a session at a target needs", api: call((*Server).checkTarget)},
		{method: post, path: "/v1/targets/{name}/discover", auth: login, summary: "Find out which accounts a target has and how it is set up", api: call((*Server).discover)},
		{method: get, path: "/v1/targets/{name}/posture", auth: login, summary: "How a target stands by its last scan", api: call((*Server).posture)},
		{method: get, path: "/v1/postures", auth: login, summary: "How targets stand by their last scans", api: call((*Server).postures)},
		{method: get, path: "/v1/inventory", auth: login, summary: "Accounts that scans have found, the gravest first", api: call((*Server).inventory)},
		{method: get, path: "/v1/inventory/{id}", auth: login, summary: "One of them, by its id or as NAME@TARGET", api: call((*Server).findFound)},
		{method: post, path: "/v1/inventory/adopt", auth: login, summary: "Give accounts an owner, say what they are, take them over", api: call((*Server).manageFound)},
		{method: post, path: "/v1/inventory/{id}/manage", auth: login, summary: "Take one over, and have its password or key changed by drawbolt", api: call((*Server).onboardAccount)},
		{method: post, path: "/v1/targets/{name}/bootstrap", auth: login, summary: "Make the script that enrols a target", api: call((*Server).bootstrapTarget)},

		// Requests and their grants.
		{method: post, path: "/v1/requests", auth: login, summary: "Ask for an account on a target", api: call((*Server).request)},
		{method: get, path: "/v1/requests", auth: login, summary: "Requests, the newest first", api: call((*Server).requests)},
		{method: get, path: "/v1/requests/{id}", auth: login, summary: "One request, by its id or its grant's; with wait_seconds when its version is no longer version", api: call((*Server).findRequest)},
		{method: post, path: "/v1/requests/{id}/approve", auth: login, summary: "Approve what the digest names", api: call((*Server).approve)},
		{method: post, path: "/v1/requests/{id}/deny", auth: login, summary: "Deny a request", api: call((*Server).deny)},
		{method: post, path: "/v1/requests/{id}/ask", auth: login, summary: "Ask the requester a question; the request waits on", api: call((*Server).askQuestion)},
		{method: post, path: "/v1/requests/{id}/answer", auth: login, summary: "Answer a question about one's own request", api: call((*Server).answerQuestion)},
		{method: post, path: "/v1/requests/{id}/handover", auth: login, summary: "Call somebody who could decide on it to do so", api: call((*Server).handOver)},
		{method: post, path: "/v1/requests/{id}/edit", auth: login, summary: "Ask for something else with a pending request; all votes are void", api: call((*Server).editRequest)},
		{method: post, path: "/v1/requests/{id}/cancel", auth: login, summary: "Take a pending request back", api: call((*Server).cancel)},
		{method: post, path: "/v1/requests/{id}/end", auth: login, summary: "Give a grant back", api: call((*Server).end)},
		{method: post, path: "/v1/requests/{id}/extend", auth: login, summary: "Lengthen a grant", api: call((*Server).extend)},
		{method: post, path: "/v1/requests/{id}/checkout", auth: login, summary: "Show the secret of the account, once, and lend it to the caller alone", api: call((*Server).checkout)},
		{method: post, path: "/v1/requests/{id}/checkin", auth: login, summary: "End the lease of a secret; the grant goes on", api: call((*Server).checkin)},
		{method: get, path: "/v1/checkouts", auth: login, summary: "Who has which secrets, and had, the newest first", api: call((*Server).leases)},
		{method: post, path: "/v1/requests/{id}/revoke", auth: login, summary: "Take a grant away", api: call((*Server).revoke)},

		// What was taken without approval, and who has which rights.
		{method: get, path: "/v1/breakglass", auth: login, summary: "Access that was taken without approval, the newest first", api: call((*Server).breakGlasses)},
		{method: get, path: "/v1/breakglass/{id}", auth: login, summary: "One such case, by the id of its request", api: call((*Server).findBreakGlass)},
		{method: post, path: "/v1/breakglass/{id}/review", auth: login, summary: "Say what was found of it, which closes its review", api: call((*Server).reviewBreakGlass)},
		{method: post, path: "/v1/breakglass/{id}/acknowledge", auth: login, summary: "Say that one looks after it; closes nothing", api: call((*Server).acknowledgeBreakGlass)},
		{method: get, path: "/v1/reports/access", auth: login, summary: "Who has which role, how, and when it was used", api: call((*Server).holdings)},
		{method: post, path: "/v1/reviews", auth: login, summary: "Begin a review of who has which role", api: call((*Server).startReview)},
		{method: get, path: "/v1/reviews", auth: login, summary: "Reviews, the newest first", api: call((*Server).reviews)},
		{method: get, path: "/v1/reviews/{id}", auth: login, summary: "One review", api: call((*Server).findReview)},
		{method: get, path: "/v1/reviews/{id}/items", auth: login, summary: "The rights that a review is about", api: call((*Server).reviewItems)},
		{method: post, path: "/v1/reviews/{id}/decide", auth: login, summary: "Keep or remove rights", api: call((*Server).decideReview)},
		{method: post, path: "/v1/reviews/{id}/close", auth: login, summary: "End a review", api: call((*Server).closeReview)},
		{method: get, path: "/v1/reviews/{id}/export", auth: login, summary: "Everything of a review, with where its decisions stand in the audit log", api: call((*Server).exportReview)},

		// The way in where nothing but HTTPS gets out.
		{method: get, path: "/v1/ssh/{name}", auth: token, page: (*Server).enter},

		// Sessions and their recordings.
		{method: get, path: "/v1/sessions", auth: login, summary: "Sessions, the newest first", api: call((*Server).sessions)},
		{method: get, path: "/v1/wall", auth: login, summary: "The last lines of running sessions, while they change: one JSON object a line", api: stream((*Server).wall)},
		{method: get, path: "/v1/sessions/{id}", auth: login, summary: "One session", api: call((*Server).findSession)},
		{method: post, path: "/v1/sessions/{id}/end", auth: login, summary: "Cut a running session", api: call((*Server).endSession)},
		{method: post, path: "/v1/sessions/{id}/acknowledge", auth: login, summary: "Say that one looks after an alarm of a session; closes nothing", api: call((*Server).acknowledgeAlarm)},
		{method: post, path: "/v1/sessions/{id}/expected", auth: login, summary: "Say that an alarm of a session was expected: its rule alarms no more in it", api: call((*Server).expectedAlarm)},
		{method: get, path: "/v1/sessions/{id}/watch", auth: login, summary: "A running session, while it runs: one JSON object a line", api: stream((*Server).watch)},
		{method: post, path: "/v1/sessions/{id}/message", auth: login, summary: "Write a line into the terminal of a running session", api: call((*Server).message)},
		{method: post, path: "/v1/sessions/{id}/pause", auth: login, summary: "Hold back what the user sends, in all sessions under the grant", api: call((*Server).pause)},
		{method: post, path: "/v1/sessions/{id}/resume", auth: login, summary: "End a pause", api: call((*Server).resume)},
		{method: get, path: "/v1/sessions/{id}/recording", auth: login, summary: "The recording, decrypted", api: stream((*Server).recording)},
		{method: get, path: "/v1/sessions/{id}/proof", auth: login, summary: "The proof that the recording's hash stands in the audit log", api: call((*Server).proof)},
		{method: get, path: "/v1/sessions/{id}/video", auth: login, summary: "A film of the session, MP4, for those who have no player of recordings", api: stream((*Server).video)},
		{method: get, path: "/v1/sessions/{id}/evidence", auth: login, summary: "All that proves the session, as a zip that verifies itself", api: stream((*Server).evidence)},
		{method: get, path: "/v1/sessions/{id}/sealed", auth: login, summary: "The recording as it is kept (age)", api: stream((*Server).sealed)},
		{method: get, path: "/v1/sessions/{id}/play", auth: login, summary: "What a player shows of the recording beside its picture", api: call((*Server).playback)},
		{method: get, path: "/v1/sessions/{id}/play/index", auth: login, summary: "The recording in segments, for asciinema-player", api: call((*Server).playIndex)},
		{method: get, path: "/v1/sessions/{id}/play/segments/{n}", auth: login, summary: "One segment, for asciinema-player", api: call((*Server).playSegment)},
		{method: get, path: "/v1/sessions/{id}/play/screens/{n}", auth: login, summary: "The screen at the beginning of a segment, as text", api: call((*Server).playScreen)},
		{method: get, path: "/v1/sessions/{id}/play/find", auth: login, summary: "Search in the recording", api: call((*Server).playFind)},
		{method: post, path: "/v1/sessions/{id}/play/end", auth: login, summary: "Say that the player is closed, so that what was seen is put on record", api: call((*Server).playEnd)},
		{method: post, path: "/v1/sessions/{id}/check", auth: login, summary: "Have the recording verified by the server", api: call((*Server).checkRecording)},
		{method: get, path: "/v1/search", auth: login, summary: "What was shown, typed and run in the sessions that the caller may replay", api: call((*Server).search)},

		{method: post, path: "/v1/sessions/{id}/delete-recording", auth: login, summary: "Delete a recording before its time; done when two people have said so", api: call((*Server).deleteRecording)},
		{method: get, path: "/v1/holds", auth: login, summary: "Holds on recordings", api: call((*Server).holds)},
		{method: post, path: "/v1/holds", auth: login, summary: "Keep recordings from being deleted", api: call((*Server).holdRecordings)},
		{method: post, path: "/v1/holds/{id}/lift", auth: login, summary: "Lift a hold; done when two people have said so", api: call((*Server).liftHold)},
		{method: get, path: "/v1/retention", auth: login, summary: "How long recordings are kept", api: call((*Server).retention)},
		{method: put, path: "/v1/retention", auth: login, summary: "Say how long recordings are kept; done when two people have said so", api: call((*Server).setRetention)},

		// The audit log.
		{method: get, path: "/v1/audit/events", auth: login, summary: "Events, in the order of the log", api: call((*Server).events)},
		{method: get, path: "/v1/audit/export", auth: login, summary: "The whole log with its proofs", api: stream((*Server).exportAudit)},
		{method: get, path: "/v1/audit/checkpoint", auth: login, summary: "The newest signed head of the log", api: call((*Server).checkpoint)},
		{method: get, path: "/v1/audit/key", auth: login, summary: "The keys to verify with", api: call((*Server).auditKey)},

		// The authorities.
		{method: post, path: "/v1/authorities/{kind}/rotate", auth: login, summary: "Do a step in the rotation of an authority", api: call((*Server).rotateAuthority)},
		{method: post, path: "/v1/certificates/revoke", auth: login, summary: "Revoke a certificate, or those of a session", api: call((*Server).revokeCertificate)},
		{method: post, path: "/v1/krl/push", auth: login, summary: "Bring the list of revoked certificates to the targets now", api: call((*Server).pushKRL)},

		// Integrations.
		{method: get, path: "/v1/integrations", auth: login, summary: "The channels over which people are told", api: call((*Server).integrations)},
		{method: get, path: "/v1/integrations/{name}", auth: login, summary: "One channel, with what it has set aside", api: call((*Server).findIntegration)},
		{method: post, path: "/v1/integrations/{name}/test", auth: login, summary: "Have a channel send a test", api: call((*Server).testIntegration)},
		{method: post, path: "/v1/integrations/{name}/retry", auth: login, summary: "Have a channel try again what it has set aside", api: call((*Server).retryIntegration)},
		// Slack.
		{method: post, path: "/slack/{what}", auth: open, raw: true, page: (*Server).slack},
		{method: get, path: "/v1/integrations/slack/manifest", auth: login, summary: "What Slack makes the app of", api: call((*Server).slackManifest)},
		{method: post, path: "/v1/integrations/slack/check", auth: login, summary: "Try what the app in Slack needs, and post a card", api: call((*Server).checkSlack)},

		// People, roles, policy.
		{method: get, path: "/v1/users", auth: login, summary: "People", api: call((*Server).users)},
		{method: post, path: "/v1/users", auth: login, summary: "Add a person", api: call((*Server).addUser)},
		{method: get, path: "/v1/users/{name}", auth: login, summary: "One person", api: call((*Server).findUser)},
		{method: put, path: "/v1/users/{name}", auth: login, summary: "Change a person", api: call((*Server).setUser)},
		{method: post, path: "/v1/users/{name}/lock", auth: login, summary: "Deny everything to a person and cut that person's sessions", api: call((*Server).lockUser)},
		{method: post, path: "/v1/users/{name}/unlock", auth: login, summary: "End a lock", api: call((*Server).unlockUser)},
		{method: post, path: "/v1/users/{name}/setup", auth: login, summary: "Make a one-time link to choose a password", api: call((*Server).setupLink)},
		{method: get, path: "/v1/users/{name}/keys", auth: login, summary: "A person's SSH keys", api: call((*Server).keys)},
		{method: post, path: "/v1/users/{name}/keys", auth: login, summary: "Register an SSH key of a person", api: call((*Server).addKey)},
		{method: remove, path: "/v1/users/{name}/keys/{fingerprint}", auth: login, summary: "Forget an SSH key of a person", api: call((*Server).removeKey)},
		{method: get, path: "/v1/users/{name}/passkeys", auth: login, summary: "A person's passkeys", api: call((*Server).passkeys)},
		{method: post, path: "/v1/users/{name}/factors/{id}/take", auth: login, summary: "Take a lost second factor away from a person, whose logins end", api: call((*Server).takeFactor)},
		{method: get, path: "/v1/delegations", auth: login, summary: "Who votes in whose place", api: call((*Server).delegations)},
		{method: put, path: "/v1/users/{name}/delegation", auth: login, summary: "Hand votes over for a time", api: call((*Server).delegate)},
		{method: remove, path: "/v1/users/{name}/delegation", auth: login, summary: "Take votes back", api: call((*Server).endDelegation)},
		{method: get, path: "/v1/users/{name}/links", auth: login, summary: "A person's accounts in other systems", api: call((*Server).links)},
		{method: remove, path: "/v1/users/{name}/links/{kind}/{team}/{account}", auth: login, summary: "Unlink an account of a person", api: call((*Server).removeLink)},
		{method: get, path: "/v1/groups", auth: login, summary: "Groups and their members", api: call((*Server).groups)},
		{method: get, path: "/v1/roles", auth: login, summary: "Roles", api: call((*Server).roles)},
		{method: get, path: "/v1/roles/{name}", auth: login, summary: "One role", api: call((*Server).findRole)},
		{method: put, path: "/v1/roles/{name}", auth: login, summary: "Make or change a role", api: call((*Server).setRole)},
		{method: remove, path: "/v1/roles/{name}", auth: login, summary: "Remove a role", api: call((*Server).removeRole)},
		{method: get, path: "/v1/policy", auth: login, summary: "Roles in sentences, and by which bundles the servers decide", api: call((*Server).policy)},
		{method: post, path: "/v1/policy/explain", auth: login, body: maxCandidate, summary: "What the policy would say, and what would change it", api: call((*Server).explain)},
		{method: get, path: "/v1/policy/who-can", auth: login, summary: "Who can come to an account, and how", api: call((*Server).whoCan)},
		{method: get, path: "/v1/policy/reach", auth: login, summary: "What a person can come to, and how", api: call((*Server).canReach)},
		{method: post, path: "/v1/policy/test", auth: login, body: maxCandidate, summary: "Whether a policy bundle may be put into service", api: call((*Server).testPolicy)},
		{method: post, path: "/v1/policy/replay", auth: login, body: maxCandidate, summary: "What a candidate would have answered to decisions", api: call((*Server).replayPolicy)},
		{method: post, path: "/v1/policy/diff", auth: login, body: maxCandidate, summary: "How a candidate differs from the policy in force", api: call((*Server).diffPolicy)},

		// Pages, open.
		{method: get, path: "/static/{version}/{file}", auth: open, page: (*Server).staticFile},
		{method: get, path: "/login", auth: open, page: (*Server).loginPage},
		{method: post, path: "/login", auth: open, costly: true, page: (*Server).loginForm},
		{method: get, path: "/login/breakglass", auth: open, page: (*Server).codesPage},
		{method: post, path: "/login/breakglass", auth: open, costly: true, page: (*Server).codesForm},
		{method: get, path: "/setup", auth: open, page: (*Server).setupPage},
		{method: post, path: "/setup", auth: open, costly: true, page: (*Server).setupForm},

		// Pages.
		{method: post, path: "/logout", auth: login, page: (*Server).logoutForm},
		{method: get, path: "/device", auth: login, page: (*Server).devicePage},
		{method: post, path: "/device", auth: login, page: (*Server).deviceForm},
		{method: get, path: "/link", auth: login, page: (*Server).linkPage},
		{method: post, path: "/link", auth: login, page: (*Server).linkForm},
		{method: get, path: "/me/factors", auth: login, page: (*Server).factorsPage},
		{method: post, path: "/me/factors", auth: login, page: (*Server).factorsForm},
		{method: get, path: "/me/links", auth: login, page: (*Server).linksPage},
		{method: post, path: "/me/links", auth: login, page: (*Server).linksForm},
		{method: get, path: "/audit", auth: login, page: (*Server).auditPage},
		{method: get, path: "/away", auth: login, page: (*Server).awayPage},
		{method: post, path: "/away", auth: login, page: (*Server).awayForm},
		{method: get, path: "/", auth: login, page: (*Server).homePage},
		{method: get, path: "/inbox", auth: login, page: (*Server).inboxPage},
		{method: post, path: "/inbox", auth: login, page: (*Server).inboxForm},
		{method: get, path: "/requests", auth: login, page: (*Server).requestsPage},
		{method: get, path: "/ask", auth: login, page: (*Server).askPage},
		{method: post, path: "/ask", auth: login, page: (*Server).askForm},
		{method: get, path: "/r/{id}", auth: login, page: (*Server).requestPage},
		{method: post, path: "/r/{id}", auth: login, page: (*Server).requestForm},
		{method: get, path: "/r/{id}/secret", auth: login, page: (*Server).secretPage},
		{method: post, path: "/r/{id}/secret", auth: login, page: (*Server).secretForm},
		{method: get, path: "/checkouts", auth: login, page: (*Server).checkoutsPage},
		{method: get, path: "/batch/{id}", auth: login, page: (*Server).batchPage},
		{method: post, path: "/batch/{id}", auth: login, page: (*Server).batchForm},
		{method: get, path: "/targets", auth: login, page: (*Server).targetsPage},
		{method: get, path: "/integrations", auth: login, page: (*Server).integrationsPage},
		{method: get, path: "/integrations/{name}", auth: login, page: (*Server).integrationPage},
		{method: post, path: "/integrations/{name}", auth: login, page: (*Server).integrationForm},
		{method: get, path: "/policies", auth: login, page: (*Server).policiesPage},
		{method: post, path: "/policies", auth: login, body: maxRoles, page: (*Server).policiesForm},
		{method: post, path: "/policies/bundle", auth: login, body: maxUpload, upload: true, page: (*Server).bundleForm},
		{method: get, path: "/breakglass", auth: login, page: (*Server).glassPage},
		{method: get, path: "/breakglass/{id}", auth: login, page: (*Server).glassCasePage},
		{method: post, path: "/breakglass/{id}", auth: login, page: (*Server).glassCaseForm},
		{method: get, path: "/reports/access", auth: login, page: (*Server).holdingsPage},
		{method: get, path: "/reviews", auth: login, page: (*Server).reviewsPage},
		{method: post, path: "/reviews", auth: login, page: (*Server).reviewsForm},
		{method: get, path: "/reviews/{id}", auth: login, page: (*Server).reviewPage},
		{method: post, path: "/reviews/{id}", auth: login, page: (*Server).reviewForm},
		{method: get, path: "/reviews/{id}/export", auth: login, page: (*Server).reviewCSV},
		{method: get, path: "/accounts", auth: login, page: (*Server).accountsPage},
		{method: get, path: "/accounts.csv", auth: login, page: (*Server).accountsTable},
		{method: get, path: "/accounts/manage", auth: login, page: (*Server).managePage},
		{method: post, path: "/accounts/manage", auth: login, page: (*Server).manageForm},
		{method: get, path: "/accounts/{id}", auth: login, page: (*Server).accountPage},
		{method: post, path: "/accounts/{id}", auth: login, page: (*Server).adoptAccount},
		{method: get, path: "/targets/{name}/posture", auth: login, page: (*Server).posturePage},
		{method: get, path: "/targets/{name}", auth: login, page: (*Server).targetPage},
		{method: post, path: "/targets/{name}", auth: login, page: (*Server).targetForm},
		{method: get, path: "/people", auth: login, page: (*Server).peoplePage},
		{method: get, path: "/people/{name}", auth: login, page: (*Server).personPage},
		{method: post, path: "/people/{name}", auth: login, page: (*Server).personForm},
		{method: get, path: "/groups", auth: login, page: (*Server).groupsPage},
		{method: get, path: "/settings", auth: login, page: (*Server).settingsPage},
		{method: get, path: "/search", auth: login, page: (*Server).searchPage},
		{method: get, path: "/sessions", auth: login, page: (*Server).sessionsPage},
		{method: get, path: "/sessions/{id}", auth: login, page: (*Server).sessionPage},
		{method: post, path: "/sessions/{id}", auth: login, page: (*Server).sessionForm},
		{method: get, path: "/sessions/{id}/watch", auth: login, page: (*Server).watchPage},
		{method: post, path: "/sessions/{id}/watch", auth: login, page: (*Server).watchForm},
		{method: get, path: "/sessions/{id}/play", auth: login, page: (*Server).playPage},
		{method: post, path: "/sessions/{id}/check", auth: login, page: (*Server).checkForm},
		{method: get, path: "/sessions/{id}/transcript", auth: login, page: (*Server).transcript},
		{method: get, path: "/sessions/{id}/evidence", auth: login, page: (*Server).evidenceFile},
		{method: get, path: "/sessions/{id}/video", auth: login, page: (*Server).videoFile},
	}
}

// build makes one handler of the table.
func (s *Server) build() (http.Handler, error) {
	mux := http.NewServeMux()
	byPattern := map[string]route{}
	for _, rt := range s.table {
		if rt.auth != open && rt.auth != login && rt.auth != token {
			return nil, fmt.Errorf("the route %s does not say who may call it", rt.pattern())
		}
		byPattern[rt.pattern()] = rt
	}
	conf := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "drawbolt", Version: "1",
				Description: "Just-in-time privileged access. Times are RFC 3339 in UTC, durations are whole seconds, keys are lower case, and what is not known is refused.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token":  {Type: "http", Scheme: "bearer"},
					"cookie": {Type: "apiKey", In: "cookie", Name: cookieName},
				},
			},
		},
		// No documentation page, no schema links: the first loads a script from
		// elsewhere, the second are built from the Host header.
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}, // the second is for problem+json
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{rewrite},
	}
	of := humago.New(guardedMux{mux, s, byPattern}, conf)
	refusal := of.OpenAPI().Components.Schemas.Schema(typeOf[api.Problem](), true, "Problem")
	for _, rt := range s.table {
		if rt.page != nil {
			mux.HandleFunc(rt.pattern(), s.guarded(rt, func(w http.ResponseWriter, r *http.Request, by access.Caller) { rt.page(s, w, r, by) }))
			continue
		}
		op := huma.Operation{
			Method: rt.method, Path: rt.path, Summary: rt.summary,
			OperationID:  operationID(rt),
			Tags:         []string{strings.Split(rt.path, "/")[2]},
			MaxBodyBytes: int64(rt.maxBody()) + 1, BodyReadTimeout: -1, // readBody has read it by then
			Responses: map[string]*huma.Response{"default": {
				Description: "A refusal or a failure",
				Content:     map[string]*huma.MediaType{api.ProblemType: {Schema: refusal}},
			}},
		}
		if rt.auth == login {
			op.Security = []map[string][]string{{"token": {}}, {"cookie": {}}}
		}
		rt.api(s, of, op)
	}
	schemas := of.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own, which no answer is
	delete(schemas, "ErrorDetail")
	var err error
	if s.openAPI, err = json.MarshalIndent(of.OpenAPI(), "", "  "); err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		by := access.Caller{Source: s.source(r)}
		if !s.sources.allow(by.Source) {
			s.fail(w, r, by, errRate)
			return
		}
		if allowed := s.methods(mux, r); len(allowed) > 0 {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			s.fail(w, r, by, errMethod)
			return
		}
		s.fail(w, r, by, &access.Error{Kind: access.ErrNotFound, Code: "DB-6001", Text: "there is nothing at this address"})
	})
	return s.secured(mux), nil
}

// methods returns the methods that the path would answer to.
func (s *Server) methods(mux *http.ServeMux, r *http.Request) (allowed []string) {
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
		if _, pattern := mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, m)
		}
	}
	return allowed
}

// operationID names an operation after its address: post-requests-id-approve.
func operationID(rt route) string {
	path := strings.NewReplacer("/v1", "", "{", "", "}", "").Replace(rt.path)
	return strings.ToLower(rt.method) + strings.ReplaceAll(path, "/", "-")
}

// guardedMux puts guarded in front of what huma registers.
type guardedMux struct {
	*http.ServeMux
	s         *Server
	byPattern map[string]route
}

func (m guardedMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	rt, ok := m.byPattern[pattern]
	if !ok {
		panic("web: " + pattern + " stands in no table") // a mistake in build
	}
	m.ServeMux.HandleFunc(pattern, m.s.guarded(rt, func(w http.ResponseWriter, r *http.Request, by access.Caller) {
		h(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, &exchange{w, r, by})))
	}))
}

// exchangeKey finds the exchange in a context: huma gives handlers nothing but
// one. Only call and stream look for it.
type exchangeKey struct{}

type exchange struct {
	w  http.ResponseWriter
	r  *http.Request
	by access.Caller
}

// An answer is what huma writes.
type answer[O any] struct {
	Status int
	Body   O
}

// A statuser answers with another status than 200.
type statuser interface{ status() int }

// call makes an operation of a handler.
func call[I, O any](handle func(*Server, context.Context, access.Caller, *I) (O, error)) func(*Server, huma.API, huma.Operation) {
	return func(s *Server, of huma.API, op huma.Operation) {
		op.DefaultStatus = http.StatusOK
		huma.Register(of, op, func(ctx context.Context, in *I) (*answer[O], error) {
			x := ctx.Value(exchangeKey{}).(*exchange)
			body, err := handle(s, ctx, x.by, in)
			if err != nil {
				p := s.problem(x.r, err)
				if p.Status == http.StatusUnauthorized {
					x.w.Header().Set("WWW-Authenticate", `Bearer realm="drawbolt"`)
				}
				return nil, p
			}
			out := &answer[O]{http.StatusOK, body}
			if st, ok := any(body).(statuser); ok {
				out.Status = st.status()
			}
			return out, nil
		})
	}
}

// A content is an answer of any length. write is called once; an error from it
// cuts the connection, so that the reader knows that there is more. What cannot
// be had must have failed before.
type content struct {
	media  string
	file   string // its name when it is kept; empty: it is not meant to be
	write  func(io.Writer) error
	within time.Duration // for the reader to take a piece of it; default answerWithin
}

// stream makes an operation of a handler whose answer is not JSON.
func stream[I any](handle func(*Server, context.Context, access.Caller, *I) (content, error)) func(*Server, huma.API, huma.Operation) {
	return func(s *Server, of huma.API, op huma.Operation) {
		op.DefaultStatus = http.StatusOK
		op.Responses["200"] = &huma.Response{
			Description: "A file", Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
		}
		huma.Register(of, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			x := ctx.Value(exchangeKey{}).(*exchange)
			c, err := handle(s, ctx, x.by, in)
			if err != nil {
				return nil, s.problem(x.r, err)
			}
			return &huma.StreamResponse{Body: func(huma.Context) { s.send(x.w, x.r, c) }}, nil
		})
	}
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ access.Caller) {
	s.text(w, http.StatusOK, "ok\n")
}

func (s *Server) openAPIFile(w http.ResponseWriter, _ *http.Request, _ access.Caller) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(s.openAPI)
}
