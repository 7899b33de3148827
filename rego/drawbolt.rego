# The default policy.
#
# The question is `input`, the answer is `decision` (docs/policy.md describes
# both). `data.broker` is made from the roles by package policy:
#
#   users[user id][role], groups[group][role]   who has a role
#   index[action][account or "*"][target or ""] selectors {keys, table}; table[labels][role]: positions
#                                               in rules, where labels is an object of just these keys
#   rules[position]                             sorted: the most specific first,
#                                               of equally specific ones the strictest
#   prefixed                                    positions of rules that select names by a prefix
#   stricter[recording]                         positions of rules that record more strictly than that
#
# keys, prefixed, stricter[...] and table[...][...] are sets. What a decision costs
# is the number of expressions that are evaluated, so the ordinary way is short:
# whole sets and objects are met with each other, and the answer of a rule that
# allows is ready.
#
# Whatever is not allowed by a rule here is refused. Permission is written as
# what must hold, and compared with == where something must not hold, so that a
# missing value refuses. The sentences for people are in reasons.rego and permit
# nothing.
package drawbolt

# The ordinary answer is ready with the rule. When a rule is chosen, a refusal
# tells its terms too, so that a client can say what is missing.
decision := answer if {
	rule := chosen
	input.request.break_glass == false
	matched & data.broker.stricter[rule.session.recording] == set()
	allow
	answer := rule.answers[input.action]
} else := {
	"allow": allow,
	"role": rule.role,
	"rule": rule.id,
	"approvals": approvals,
	"max_seconds": rule.max_seconds,
	"session": session,
	"mfa_seconds": rule.mfa_seconds,
	"break_glass": break_glass,
	"reasons": reasons,
} if {
	rule := chosen
} else := {
	"allow": allow,
	"role": "",
	"rule": "",
	"approvals": [],
	"max_seconds": 0,
	"session": {
		"recording": "strict", "shell": false, "exec": false, "sftp": false,
		"forwards": false, "agent": false, "x11": false,
	},
	"mfa_seconds": 0,
	"break_glass": break_glass,
	"reasons": reasons,
}

# ---- What is allowed ----

default allow := false

# To ask.
allow if {
	input.action == "request"
	usable
	short_enough
}

# To use what was granted: asked again with the roles and approvers of now.
allow if {
	input.action in {"activate", "connect", "extend", "checkout"}
	usable
	let_in
	short_enough
	approved
}

# To vote.
allow if {
	input.action in {"approve", "deny"}
	input.user.locked == false
	input.user.bot == false
	open_for_vote
	let_in
	others
	not voted
	count(voter_groups) > 0
	fresh
}

# To give up what is one's own; it only takes access away, so no role is needed.
allow if {
	input.action in {"cancel", "release"}
	input.user.locked == false
	input.request.id != ""
	mine
}

# To see and keep what is one's own.
allow if {
	input.action in {"request.read", "session.list", "key.write"}
	input.user.locked == false
	mine
}

own if {
	input.action in {"cancel", "release", "request.read", "session.list", "key.write"}
	mine
}

# Who may vote on a request may read it.
allow if {
	input.action == "request.read"
	input.user.locked == false
	others
	count(voter_groups) > 0
}

# Everything else.
allow if {
	general
	input.user.locked == false
	fresh
}

general if not input.action in {
	"request", "activate", "connect", "extend", "checkout",
	"approve", "deny", "cancel", "release",
}

usable if {
	input.user.locked == false
	input.target.locked == false
	input.target.name != ""
	input.account != ""
	mine
	fresh
	explained
}

# The request is one that an earlier decision let in.
let_in if {
	input.request.id != ""
	input.request.role != ""
	input.request.rule != ""
}

mine if input.user.id == input.request.requester

mine if person(input.user.id) == person(input.request.requester)

# Not the same as "not mine", which would hold when somebody is missing.
others if {
	person(input.request.requester) != ""
	person(input.user.id) != person(input.request.requester)
}

# One person is one person, however a directory spells the id today.
person(id) := lower(trim_space(id))

# The second factor, as the chosen rule wants it. Undefined without a rule.
fresh if {
	age := input.user.mfa_age_seconds
	is_number(age)
	age <= chosen.mfa_seconds
}

fresh if chosen.mfa_seconds == 0

# The length of a grant was settled before a password is looked at.
short_enough if input.action == "checkout"

short_enough if input.request.duration_seconds <= chosen.max_seconds

default break_glass := false

break_glass if {
	input.request.break_glass == true
	input.action in {"request", "activate", "connect", "extend", "checkout"}
}

explained if input.request.break_glass == false

explained if {
	input.request.break_glass == true
	trim_space(input.request.reason) != ""
}

# ---- Which rule decides ----

chosen := rule if {
	rule := data.broker.rules[best]
	every condition in rule.conditions {
		holds(condition.kind, condition.values)
	}
} else := data.broker.rules[min(held)]

best := min(matched)

# The most specific rules decide: a more general one never opens what a more
# specific one closes. Of these, those count whose conditions hold now, and of
# these the strictest is taken.
specific contains i if {
	some i in matched
	data.broker.rules[i].level == data.broker.rules[best].level
}

held contains i if {
	some i in specific
	not failing(i)
}

failing(i) if {
	some condition in data.broker.rules[i].conditions
	not holds(condition.kind, condition.values)
}

# What was approved was one rule: another one of the same role will not do.
matched := {i |
	some i in found(asked, carrier)
	data.broker.rules[i].id == input.request.rule
} if {
	input.action in {"activate", "connect"}
} else := found(asked, carrier)

# found(roles, action) are the positions of the roles' rules that list the action
# for this target and account.
found(names, action) := here - {i |
	some i in here & data.broker.prefixed
	not startswith(input.target.name, data.broker.rules[i].prefix)
} if {
	here := {i |
		accounts := data.broker.index[action]
		labels := input.target.labels
		some selector in accounts[[input.account, "*"][_]][[input.target.name, ""][_]]
		at := selector.table[object.filter(labels, selector.keys)]
		some i in object.filter(at, names)[_]
	}
}

# The listed action that carries the asked one.
carrier := "request" if {
	input.action in {"request", "activate", "connect"}
	input.request.break_glass == false
} else := "break_glass" if {
	break_glass
} else := input.action

roles := {role |
	groups := data.broker.groups # read once: looking into a variable is faster
	some group in input.user.groups
	some role, _ in groups[group]
} | {role | some role, _ in data.broker.users[input.user.id]}

# The roles that may carry this. A request can be bound to one of them: because
# the requester wants that one, or because it was let in with it.
asked := roles if {
	input.request.role == ""
} else := {input.request.role} & roles if {
	input.action in {"request", "activate", "connect", "extend", "checkout"}
} else := roles

# ---- Conditions ----

holds("weekdays", days) if days[input.environment.weekday]

holds("hours", spans) if {
	now := [input.environment.hour, input.environment.minute]
	some [from, to] in spans
	now >= from
	now < to
}

holds("sources", networks) if {
	input.environment.source != ""
	some network in networks
	net.cidr_contains(network, input.environment.source)
}

holds("ticket", _) if trim_space(input.environment.ticket) != ""

holds("window", _) if input.environment.maintenance_window

# ---- Approvals ----

approvals := [] if {
	break_glass
} else := chosen.approvals

approved if break_glass

approved if {
	every quorum in chosen.quorums {
		reached(quorum)
	}
}

# Counted over the approvers as they are now.
reached(quorum) if count(approvers(quorum)) >= quorum.count

approvers(quorum) := {person(vote.user_id) |
	some vote in input.request.approvals
	some group in vote.groups
	quorum.groups[group]
} - {person(input.request.requester), ""}

# A vote against may be cast on a locked target, one for it not.
open_for_vote if input.action == "deny"

open_for_vote if input.target.locked == false

voted if {
	input.action == "approve"
	some vote in input.request.approvals
	person(vote.user_id) == person(input.user.id)
}

voter_groups := wanted_groups & {group | some group in input.user.groups}

# The groups whose votes the request's own rule asks for.
wanted_groups contains group if {
	some i in requested_rules
	some need in data.broker.rules[i].approvals
	some group in need.groups
}

requested_rules := {i |
	input.request.break_glass == false
	some i in found({input.request.role}, "request")
	data.broker.rules[i].id == input.request.rule
}

# ---- What a session may do ----

# Strict recording wins, whichever of the matching rules asks for it.
session := object.union(chosen.session, {"recording": "strict"}) if {
	count(matched & data.broker.stricter[chosen.session.recording]) > 0
} else := chosen.session
