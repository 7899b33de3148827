# The default policy.
#
# The question is `input`, the answer is `decision` (docs/policy.md describes
# both). `data.broker` is made from the roles by package policy:
#
#   users[user id][role], groups[group][role]   who has a role
#   index[role][action]                         positions in rules, by target
#   rules[position]                             sorted, the most specific first
#
# Whatever is not allowed by a rule here is refused. Permission is written as
# what must hold, so that something missing refuses; the sentences for people
# are in reasons.rego and permit nothing.
package drawbolt

# A refusal by a rule tells the rule's terms too, so that a client can say what
# is missing.
decision := {
	"allow": allow,
	"role": chosen.role,
	"rule": chosen.id,
	"approvals": approvals,
	"max_seconds": chosen.max_seconds,
	"session": session,
	"mfa_seconds": chosen.mfa_seconds,
	"break_glass": break_glass,
	"reasons": reasons,
} if {
	not own_affair
	chosen
} else := object.union(no_terms, {"allow": allow, "reasons": reasons})

no_terms := {
	"role": "",
	"rule": "",
	"approvals": [],
	"max_seconds": 0,
	"session": {
		"recording": "strict", "shell": false, "exec": false, "sftp": false,
		"forwards": false, "agent": false, "x11": false,
	},
	"mfa_seconds": 0,
	"break_glass": false,
}

# ---- The kinds of action ----

opening := input.action in {"request", "activate", "connect", "checkout", "extend"}

voting := input.action in {"approve", "deny"}

# Giving up what is one's own is always possible: it only takes access away.
own_affair := input.action in {"cancel", "release"}

# using: something is done under a request that was let in before.
using if {
	opening
	input.action != "request"
}

default break_glass := false

break_glass if {
	opening
	input.request.break_glass
}

# The listed action that carries the asked one.
carrier := "break_glass" if {
	break_glass
} else := "request" if {
	input.action in {"activate", "connect"}
} else := input.action

# The listed action that carried the request which is voted on.
requested := "break_glass" if {
	input.request.break_glass
} else := "request"

# ---- Who has which roles ----

roles contains role if some role, _ in data.broker.users[input.user.id]

roles contains role if {
	some group in input.user.groups
	some role, _ in data.broker.groups[group]
}

# Once a request is bound to a role, no other role of the user can carry it.
bound if {
	opening
	input.request.role != ""
}

asked := {input.request.role} & roles if {
	bound
} else := roles

# ---- Which rule decides ----

# found(role, action) are the positions of the role's rules for this target and account.
found(role, action) := {i |
	some i in candidates(data.broker.index[role][action])
	rule := data.broker.rules[i]
	startswith(input.target.name, rule.prefix)
	fits_account(rule)
	fits_labels(rule)
}

candidates(at) := {i | some i in at.any} |
	{i | some i in at.names[input.target.name]} |
	{i |
		some key, value in input.target.labels
		some i in at.labels[key][value]
	}

fits_account(rule) if rule.all_accounts

fits_account(rule) if rule.accounts[input.account]

fits_labels(rule) if count(rule.labels) == 0

fits_labels(rule) if {
	count(rule.labels) > 0
	every key, values in rule.labels {
		values[input.target.labels[key]]
	}
}

matched contains i if {
	some role in asked
	some i in found(role, carrier)
	same_rule(i)
}

# What was approved was one rule: another one of the same role will not do.
same_rule(i) if data.broker.rules[i].id == input.request.rule

same_rule(_) if not input.action in {"activate", "connect"}

# The most specific rules decide. A more general rule never opens what a more
# specific one closes.
specific := {i |
	some i in matched
	data.broker.rules[i].level == data.broker.rules[min(matched)].level
}

# Of these, those whose conditions hold now.
held := {i |
	some i in specific
	not failing(i)
}

failing(i) if {
	some condition in data.broker.rules[i].conditions
	not holds(condition)
}

# Of these, the strictest: they are sorted.
chosen := data.broker.rules[min(held)]

holds(c) if {
	c.kind == "weekdays"
	c.values[input.environment.weekday]
}

holds(c) if {
	c.kind == "hours"
	now := (input.environment.hour * 60) + input.environment.minute
	some span in c.values
	now >= span[0]
	now < span[1]
}

holds(c) if {
	c.kind == "sources"
	input.environment.source != ""
	some network in c.values
	net.cidr_contains(network, input.environment.source)
}

holds(c) if {
	c.kind == "ticket"
	trim_space(input.environment.ticket) != ""
}

holds(c) if {
	c.kind == "window"
	input.environment.maintenance_window
}

# ---- What is allowed ----

default allow := false

allow if {
	opening
	unlocked
	named
	mine
	fresh
	short_enough
	approved
	explained
}

allow if {
	voting
	not input.user.locked
	open_for_vote
	bound_request
	not by_bot
	not by_requester
	not voted
	count(voter_groups) > 0
	fresh
}

allow if {
	own_affair
	not input.user.locked
	input.request.id != ""
	mine
}

allow if {
	not opening
	not voting
	not own_affair
	not input.user.locked
	fresh
}

unlocked if {
	not input.user.locked
	not input.target.locked
}

# A vote against may be cast on a locked target, one for it not.
open_for_vote if input.action == "deny"

open_for_vote if not input.target.locked

# There is a machine and an account, and below a request also that request.
named if {
	input.target.name != ""
	input.account != ""
	under_request
}

under_request if not using

under_request if {
	using
	bound_request
}

bound_request if {
	input.request.id != ""
	input.request.role != ""
	input.request.rule != ""
}

mine if person(input.user.id) == person(input.request.requester)

# One person is one person, however a directory spells the id today.
person(id) := lower(trim_space(id))

# The second factor, as the chosen rule wants it. Undefined without a rule.
fresh if chosen.mfa_seconds == 0

fresh if {
	chosen.mfa_seconds > 0
	is_number(input.user.mfa_age_seconds)
	input.user.mfa_age_seconds <= chosen.mfa_seconds
}

short_enough if input.action == "checkout"

short_enough if input.request.duration_seconds <= chosen.max_seconds

# A request as such needs no approvals yet, everything under it does.
approved if not using

approved if {
	using
	count(unmet) == 0
}

approvals := [] if {
	break_glass
} else := chosen.approvals

# The quorums that are not reached by the approvers as they are now.
unmet contains quorum if {
	not break_glass
	some quorum in chosen.quorums
	count(approvers(quorum)) < quorum.count
}

approvers(quorum) := {person(vote.user_id) |
	some vote in input.request.approvals
	some group in vote.groups
	quorum.groups[group]
	person(vote.user_id) != person(input.request.requester)
	person(vote.user_id) != ""
}

explained if not break_glass

explained if {
	break_glass
	trim_space(input.request.reason) != ""
}

# ---- Votes ----

by_bot if input.user.bot

by_requester if mine

by_requester if person(input.request.requester) == ""

voted if {
	input.action == "approve"
	some vote in input.request.approvals
	person(vote.user_id) == person(input.user.id)
}

# The groups whose votes the request's own rule asks for.
wanted_groups contains group if {
	some i in found(input.request.role, requested)
	rule := data.broker.rules[i]
	rule.id == input.request.rule
	some need in rule.approvals
	some group in need.groups
}

voter_groups := {group | some group in input.user.groups} & wanted_groups

# ---- What a session may do ----

# Strict recording wins, whichever of the matching rules asks for it.
session := object.union(chosen.session, {"recording": "strict"}) if {
	chosen.session.recording != "strict"
	some i in matched
	data.broker.rules[i].session.recording == "strict"
} else := chosen.session
