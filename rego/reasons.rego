# The sentences that people read. Nothing here permits anything: `allow` does
# not look at it. A refusal is one sentence, and names the next step if there is one.
package drawbolt

reasons := [{"rule": concat(".", [input.action, "own"]), "text": "it is your own"}] if {
	own
	allow
} else := [{"rule": "request.read.voter", "text": "you are asked to decide on it"}] if {
	input.action == "request.read"
	count(voter_groups) > 0
	allow
} else := [{"rule": "break_glass.role", "text": text}] if {
	input.request.break_glass == true
	break_glass
	allow
	text := sprintf("BREAK-GLASS: %s uses %s without any approval under %s; everybody responsible must be told", [
		input.user.name, what, chosen.text,
	])
} else := [{"rule": concat(".", [input.action, "role"]), "text": concat(" ", [chosen.text, "allows it"])}] if {
	allow
} else := array.slice([{"rule": r[1], "text": r[2]} | some r in refusals], 0, 16) if {
	count(refusals) > 0
} else := [{"rule": "default.deny", "text": "no rule allows this; ask the administrators"}]

opening if input.action in {"request", "activate", "connect", "extend", "checkout"}

using if input.action in {"activate", "connect", "extend", "checkout"}

voting if input.action in {"approve", "deny"}

own_affair if input.action in {"cancel", "release"}

what := sprintf("account %s on %s", [input.account, input.target.name]) if {
	input.target.name != ""
	input.account != ""
} else := input.target.name if {
	input.target.name != ""
} else := "this"

# Refusals are [order, id, text]. Iterating a set is in order, and the first
# reason is the one that decided.

refusals contains [10, "user.locked", "you are locked out; ask the administrators"] if input.user.locked

refusals contains [11, "target.locked", text] if {
	input.target.locked
	closed_by_lock
	text := sprintf("%s is locked; ask the administrators when it opens again", [input.target.name])
}

closed_by_lock if opening

closed_by_lock if input.action == "approve"

refusals contains [20, "target.missing", "name a target and an account on it"] if {
	opening
	not target_named
}

target_named if {
	input.target.name != ""
	input.account != ""
}

refusals contains [21, "request.missing", "there is no request for this yet; make one first"] if {
	needs_request
	not let_in
}

needs_request if using

needs_request if voting

refusals contains [21, "request.missing", "name the request"] if {
	own_affair
	input.request.id == ""
}

refusals contains [22, "request.other", "this request is somebody else's; make your own"] if {
	opening
	not mine
}

refusals contains [22, "request.other", "this request is somebody else's and only they can do that"] if {
	own_affair
	not mine
}

# ---- Votes ----

refusals contains [30, "vote.bot", "a bot cannot vote; ask a person"] if {
	voting
	input.user.bot
}

refusals contains [31, "vote.own", "nobody votes on their own request; ask somebody else"] if {
	voting
	mine
}

refusals contains [31, "vote.nobody", "this request has no requester"] if {
	voting
	person(input.request.requester) == ""
}

refusals contains [32, "vote.twice", "you have approved this already; somebody else must now"] if {
	voting
	voted
}

refusals contains [33, "vote.needless", "break-glass is not voted on; revoke the grant to end it"] if {
	voting
	input.request.break_glass
}

refusals contains [33, "vote.outdated", text] if {
	voting
	let_in
	input.request.break_glass == false
	count(requested_rules) == 0
	text := sprintf("rule %s of role %s does not allow %s any more; the requester must ask again", [
		input.request.rule, input.request.role, what,
	])
}

refusals contains [33, "vote.needless", "nobody's approval is asked for this request"] if {
	voting
	let_in
	count(requested_rules) > 0
	count(wanted_groups) == 0
}

refusals contains [34, "vote.group", text] if {
	voting
	count(wanted_groups) > 0
	count(voter_groups) == 0
	text := sprintf("this request is decided by %s, where you are not a member; ask somebody who is", [
		concat(" or ", wanted_groups),
	])
}

# ---- No rule matches ----

refusals contains [40, concat(".", [carrier, "role"]), no_rule] if {
	not own_affair
	count(matched) == 0
}

no_rule := sprintf("you do not have role %s any more; make a new request", [input.request.role]) if {
	using
	input.request.role != ""
	count(asked) == 0
} else := sprintf("you do not have role %s; ask with one that you have", [input.request.role]) if {
	opening
	input.request.role != ""
	count(asked) == 0
} else := sprintf("none of your roles allows break-glass for %s; make an ordinary request", [what]) if {
	break_glass
} else := sprintf("rule %s of role %s does not allow %s any more; make a new request", [
	input.request.rule, input.request.role, what,
]) if {
	input.action in {"activate", "connect"}
} else := sprintf("role %s does not allow %s for %s; ask %s for a role that does", [
	input.request.role, input.action, what, owner,
]) if {
	opening
	input.request.role != ""
} else := sprintf("none of your roles allows %s for %s; ask %s for one that does", [input.action, what, owner])

owner := sprintf("its owner %s", [input.target.labels.owner]) if {
	input.target.labels.owner != ""
} else := "the administrators"

# ---- Rules match, but no condition holds ----

refusals contains [50, concat(".", ["condition", condition.kind]), text] if {
	count(held) == 0
	some i in specific
	rule := data.broker.rules[i]
	some condition in rule.conditions
	not holds(condition.kind, condition.values)
	text := sprintf("%s allows this %s; %s", [rule.text, condition.text, condition_hint[condition.kind]])
}

condition_hint := {
	"weekdays": "try again then",
	"hours": "try again then",
	"sources": "connect from there",
	"ticket": "name one",
	"window": "wait for one or have it opened",
}

# ---- A rule is chosen, but something is missing ----

refusals contains [60, "mfa.missing", text] if {
	not own_affair
	chosen.mfa_seconds > 0
	input.user.mfa_age_seconds == null
	text := sprintf("role %s needs a second factor; prove yours and try again", [chosen.role])
}

refusals contains [60, "mfa.stale", text] if {
	not own_affair
	input.user.mfa_age_seconds > chosen.mfa_seconds
	is_number(input.user.mfa_age_seconds)
	chosen.mfa_seconds > 0
	text := sprintf("role %s needs a second factor not older than %s; prove yours again", [chosen.role, chosen.mfa_text])
}

refusals contains [61, "request.duration", text] if {
	opening
	chosen
	not short_enough
	text := sprintf("role %s allows at most %s; ask for %s or less", [chosen.role, chosen.max_text, chosen.max_text])
}

refusals contains [62, "break_glass.reason", "break-glass needs a reason; say what the emergency is"] if {
	break_glass
	not explained
}

refusals contains [70, "request.approvals", text] if {
	using
	not approved
	some quorum in chosen.quorums
	not reached(quorum)
	text := sprintf("approvals are missing: %d more from %s; ask them", [
		quorum.count - count(approvers(quorum)), quorum.text,
	])
}
