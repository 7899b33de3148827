# The sentences that people read. Nothing here permits anything: `allow` does
# not look at it. A refusal is one sentence, and names the next step if there is one.
package drawbolt

reasons := [{"rule": concat(".", [input.action, "own"]), "text": "it is your own"}] if {
	input.action in {"cancel", "release", "request.read", "session.list", "key.write", "vote.delegate"}
	free
	mine
} else := [{"rule": concat(".", [input.action, "owner"]), "text": "your bot asks for it"}] if {
	input.action in {"cancel", "release", "request.read"}
	free
	owned
} else := [{"rule": "request.read.voter", "text": "you are asked to decide on it"}] if {
	input.action == "request.read"
	free
} else := [{"rule": "break_glass.role", "text": text}] if {
	input.request.break_glass == true
	break_glass
	allow
	text := sprintf("BREAK-GLASS: %s uses %s without any approval under %s; everybody responsible must be told", [
		input.user.name, what, chosen.text,
	])
} else := [{"rule": concat(".", [input.action, "role"]), "text": concat(" ", [chosen.text, "allows it"])}] if {
	chosen
	allow
} else := array.slice([refusal[1] | some refusal in refusals], 0, 16) if {
	refusals != set()
} else := [{"rule": "default.deny", "text": "no rule allows this; ask the administrators"}]

what := "this" if {
	input.target.name == ""
} else := input.target.name if {
	input.account == ""
} else := sprintf("account %s on %s", [input.account, input.target.name])

# Refusals are [order, reason]. Iterating a set is in order, and the first
# reason is the one that decided.

refusals contains [10, {"rule": "user.locked", "text": "you are locked out; ask the administrators"}] if input.user.locked == true

refusals contains [11, {"rule": "target.locked", "text": text}] if {
	input.target.locked == true
	input.action in {"request", "activate", "connect", "extend", "checkout", "approve"}
	text := sprintf("%s is locked; ask the administrators when it opens again", [input.target.name])
}

refusals contains [20, {"rule": "target.missing", "text": "name a target and an account on it"}] if {
	input.target.name == ""
	input.action in {"request", "activate", "connect", "extend", "checkout"}
}

refusals contains [20, {"rule": "target.missing", "text": "name a target and an account on it"}] if {
	input.account == ""
	input.action in {"request", "activate", "connect", "extend", "checkout"}
}

refusals contains [21, {"rule": "request.missing", "text": "there is no request for this yet; make one first"}] if {
	input.action in {"activate", "connect", "extend", "checkout", "approve", "deny"}
	not let_in
}

refusals contains [21, {"rule": "request.missing", "text": "name the request"}] if {
	input.action in {"cancel", "release"}
	input.request.id == ""
}

refusals contains [22, {"rule": "request.other", "text": "this request is somebody else's; make your own"}] if {
	input.action in {"request", "activate", "connect", "extend", "checkout"}
	not mine
}

refusals contains [22, {"rule": "request.other", "text": "this request is somebody else's and only they can do that"}] if {
	input.action in {"cancel", "release"}
	not mine
	not owned
}

# ---- Votes ----

refusals contains [30, {"rule": "vote.bot", "text": "a bot cannot vote; ask a person"}] if {
	input.action in {"approve", "deny"}
	input.user.bot
}

refusals contains [31, {"rule": "vote.own", "text": "nobody votes on their own request; ask somebody else"}] if {
	input.action in {"approve", "deny"}
	mine
}

refusals contains [31, {"rule": "vote.own", "text": "nobody votes on what their own bot asks for; ask somebody else"}] if {
	input.action in {"approve", "deny"}
	person(input.user.id) == person(input.request.owner)
}

refusals contains [31, {"rule": "vote.nobody", "text": "this request has no requester"}] if {
	input.action in {"approve", "deny"}
	person(input.request.requester) == ""
}

refusals contains [32, {"rule": "vote.twice", "text": "you have approved this already; somebody else must now"}] if {
	input.action in {"approve", "deny"}
	voted
}

refusals contains [33, {"rule": "vote.needless", "text": "break-glass is not voted on; revoke the grant to end it"}] if {
	input.action in {"approve", "deny"}
	input.request.break_glass
}

refusals contains [33, {"rule": "vote.outdated", "text": text}] if {
	input.action in {"approve", "deny"}
	let_in
	input.request.break_glass == false
	count(requested_rules) == 0
	text := sprintf("rule %s of role %s does not allow %s any more; the requester must ask again", [
		input.request.rule, input.request.role, what,
	])
}

refusals contains [33, {"rule": "vote.ticket", "text": text}] if {
	crossed
	text := sprintf("you have asked for something under %s yourself; somebody else must approve this", [input.environment.ticket])
}

refusals contains [33, {"rule": "vote.needless", "text": "nobody's approval is asked for this request"}] if {
	input.action in {"approve", "deny"}
	let_in
	count(requested_rules) > 0
	count(wanted_groups) == 0
}

refusals contains [34, {"rule": "vote.group", "text": text}] if {
	input.action in {"approve", "deny"}
	count(wanted_groups) > 0
	count(voter_groups) == 0
	text := sprintf("this request is decided by %s, where you are not a member; ask somebody who is", [
		concat(" or ", wanted_groups),
	])
}

# ---- No rule matches ----

refusals contains [40, {"rule": concat(".", [carrier, "role"]), "text": no_rule}] if {
	count(matched) == 0
	not input.action in {"cancel", "release"}
}

no_rule := sprintf("the roles %s exclude each other, so you have none of them; ask the administrators which one is yours", [
	concat(" and ", drawbolt.excluded(input.user)),
]) if {
	count(drawbolt.excluded(input.user)) > 0
} else := sprintf("none of your roles allows %s for %s; ask %s for one that does", [input.action, what, owner]) if {
	input.request.role == ""
	input.request.break_glass == false
} else := sprintf("you do not have role %s any more; make a new request", [input.request.role]) if {
	input.action in {"activate", "connect", "extend", "checkout"}
	input.request.role != ""
	count(asked) == 0
} else := sprintf("you do not have role %s; ask with one that you have", [input.request.role]) if {
	input.action in {"request", "activate", "connect", "extend", "checkout"}
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
	input.action in {"request", "activate", "connect", "extend", "checkout"}
	input.request.role != ""
} else := sprintf("none of your roles allows %s for %s; ask %s for one that does", [input.action, what, owner])

owner := sprintf("its owner %s", [input.target.labels.owner]) if {
	input.target.labels.owner != ""
} else := "the administrators"

# ---- Rules match, but no condition holds ----

refusals contains [50, {"rule": concat(".", ["condition", condition.kind]), "text": text}] if {
	some rule in matched
	not chosen
	rule.level == matched[0].level
	some condition in rule.unmet
	text := sprintf("%s allows this %s; %s", [rule.text, condition.text, condition_hint[condition.kind]])
}

condition_hint := {
	"weekdays": "try again then",
	"hours": "try again then",
	"sources": "connect from there",
	"ticket": "name one",
	"valid_ticket": ticket_hint,
	"window": "wait for one or have it opened",
	"freeze": sprintf("%s is frozen: %s", [what, input.environment.freeze]),
	"tier": "use an account of that tier's people",
	"facts": "have the target looked at again",
	"per_person": "end one first",
	"per_target": "wait until one ends",
	"exclusive": "wait until it is free",
	"separate": "somebody else must do it",
}

ticket_hint := input.request.ticket.why if {
	input.request.ticket.why != ""
} else := "name one that is open, yours, and about this target"

# ---- A rule is chosen, but something is missing ----

refusals contains [60, {"rule": "mfa.missing", "text": text}] if {
	chosen.mfa_seconds > 0
	input.user.mfa_age_seconds == null
	text := sprintf("role %s needs a second factor; prove yours and try again", [chosen.role])
}

refusals contains [60, {"rule": "mfa.stale", "text": text}] if {
	input.user.mfa_age_seconds > chosen.mfa_seconds
	is_number(input.user.mfa_age_seconds)
	chosen.mfa_seconds > 0
	text := sprintf("role %s needs a second factor not older than %s; prove yours again", [chosen.role, chosen.mfa_text])
}

refusals contains [61, {"rule": "request.duration", "text": text}] if {
	input.action in {"request", "activate", "connect", "extend", "checkout"}
	chosen
	not short_enough
	text := sprintf("role %s allows at most %s; ask for %s or less", [chosen.role, chosen.max_text, chosen.max_text])
}

refusals contains [62, {"rule": "break_glass.reason", "text": "break-glass needs a reason; say what the emergency is"}] if {
	input.request.break_glass == true
	break_glass
	not explained
}

refusals contains [70, {"rule": "request.approvals", "text": text}] if {
	input.action in {"activate", "connect", "extend", "checkout"}
	not approved
	some quorum in chosen.quorums
	not reached(quorum)
	text := sprintf("approvals are missing: %d more from %s; ask them", [
		quorum.count - count(approvers(quorum)), quorum.text,
	])
}
