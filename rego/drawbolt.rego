# The default policy.
#
# The question is `input`, the answer is `decision` (docs/policy.md describes
# both). What is written in the roles is looked up with two functions:
#
#   drawbolt.roles(user)                    the set of the names of all roles that the user has
#   drawbolt.excluded(user)                 the set of the names of the roles that the user has none of,
#                                           because they exclude each other
#   drawbolt.rules(roles, action, question) {"rules", "recording", "answer"}: the rules of these roles
#                                           that list the action for the account and the target of the
#                                           question: the most specific first, of equally specific ones
#                                           the strictest. A rule's "unmet" are its conditions that do
#                                           not hold now. Recording is how strictly these rules record.
#                                           Answer is the decision that lets a request in by the first
#                                           rule; there is none when that has unmet conditions or records
#                                           less strictly than another.
#
# What a decision costs is the number of expressions and rules that are evaluated: an
# expression costs little, a rule as much as six of them, and a rule that compares a
# field of the input with something else is not evaluated at all.
#
# Whatever is not allowed by a rule here is refused. Permission is written as
# what must hold, and compared with == where something must not hold, so that a
# missing value refuses. The sentences for people are in reasons.rego and permit
# nothing.
package drawbolt

# The ordinary question has a short way: when somebody asks for themselves, the
# first of their rules lets them, or there is none. That answer is ready with the
# rules. A test compares it with what the long way answers.
decision := answer if {
	answer := ordinary.answer
	is_number(input.user.mfa_age_seconds)
	input.user.mfa_age_seconds <= answer.mfa_seconds
	input.request.duration_seconds <= answer.max_seconds
} else := object.union(nothing, {"reasons": [{"rule": "request.role", "text": no_rule}]}) if {
	ordinary.rules == []
} else := {
	"allow": allow,
	"role": rule.role,
	"rule": rule.id,
	"approvals": approvals,
	"deny_threshold": rule.deny_threshold,
	"max_seconds": rule.max_seconds,
	"session": session,
	"mfa_seconds": rule.mfa_seconds,
	"break_glass": break_glass,
	"reasons": reasons,
} if {
	rule := chosen # a refusal tells its terms too, so that a client can say what is missing
} else := object.union(nothing, {"allow": free, "break_glass": break_glass, "reasons": reasons})

# The rules that may let an ordinary request in.
ordinary := drawbolt.rules(drawbolt.roles(input.user), "request", input) if {
	object.subset(input, {
		"action": "request",
		"request": {"break_glass": false, "role": ""},
		"user": {"locked": false},
		"target": {"locked": false},
	})
	input.target.name != ""
	input.account != ""
	input.user.id == input.request.requester
}

nothing := {
	"allow": false,
	"role": "",
	"rule": "",
	"approvals": [],
	"max_seconds": 0,
	"session": {
		"recording": "strict", "shell": false, "exec": false, "agent": false, "x11": false,
		"commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false,
	},
	"mfa_seconds": 0,
	"break_glass": false,
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
	not crossed
}

# Everything else.
allow if {
	general
	input.user.locked == false
	fresh
}

allow if free

general if not input.action in {
	"request", "activate", "connect", "extend", "checkout",
	"approve", "deny", "cancel", "release",
}

# What needs no role.
default free := false

# To give up what is one's own; it only takes access away.
free if {
	input.action in {"cancel", "release"}
	input.user.locked == false
	input.request.id != ""
	mine
}

# The same of what one's own bot has: somebody must be able to stop it.
free if {
	input.action in {"cancel", "release"}
	input.user.locked == false
	input.request.id != ""
	owned
}

# To see and keep what is one's own.
free if {
	input.action in {"request.read", "session.list", "key.write", "vote.delegate"}
	input.user.locked == false
	mine
}

# What one's own bot asks for is seen, and not decided.
free if {
	input.action == "request.read"
	input.user.locked == false
	owned
}

# Who may vote on a request may read it.
free if {
	input.action == "request.read"
	input.user.locked == false
	others
	count(voter_groups) > 0
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

# Of a bot that is theirs.
owned if {
	person(input.request.owner) != ""
	person(input.user.id) == person(input.request.owner)
}

# Not the same as "not mine", which would hold when somebody is missing. What a
# bot asks for is its owner's, too.
others if {
	person(input.request.requester) != ""
	(person(input.user.id) in requesters) == false
}

requesters := {person(input.request.requester), person(input.request.owner)} - {""}

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

# The most specific rules decide: a more general one never opens what a more
# specific one closes. Of these, those count whose conditions hold now, and of
# these the strictest is taken.
chosen := rule if {
	rule := matched[0]
	rule.unmet == []
} else := [rule |
	some rule in matched
	rule.level == matched[0].level
	rule.unmet == []
][0]

# What was approved was one rule: another one of the same role will not do.
matched := [rule | some rule in found.rules; rule.id == input.request.rule] if {
	input.action in {"activate", "connect"}
} else := found.rules

found := drawbolt.rules(asked, carrier, input)

# The listed action that carries the asked one.
carrier := "request" if {
	input.action in {"request", "activate", "connect"}
	input.request.break_glass == false
} else := "break_glass" if {
	break_glass
} else := input.action

# The roles that may carry this. A request can be bound to one of them: because
# the requester wants that one, or because it was let in with it.
asked := drawbolt.roles(voter) if {
	input.action in {"approve", "deny"}
} else := drawbolt.roles(input.user) if {
	input.request.role == ""
} else := {input.request.role} & drawbolt.roles(input.user) if {
	input.action in {"request", "activate", "connect", "extend", "checkout"}
} else := drawbolt.roles(input.user)

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
	vote.step == quorum.step
	some group in vote.groups
	vote.waited_seconds >= quorum.groups[group]
} - (requesters | {""})

# A vote against may be cast on a locked target, one for it not.
open_for_vote if input.action == "deny"

open_for_vote if input.target.locked == false

voted if {
	input.action == "approve"
	some vote in input.request.approvals
	person(vote.user_id) == person(input.user.id)
}

# Who has asked for something under the ticket does not approve under it, where the
# rule separates the two.
crossed if {
	input.action == "approve"
	some rule in requested_rules
	rule.separate
	some id in input.request.ticket.requested_by
	person(id) == person(input.user.id)
}

voter_groups := wanted_groups & {group | some group in voter.groups}

# Who votes may do so in the place of others who have handed their votes over.
voter := object.union(input.user, {"groups": array.concat(input.user.groups, input.user.stands_for)})

# The groups whose votes the request's own rule asks for, sooner or later: when it
# is whose turn is counted with the votes.
wanted_groups contains group if {
	some rule in requested_rules
	some need in rule.approvals
	some group in array.concat(need.groups, object.get(need, "escalate_to", []))
}

requested_rules := [rule |
	input.request.break_glass == false
	some rule in drawbolt.rules({input.request.role}, "request", input).rules
	rule.id == input.request.rule
]

# ---- What a session may do ----

# Strict recording wins, whichever of the user's matching rules asks for it, also
# when the request is bound to one of their roles.
session := object.union(chosen.session, {
	"recording": drawbolt.rules(drawbolt.roles(input.user), carrier, input).recording,
})
