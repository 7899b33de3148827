# The sentences that people read. Nothing here permits anything: `allow` does
# not look at it.
package drawbolt

reasons := [{"rule": concat(".", [carrier_words, "role"]), "text": allowed_text}] if {
	allow
	not own_affair
} else := [{"rule": concat(".", [input.action, "own"]), "text": "it is your own request"}] if {
	allow
} else := [{"rule": r[1], "text": r[2]} | some r in refusals] if {
	count(refusals) > 0
} else := [{"rule": "default.deny", "text": "no rule allows this"}]

carrier_words := "break_glass" if {
	break_glass
} else := input.action

allowed_text := sprintf("BREAK-GLASS: %s uses %s without approval under rule %s of role %s; everybody responsible is told", [
	input.user.name, what, chosen.id, chosen.role,
]) if {
	break_glass
} else := sprintf("rule %s of role %s allows it", [chosen.id, chosen.role])

what := sprintf("account %s on %s", [input.account, input.target.name]) if {
	input.target.name != ""
	input.account != ""
} else := input.target.name if {
	input.target.name != ""
} else := input.action

# Refusals are [order, id, text]; the lowest order is the reason that decided,
# and iterating a set is in order.

refusals contains [10, "user.locked", "your account is locked; ask the administrators"] if input.user.locked

refusals contains [11, "target.locked", text] if {
	input.target.locked
	closed_by_lock
	text := sprintf("%s is locked; ask the administrators when it will be open again", [input.target.name])
}

closed_by_lock if opening

closed_by_lock if input.action == "approve"

refusals contains [20, "request.missing", "this needs a request that was let in; make one first"] if {
	needs_request
	not bound_request
}

needs_request if using

needs_request if voting

refusals contains [21, "target.missing", "name a target and an account on it"] if {
	opening
	not names_both
}

names_both if {
	input.target.name != ""
	input.account != ""
}

refusals contains [22, "request.other", "this request belongs to somebody else; make your own"] if {
	opening
	not mine
}

refusals contains [22, "request.other", "this request belongs to somebody else; only its requester can do that"] if {
	own_affair
	not mine
}

refusals contains [23, "request.missing", "name the request"] if {
	own_affair
	input.request.id == ""
}

refusals contains [30, "vote.bot", "a bot cannot vote; ask a person"] if {
	voting
	by_bot
}

refusals contains [31, "vote.own", "nobody votes on their own request; ask somebody else"] if {
	voting
	by_requester
}

refusals contains [32, "vote.twice", "you have approved this request already; somebody else must too"] if {
	voting
	voted
}

refusals contains [33, "vote.group", text] if {
	voting
	bound_request
	count(wanted_groups) > 0
	count(voter_groups) == 0
	text := sprintf("this request is decided by %s, and you are in none of them; ask one of their members", [concat(", ", wanted_groups)])
}

refusals contains [33, "vote.needless", "nobody's approval is asked for this request"] if {
	voting
	bound_request
	count(wanted_groups) == 0
}

# No rule matches.

refusals contains [40, concat(".", [carrier_words, "role"]), text] if {
	not own_affair
	count(matched) == 0
	text := no_rule_text
}

no_rule_text := sprintf("role %s is not yours any more; make a new request with a role that you have", [input.request.role]) if {
	using
	bound
	count(asked) == 0
} else := sprintf("you do not have role %s; leave the role out or ask for one that you have", [input.request.role]) if {
	bound
	count(asked) == 0
} else := sprintf("rule %s of role %s does not allow %s any more; make a new request", [input.request.rule, input.request.role, what]) if {
	input.action in {"activate", "connect"}
	bound
} else := sprintf("none of your roles allows break-glass for %s; make an ordinary request", [what]) if {
	break_glass
} else := sprintf("role %s does not allow %s for %s; ask the owner of the target for a role that does", [input.request.role, input.action, what]) if {
	bound
} else := sprintf("none of your roles allows %s for %s; ask the owner of the target for a role that does", [input.action, what]) if {
	input.target.name != ""
} else := sprintf("none of your roles allows %s; ask the administrators for one that does", [input.action])

# Rules match, but the conditions of none of them hold.

refusals contains [50, concat(".", ["condition", condition.kind]), text] if {
	count(held) == 0
	some i in specific
	rule := data.broker.rules[i]
	some condition in rule.conditions
	not holds(condition)
	text := sprintf("rule %s of role %s allows this %s; %s", [rule.id, rule.role, condition.text, condition_hint[condition.kind]])
}

condition_hint := {
	"weekdays": "try again then",
	"hours": "try again then",
	"sources": "connect from there",
	"ticket": "name one",
	"window": "wait for it or have one opened",
}

# A rule is chosen, but something else is missing.

refusals contains [60, "mfa.missing", text] if {
	not own_affair
	chosen.mfa_seconds > 0
	input.user.mfa_age_seconds == null
	text := sprintf("role %s needs a second factor; prove yours and try again", [chosen.role])
}

refusals contains [60, "mfa.stale", text] if {
	not own_affair
	not fresh
	is_number(input.user.mfa_age_seconds)
	text := sprintf("role %s needs a second factor not older than %s; prove yours again", [chosen.role, chosen.mfa_text])
}

refusals contains [61, "request.duration", text] if {
	opening
	chosen
	not short_enough
	text := sprintf("role %s allows at most %s; ask for %s or less", [chosen.role, chosen.max_text, chosen.max_text])
}

refusals contains [62, "break_glass.reason", "break-glass needs a reason; say what the emergency is"] if {
	opening
	not explained
}

refusals contains [70, "request.approvals", text] if {
	using
	chosen
	some quorum in unmet
	missing := quorum.count - count(approvers(quorum))
	text := sprintf("approvals are missing: %d more of %s; ask them", [missing, quorum.text])
}
