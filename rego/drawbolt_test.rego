# Tests over the roles of testdata/roles.json. Each permission stands next to
# the nearest thing that must be refused.
package drawbolt_test

import data.drawbolt

alice := {
	"id": "u-alice", "name": "alice", "groups": ["dbas"], "bot": false, "locked": false,
	"mfa_age_seconds": 60, "attributes": {}, "stands_for": [],
}

lead := object.union(alice, {"id": "u-lead", "name": "lena", "groups": ["db-leads"]})

custodian := object.union(alice, {"id": "u-kim", "name": "kim", "groups": ["custodians"]})

officer := object.union(alice, {"id": "u-sec", "name": "sam", "groups": ["security"]})

ops := object.union(alice, {"id": "u-ops", "name": "olga", "groups": ["ops"]})

auditor := object.union(alice, {"id": "u-aud", "name": "ada", "groups": ["auditors"]})

stranger := object.union(alice, {"id": "u-none", "name": "nemo", "groups": ["everybody"]})

target(name, environment) := {
	"id": concat("-", ["t", name]), "name": name,
	"labels": {"environment": environment, "tier": "1", "owner": "team-db"},
	"applications": [], "locked": false,
}

db01 := target("db01", "prod")

# Wednesday, 10:30.
now := {
	"time": "2026-03-04T10:30:00Z", "weekday": "wednesday", "hour": 10, "minute": 30,
	"source": "10.1.2.3", "maintenance_window": false, "ticket": "", "freeze": "",
	"sessions": {"of_user": 0, "on_target": 0, "on_account_of_others": 0},
}

no_ticket := {
	"id": "", "valid": false, "state": "", "assignee": "", "title": "", "why": "",
	"requested_by": [], "approved_by": [],
}

no_request := {
	"id": "", "requester": "", "owner": "", "role": "", "rule": "", "reason": "", "duration_seconds": 0,
	"break_glass": false, "created_at": "", "approvals": [], "state": "", "ticket": no_ticket,
}

# alice asks for root on db01 for an hour.
ask := {
	"action": "request", "user": alice, "target": db01, "account": "root", "environment": now,
	"request": object.union(no_request, {"requester": "u-alice", "reason": "INC-1", "duration_seconds": 3600}),
}

by_lead := {"user_id": "u-lead", "groups": ["db-leads"], "step": 0, "waited_seconds": 0}

by_officer := {"user_id": "u-sec", "groups": ["security"], "step": 0, "waited_seconds": 0}

# The same, let in and approved by the lead.
use := with_request(object.union(ask, {"action": "connect"}), {
	"id": "r-1", "role": "db-admin", "rule": "prod", "state": "approved", "approvals": [by_lead],
})

# The lead votes for it.
vote := with_request(object.union(use, {"action": "approve", "user": lead}), {"state": "pending", "approvals": []})

urgent := with_request(ask, {"break_glass": true, "duration_seconds": 600})

# olga asks for root on a machine.
ops_ask(name) := with_request(
	object.union(ask, {"user": ops, "target": target(name, "prod")}),
	{"requester": "u-ops"},
)

general(action, user) := object.union(ask, {
	"action": action, "user": user, "account": "",
	"target": {"id": "", "name": "", "labels": {}, "applications": [], "locked": false},
	"request": no_request,
})

with_request(q, fields) := object.union(q, {"request": fields})

with_user(q, fields) := object.union(q, {"user": fields})

with_env(q, fields) := object.union(q, {"environment": fields})

locked(q) := object.union(q, {"target": {"locked": true}})

allowed(q) if drawbolt.decision.allow == true with input as q

# The first reason is the one that decided.
refused(q, rule) if {
	d := drawbolt.decision with input as q
	d.allow == false
	d.reasons[0].rule == rule
}

says(q, part) if {
	d := drawbolt.decision with input as q
	contains(d.reasons[0].text, part)
}

# ---- Roles ----

test_request if allowed(ask)

test_request_terms if {
	d := drawbolt.decision with input as ask
	d.role == "db-admin"
	d.rule == "prod"
	d.approvals == [{"count": 1, "groups": ["db-leads"]}]
	d.max_seconds == 14400
	d.mfa_seconds == 3600
	d.break_glass == false
	d.session == {
		"recording": "standard", "shell": true, "exec": true, "agent": false, "x11": false,
		"commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false,
	}
}

test_request_as_named_user if allowed(with_request(
	with_user(ask, {"id": "u-frank", "groups": []}),
	{"requester": "u-frank"},
))

test_stranger if refused(with_request(object.union(ask, {"user": stranger}), {"requester": "u-none"}), "request.role")

test_stranger_is_sent_to_the_owner if says(
	with_request(object.union(ask, {"user": stranger}), {"requester": "u-none"}),
	"ask its owner team-db",
)

test_other_account if refused(object.union(ask, {"account": "oracle"}), "request.role")

test_no_account if refused(object.union(ask, {"account": ""}), "target.missing")

test_no_account_where_all_are_allowed if refused(object.union(ops_ask("misc"), {"account": ""}), "target.missing")

test_no_target if refused(object.union(ask, {"target": {"name": ""}}), "target.missing")

test_other_environment if refused(object.union(ask, {"target": {"labels": {"environment": "lab"}}}), "request.role")

test_missing_label if {
	q := object.union(object.remove(ask, ["target"]), {"target": object.union(
		object.remove(db01, ["labels"]),
		{"labels": {}},
	)})
	refused(q, "request.role")
}

test_inherited if {
	q := object.union(ask, {"target": target("stage1", "staging"), "account": "postgres"})
	allowed(q)
	d := drawbolt.decision with input as q
	d.role == "db-reader"
}

test_inherited_needs_every_label if refused(
	object.union(ask, {"target": {"name": "stage0", "labels": {"environment": "staging", "tier": "0"}}, "account": "postgres"}),
	"request.role",
)

test_named_role if allowed(with_request(ask, {"role": "db-admin"}))

test_named_role_not_had if refused(with_request(ask, {"role": "maintenance"}), "request.role")

test_named_role_not_enough if refused(with_request(ask, {"role": "db-reader"}), "request.role")

test_for_somebody_else if refused(with_request(ask, {"requester": "u-bob"}), "request.other")

# ---- Duration ----

test_longest_duration if allowed(with_request(ask, {"duration_seconds": 14400}))

test_too_long if refused(with_request(ask, {"duration_seconds": 14401}), "request.duration")

test_too_long_says_how_long if says(
	with_request(ask, {"duration_seconds": 90000}),
	"role db-admin allows at most 4h; ask for 4h or less",
)

# ---- Second factor ----

test_mfa_just_fresh if allowed(with_user(ask, {"mfa_age_seconds": 3600}))

test_mfa_stale if refused(with_user(ask, {"mfa_age_seconds": 3601}), "mfa.stale")

test_mfa_never if refused(with_user(ask, {"mfa_age_seconds": null}), "mfa.missing")

test_mfa_of_wrong_type if {
	d := drawbolt.decision with input as with_user(ask, {"mfa_age_seconds": "1"})
	d.allow == false
}

# ---- Locks ----

test_locked_user if refused(with_user(ask, {"locked": true}), "user.locked")

test_locked_user_connect if refused(with_user(use, {"locked": true}), "user.locked")

test_locked_user_reads_nothing if refused(with_user(general("audit.read", auditor), {"locked": true}), "user.locked")

test_locked_target if refused(locked(ask), "target.locked")

test_locked_target_connect if refused(locked(use), "target.locked")

test_locked_target_approve if refused(locked(vote), "target.locked")

test_locked_target_deny if allowed(locked(object.union(vote, {"action": "deny"})))

test_locked_target_revoke if allowed(locked(object.union(use, {"action": "revoke", "user": officer})))

# ---- Conditions ----

test_office if allowed(ops_ask("web-1"))

test_office_opens if allowed(with_env(ops_ask("web-1"), {"hour": 8, "minute": 0}))

test_too_early if refused(with_env(ops_ask("web-1"), {"hour": 7, "minute": 59}), "condition.hours")

test_too_late if refused(with_env(ops_ask("web-1"), {"hour": 18, "minute": 0}), "condition.hours")

test_weekend if refused(with_env(ops_ask("web-1"), {"weekday": "sunday"}), "condition.weekdays")

test_outside if refused(with_env(ops_ask("web-1"), {"source": "192.0.2.1"}), "condition.sources")

test_inside_ipv6 if allowed(with_env(ops_ask("web-1"), {"source": "fd00::1"}))

test_inside_ipv4_written_as_ipv6 if allowed(with_env(ops_ask("web-1"), {"source": "::ffff:10.1.2.3"}))

test_unknown_source if refused(with_env(ops_ask("web-1"), {"source": ""}), "condition.sources")

test_over_midnight if {
	allowed(with_env(ops_ask("batch-1"), {"hour": 23}))
	allowed(with_env(ops_ask("batch-1"), {"hour": 5, "minute": 59}))
	refused(with_env(ops_ask("batch-1"), {"hour": 6, "minute": 0}), "condition.hours")
}

in_window := with_env(ops_ask("core-1"), {"maintenance_window": true, "ticket": "CHG-7"})

test_window if allowed(in_window)

test_no_window if refused(with_env(in_window, {"maintenance_window": false}), "condition.window")

test_no_ticket if refused(with_env(in_window, {"ticket": ""}), "condition.ticket")

test_blank_ticket if refused(with_env(in_window, {"ticket": " "}), "condition.ticket")

test_every_missing_condition_is_named if {
	d := drawbolt.decision with input as ops_ask("core-1")
	{r.rule | some r in d.reasons} == {"condition.ticket", "condition.window"}
}

# ---- Which rule ----

test_general_rule if {
	d := drawbolt.decision with input as ops_ask("misc")
	d.rule == "everything"
	d.allow
}

test_specific_rule_closes_general_one if refused(
	with_env(ops_ask("web-1"), {"weekday": "sunday"}),
	"condition.weekdays",
)

test_name_before_label if {
	d := drawbolt.decision with input as object.union(ask, {"target": target("vault-db", "prod")})
	d.rule == "vault-db"
}

test_strict_recording_wins if {
	q := with_user(ops_ask("misc"), {"groups": ["ops", "watched"]})
	d := drawbolt.decision with input as with_request(q, {"duration_seconds": 60})
	d.session.recording == "strict"
	e := drawbolt.decision with input as ops_ask("misc")
	e.session.recording == "standard"
}

test_less_specific_rule_makes_it_strict if {
	d := drawbolt.decision with input as with_user(ask, {"groups": ["dbas", "watched"]})
	d.rule == "prod"
	d.session.recording == "strict"
}

# Nobody gets around it by asking for another of their roles.
test_rule_of_another_role_makes_it_strict if {
	d := drawbolt.decision with input as with_user(use, {"groups": ["dbas", "watched"]})
	d.allow == true
	d.role == "db-admin"
	d.session.recording == "strict"
}

test_rules_that_do_not_match_do_not_make_it_strict if {
	d := drawbolt.decision with input as with_user(ask, {"groups": ["dbas", "ops"]})
	d.rule == "prod"
	d.session.recording == "standard"
}

# Equally specific: the stricter, which is the shorter.
test_strictest_rule if {
	q := with_user(ops_ask("misc"), {"groups": ["ops", "watched"]})
	d := drawbolt.decision with input as q
	d.rule == "strict"
}

# ---- Under a request ----

test_connect if allowed(use)

test_activate if allowed(object.union(use, {"action": "activate"}))

test_extend if allowed(object.union(use, {"action": "extend"}))

test_extend_over_the_limit if refused(
	with_request(object.union(use, {"action": "extend"}), {"duration_seconds": 15000}),
	"request.duration",
)

test_checkout if allowed(object.union(use, {"action": "checkout"}))

test_checkout_not_listed if {
	q := object.union(use, {"action": "checkout", "target": target("vault-db", "staging"), "account": "postgres"})
	refused(with_request(q, {"role": "db-reader", "rule": "staging"}), "checkout.role")
}

test_connect_without_request if refused(with_request(use, {"id": ""}), "request.missing")

test_connect_without_rule if refused(with_request(use, {"rule": ""}), "request.missing")

test_connect_of_another if refused(with_request(use, {"requester": "u-bob"}), "request.other")

test_role_lost if refused(with_user(use, {"groups": ["ops"]}), "request.role")

test_rule_gone if refused(with_request(use, {"rule": "gone"}), "request.role")

test_rule_of_another_role if refused(with_request(with_user(use, {"groups": ["dbas", "ops"]}), {"rule": "everything"}), "request.role")

test_not_approved if refused(with_request(use, {"approvals": []}), "request.approvals")

test_approver_left if refused(
	with_request(use, {"approvals": [{"user_id": "u-lead", "groups": ["everybody"], "step": 0, "waited_seconds": 0}]}),
	"request.approvals",
)

test_own_approval_does_not_count if refused(
	with_request(use, {"approvals": [{"user_id": " U-Alice ", "groups": ["db-leads"], "step": 0, "waited_seconds": 0}]}),
	"request.approvals",
)

test_nobodys_approval_does_not_count if refused(
	with_request(use, {"approvals": [{"user_id": "", "groups": ["db-leads"], "step": 0, "waited_seconds": 0}]}),
	"request.approvals",
)

two := with_request(object.union(use, {"target": target("vault-db", "prod")}), {"rule": "vault-db"})

test_three_persons if allowed(with_request(two, {"approvals": [
	by_lead, by_officer, {"user_id": "u-sec2", "groups": ["security"], "step": 0, "waited_seconds": 0},
]}))

# Two persons make each need look met, but one of them would count twice.
test_nobody_counts_twice if refused(with_request(two, {"approvals": [by_lead, by_officer]}), "request.approvals")

test_one_person_votes_twice if refused(
	with_request(two, {"approvals": [by_lead, by_officer, object.union(by_officer, {"user_id": "U-SEC"})]}),
	"request.approvals",
)

test_needs_the_right_groups if refused(
	with_request(two, {"approvals": [
		by_lead, {"user_id": "u-lead2", "groups": ["db-leads"], "step": 0, "waited_seconds": 0}, {"user_id": "u-lead3", "groups": ["db-leads"], "step": 0, "waited_seconds": 0},
	]}),
	"request.approvals",
)

# ---- Steps, escalation, needs for some ----

ledger := with_request(object.union(use, {"target": target("ledger", "prod")}), {"rule": "ledger"})

ledger_ask := object.union(ask, {"target": target("ledger", "prod")})

cast(user, group, step, waited) := {"user_id": user, "groups": [group], "step": step, "waited_seconds": waited}

in_order := [cast("u-lead", "db-leads", 0, 0), cast("u-sec", "security", 1, 0)]

test_steps if allowed(with_request(ledger, {"approvals": in_order}))

test_vote_in_another_step if refused(
	with_request(ledger, {"approvals": [cast("u-lead", "db-leads", 0, 0), cast("u-sec", "security", 0, 0)]}),
	"request.approvals",
)

test_escalated if allowed(with_request(ledger, {"approvals": [cast("u-lead", "db-leads", 0, 0), cast("u-m", "managers", 1, 600)]}))

test_escalated_too_early if refused(
	with_request(ledger, {"approvals": [cast("u-lead", "db-leads", 0, 0), cast("u-m", "managers", 1, 599)]}),
	"request.approvals",
)

test_terms_of_a_short_one if {
	d := drawbolt.decision with input as ledger_ask
	d.allow == true
	d.deny_threshold == 2
	d.approvals == [
		{"count": 1, "groups": ["db-leads"]},
		{"count": 1, "groups": ["security"], "step": 1, "escalate_after_seconds": 600, "escalate_to": ["managers"]},
	]
}

test_longer_needs_more if {
	d := drawbolt.decision with input as with_request(ledger_ask, {"duration_seconds": 3601})
	count(d.approvals) == 3
	d.approvals[2] == {"count": 1, "groups": ["custodians"], "step": 2}
}

test_longer_on_another_tier_does_not if {
	q := with_request(ledger_ask, {"duration_seconds": 3601})
	d := drawbolt.decision with input as object.union(q, {"target": {"labels": {"tier": "2"}}})
	count(d.approvals) == 2
}

test_longer_with_all if allowed(with_request(ledger, {
	"duration_seconds": 3601,
	"approvals": array.concat(in_order, [cast("u-kim", "custodians", 2, 0)]),
}))

test_longer_without_the_last if refused(
	with_request(ledger, {"duration_seconds": 3601, "approvals": in_order}),
	"request.approvals",
)

# ---- Votes in the place of others, and on what bots ask for ----

deputy := object.union(alice, {"id": "u-dep", "name": "dora", "groups": ["everybody"], "stands_for": ["db-leads"]})

test_vote_in_the_place_of_another if allowed(object.union(vote, {"user": deputy}))

test_nobody_handed_their_votes_over if refused(object.union(vote, {"user": object.union(deputy, {"stands_for": []})}), "vote.group")

# What was handed over are votes, and not what a group may do besides.
test_votes_are_no_rights if refused(
	with_request(with_user(ask, {"id": "u-dep", "groups": ["everybody"], "stands_for": ["dbas"]}), {"requester": "u-dep"}),
	"request.role",
)

test_owner_approves_the_bots if refused(with_request(vote, {"requester": "u-bot", "owner": "u-lead"}), "vote.own")

test_owner_spelt_otherwise if refused(with_request(vote, {"requester": "u-bot", "owner": " U-Lead"}), "vote.own")

bots := with_request(object.union(vote, {"action": "request.read", "user": stranger}), {"requester": "u-bot"})

test_owner_reads_the_bots if allowed(with_request(bots, {"owner": "u-none"}))

test_owner_stops_the_bots if {
	every action in ["cancel", "release"] {
		allowed(with_request(object.union(bots, {"action": action}), {"owner": "u-none", "id": "REQ-1"}))
		refused(with_request(object.union(bots, {"action": action}), {"owner": "u-alice", "id": "REQ-1"}), "request.other")
		refused(with_request(object.union(bots, {"action": action}), {"owner": "", "id": "REQ-1"}), "request.other")
		refused(with_request(with_user(object.union(bots, {"action": action}), {"locked": true}), {"owner": "u-none", "id": "REQ-1"}), "user.locked")
	}
}

test_another_does_not_read_the_bots if refused(with_request(bots, {"owner": "u-alice"}), "request.read.role")

test_another_approves_the_bots if allowed(with_request(vote, {"requester": "u-bot", "owner": "u-alice"}))

test_owners_approval_does_not_count if refused(with_request(use, {"owner": "u-lead"}), "request.approvals")

test_hand_over if allowed(object.union(general("vote.delegate", stranger), {"request": object.union(no_request, {"requester": "u-none"})}))

test_hand_over_anothers if refused(object.union(general("vote.delegate", stranger), {"request": object.union(no_request, {"requester": "u-lead"})}), "vote.delegate.role")

test_hand_over_locked if refused(
	object.union(general("vote.delegate", object.union(stranger, {"locked": true})), {"request": object.union(no_request, {"requester": "u-none"})}),
	"user.locked",
)

# ---- Votes ----

test_approve if allowed(vote)

test_deny if allowed(object.union(vote, {"action": "deny"}))

test_approve_own if refused(with_request(vote, {"requester": "u-lead"}), "vote.own")

test_approve_own_spelt_otherwise if refused(with_request(vote, {"requester": "U-LEAD "}), "vote.own")

test_approve_nobodys if refused(with_request(vote, {"requester": ""}), "vote.nobody")

test_bot_approves if refused(with_user(vote, {"bot": true}), "vote.bot")

test_approve_twice if refused(with_request(vote, {"approvals": [by_lead]}), "vote.twice")

test_second_vote if allowed(with_request(vote, {"approvals": [by_officer]}))

# A lead with the role that is asked for neither uses what is another's, nor
# approves their own by having it approved by others first.
test_voter_does_not_connect if refused(
	with_user(object.union(use, {"action": "connect"}), {"id": "u-both", "groups": ["dbas", "db-leads"]}),
	"request.other",
)

test_own_vote_after_others if refused(
	with_request(with_user(vote, {"groups": ["dbas", "db-leads"]}), {"requester": "u-lead", "approvals": [by_officer, {
		"user_id": "u-lead2",
		"groups": ["db-leads"],
		"step": 0,
		"waited_seconds": 0,
	}]}),
	"vote.own",
)

test_own_vote_for_no_time if refused(
	with_request(vote, {"requester": "u-lead", "duration_seconds": 0}),
	"vote.own",
)

# The rule is one of another role: nothing says who would decide.
test_vote_under_another_role if refused(with_request(vote, {"role": "db-reader"}), "vote.outdated")

test_change_of_mind if allowed(with_request(object.union(vote, {"action": "deny"}), {"approvals": [by_lead]}))

# Has a rule to approve here, but is in none of the groups that are asked.
test_approve_wrong_group if refused(object.union(vote, {"user": officer}), "vote.group")

# Is in the group, but has no rule to approve there.
test_approve_no_role if {
	q := with_request(object.union(vote, {"target": target("vault-db", "staging")}), {"rule": "vault-db"})
	refused(q, "approve.role")
}

test_approve_stale_mfa if refused(with_user(vote, {"mfa_age_seconds": 901}), "mfa.stale")

test_approve_nothing if refused(with_request(vote, {"id": ""}), "request.missing")

test_approve_what_needs_nobody if {
	q := object.union(vote, {"user": officer, "target": target("stage1", "staging"), "account": "postgres"})
	refused(with_request(q, {"role": "db-reader", "rule": "staging"}), "vote.needless")
}

test_approve_outdated if refused(with_request(vote, {"rule": "gone"}), "vote.outdated")

test_approve_break_glass if refused(with_request(vote, {"break_glass": true}), "vote.needless")

# ---- Break-glass ----

test_break_glass if {
	allowed(urgent)
	d := drawbolt.decision with input as urgent
	d.break_glass == true
	d.approvals == []
	d.rule == "emergency"
	d.session.recording == "strict"
	startswith(d.reasons[0].text, "BREAK-GLASS: alice uses account root on db01")
}

test_break_glass_connect if allowed(with_request(object.union(urgent, {"action": "connect"}), {
	"id": "r-2", "role": "db-admin", "rule": "emergency",
}))

test_break_glass_does_not_open_an_ordinary_request if refused(
	with_request(use, {"break_glass": true}),
	"break_glass.role",
)

test_break_glass_without_rule if refused(
	with_request(ops_ask("misc"), {"break_glass": true}),
	"break_glass.role",
)

test_break_glass_without_reason if refused(with_request(urgent, {"reason": " "}), "break_glass.reason")

test_break_glass_too_long if refused(with_request(urgent, {"duration_seconds": 3600}), "request.duration")

test_break_glass_stale_mfa if refused(with_user(urgent, {"mfa_age_seconds": 301}), "mfa.stale")

# ---- One's own ----

test_cancel if allowed(object.union(use, {"action": "cancel"}))

test_release if allowed(with_user(object.union(use, {"action": "release"}), {"groups": []}))

test_locked_user_releases_nothing if refused(with_user(object.union(use, {"action": "release"}), {"locked": true}), "user.locked")

test_read_own if {
	every action in ["request.read", "session.list", "key.write"] {
		q := with_user(object.union(use, {"action": action}), {"groups": []})
		allowed(q)
		not allowed(with_user(q, {"locked": true}))
		not allowed(with_user(q, {"id": "u-bob"}))
	}
}

test_own_is_not_everything if refused(
	with_user(object.union(use, {"action": "session.replay"}), {"groups": []}),
	"session.replay.role",
)

test_voter_reads if allowed(object.union(vote, {"action": "request.read"}))

test_locked_voter_reads_nothing if refused(
	with_user(object.union(vote, {"action": "request.read"}), {"locked": true}),
	"user.locked",
)

test_no_voter_reads_nothing if refused(object.union(vote, {"action": "request.read", "user": officer}), "request.read.role")

test_release_of_another if refused(object.union(use, {"action": "release", "user": officer}), "request.other")

test_cancel_nothing if refused(with_request(object.union(use, {"action": "cancel"}), {"id": ""}), "request.missing")

# ---- The rest ----

test_audit if allowed(general("audit.read", auditor))

test_audit_by_another if refused(general("audit.read", alice), "audit.read.role")

test_replay_on_a_target if allowed(object.union(use, {"action": "session.replay", "user": auditor}))

test_auditor_changes_nothing if refused(general("role.write", auditor), "role.write.role")

test_revoke if allowed(object.union(use, {"action": "revoke", "user": officer}))

test_revoke_by_another if refused(object.union(use, {"action": "revoke", "user": lead}), "revoke.role")

test_terminate if allowed(object.union(use, {"action": "session.terminate", "user": officer}))

test_hold if allowed(general("recording.hold", custodian))

test_delete_on_a_target if allowed(object.union(use, {"action": "recording.delete", "user": custodian}))

test_delete_by_auditor if refused(general("recording.delete", auditor), "recording.delete.role")

test_delete_ones_own if refused(object.union(use, {"action": "recording.delete"}), "recording.delete.role")

test_break_glass_flag_changes_nothing_elsewhere if {
	d := drawbolt.decision with input as with_request(general("audit.read", auditor), {"break_glass": true})
	d.allow
	d.break_glass == false
}

test_unknown_action if refused(general("frobnicate", officer), "frobnicate.role")

# Nothing that is missing from the input becomes a permission.
test_missing_input if {
	every key in ["action", "user", "target", "account", "request"] {
		not allowed(object.remove(ask, [key]))
	}
}

test_missing_user_field if {
	every key in ["id", "bot", "locked", "groups", "mfa_age_seconds"] {
		q := object.union(object.remove(vote, ["user"]), {"user": object.remove(lead, [key])})
		not allowed(q)
	}
}

test_missing_request_field if {
	every key in ["id", "requester", "role", "rule", "duration_seconds", "break_glass", "approvals"] {
		q := object.union(object.remove(use, ["request"]), {"request": object.remove(use.request, [key])})
		not allowed(q)
	}
}

test_empty_input if not allowed({})
