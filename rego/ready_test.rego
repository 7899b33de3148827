# The ready rules of role ready in testdata/roles.json, one target each: once where
# the condition holds, and once with the nearest thing that must be refused.
package drawbolt_test

import data.drawbolt

rita := object.union(alice, {"id": "u-rita", "name": "rita", "groups": ["ready"], "attributes": {"tier": "0", "department": "dba"}})

# rita asks for root on the machine of a rule.
ready(name) := with_request(
	object.union(ask, {"user": rita, "target": object.union(target(name, "prod"), {"facts": {}})}),
	{"requester": "u-rita"},
)

at(name, time) := with_env(ready(name), {"time": time, "weekday": "sunday", "hour": 0, "minute": 0})

# ---- Hours in a time zone: monday to friday, 08:00 to 18:00 in Berlin ----

test_zone_opens_in_winter if allowed(at("ready-office", "2026-01-05T07:00:00Z"))

test_zone_before_in_winter if refused(at("ready-office", "2026-01-05T06:59:59Z"), "condition.hours")

test_zone_opens_in_summer if allowed(at("ready-office", "2026-07-06T06:00:00Z"))

test_zone_before_in_summer if refused(at("ready-office", "2026-07-06T05:59:59Z"), "condition.hours")

test_zone_closes if refused(at("ready-office", "2026-07-06T16:00:00Z"), "condition.hours")

test_zone_weekday_is_the_zones if refused(at("ready-office", "2026-07-10T22:30:00Z"), "condition.hours") # saturday there, and night

test_zone_saturday if refused(at("ready-office", "2026-07-11T10:00:00Z"), "condition.weekdays")

test_zone_no_time if refused(at("ready-office", "soon"), "condition.hours")

# A span over midnight, on fridays in New York: 22:00 to 06:00.

test_night_friday if allowed(at("ready-night", "2026-03-07T03:30:00Z"))

test_night_goes_on_after_midnight if allowed(at("ready-night", "2026-03-07T10:59:00Z"))

test_night_ends if refused(at("ready-night", "2026-03-07T11:00:00Z"), "condition.hours")

test_night_of_thursday if refused(at("ready-night", "2026-03-06T08:00:00Z"), "condition.hours") # friday, after midnight

test_night_saturday if refused(at("ready-night", "2026-03-08T04:00:00Z"), "condition.weekdays")

# Clocks go forward from 02:00 to 03:00 on 8 March: 02:30 is not there. They go back
# from 02:00 to 01:00 on 1 November: 01:30 is there twice.

test_skipped_hour_before if refused(at("ready-early", "2026-03-08T06:59:00Z"), "condition.hours")

test_skipped_hour_after if refused(at("ready-early", "2026-03-08T07:00:00Z"), "condition.hours")

test_hour_once if allowed(at("ready-early", "2026-11-02T07:10:00Z"))

test_hour_first_time if allowed(at("ready-back", "2026-11-01T05:10:00Z"))

test_hour_second_time if allowed(at("ready-back", "2026-11-01T06:10:00Z"))

test_hour_after if refused(at("ready-back", "2026-11-01T07:10:00Z"), "condition.hours")

# ---- Freezes ----

frozen(q) := with_env(q, {"freeze": "year end"})

test_freeze if refused(frozen(ready("ready-office")), "condition.freeze")

test_freeze_says_why if says(frozen(ready("ready-any")), "account root on ready-any is frozen: year end")

test_no_freeze if allowed(ready("ready-any"))

test_during_freeze if allowed(frozen(ready("ready-repair")))

test_freeze_on_connect if refused(frozen(used("ready-any")), "condition.freeze")

test_freeze_leaves_reading if allowed(frozen(object.union(general("audit.read", auditor), {"target": target("db01", "prod")})))

test_freeze_unknown if {
	q := object.union(object.remove(ready("ready-any"), ["environment"]), {"environment": object.remove(now, ["freeze"])})
	d := drawbolt.decision with input as q
	d.allow == false
}

used(name) := with_request(object.union(ready(name), {"action": "connect"}), {
	"id": "r-9", "role": "ready", "rule": trim_prefix(name, "ready-"), "state": "approved",
})

# ---- Networks by name ----

test_network if allowed(ready("ready-desk"))

test_other_network if refused(with_env(ready("ready-desk"), {"source": "10.2.0.1"}), "condition.sources")

test_no_source if refused(with_env(ready("ready-desk"), {"source": ""}), "condition.sources")

# ---- Tiers ----

tiered(person, machine) := object.union(with_user(ready("ready-tier"), {"attributes": {"tier": person}}), {"target": {"labels": {"tier": machine}}})

test_tier if allowed(tiered("0", "0"))

test_lower_person if refused(tiered("1", "0"), "condition.tier")

test_lower_target if refused(tiered("0", "1"), "condition.tier")

test_no_tier if refused(tiered("", ""), "condition.tier")

test_no_attribute if refused(
	object.union(object.remove(tiered("0", "0"), ["user"]), {"user": object.remove(rita, ["attributes"])}),
	"condition.tier",
)

# ---- Facts ----

known(facts) := object.union(ready("ready-facts"), {"target": {"facts": facts}})

good_facts := {"patched": {"value": "yes", "age_seconds": 86400}, "edr": {"value": "on", "age_seconds": 0}}

test_facts if allowed(known(good_facts))

test_fact_old if refused(known(object.union(good_facts, {"patched": {"age_seconds": 86401}})), "condition.facts")

test_fact_other if refused(known(object.union(good_facts, {"edr": {"value": "off"}})), "condition.facts")

test_fact_unknown if refused(known(object.remove(good_facts, ["edr"])), "condition.facts")

test_fact_without_age if refused(known(object.union(good_facts, {"edr": {"value": "on", "age_seconds": null}})), "condition.facts")

# ---- Tickets ----

with_ticket(number, ticket) := with_request(with_env(ready("ready-ticket"), {"ticket": number}), {"ticket": ticket})

good_ticket := object.union(no_ticket, {"id": "CHG-1", "valid": true, "state": "open"})

test_valid_ticket if allowed(with_ticket("CHG-1", good_ticket))

test_no_ticket if refused(ready("ready-ticket"), "condition.ticket")

test_ticket_not_checked if refused(with_ticket("CHG-1", no_ticket), "condition.valid_ticket")

test_ticket_not_valid if refused(with_ticket("CHG-1", object.union(good_ticket, {"valid": false})), "condition.valid_ticket")

test_other_ticket if refused(with_ticket("CHG-2", good_ticket), "condition.valid_ticket")

test_ticket_says_why if says(with_ticket("CHG-1", object.union(good_ticket, {"valid": false, "why": "CHG-1 is closed"})), "CHG-1 is closed")

# ---- Separation of duties ----

separate(fields) := with_request(with_env(ready("ready-separate"), {"ticket": "CHG-1"}), {"ticket": object.union(no_ticket, fields)})

test_separate if allowed(separate({"approved_by": ["u-lead"]}))

test_approved_before if refused(separate({"approved_by": ["u-lead", "u-rita"]}), "condition.separate")

separate_vote(ids) := with_request(object.union(separate({"requested_by": ids}), {"action": "approve", "user": lead}), {
	"id": "r-9", "role": "ready", "rule": "separate", "state": "pending",
})

test_separate_vote if allowed(separate_vote(["u-alice"]))

test_asked_before if refused(separate_vote(["u-alice", "u-lead"]), "vote.ticket")

test_asked_before_however_spelt if refused(separate_vote(["U-Lead "]), "vote.ticket")

# Roles that exclude each other: who has both has neither, in whichever way.

payer := with_request(object.union(ready("ready-pay"), {"user": object.union(rita, {"groups": ["payers"]})}), {"requester": "u-rita"})

test_payer if allowed(payer)

test_payer_and_booker if refused(with_user(payer, {"groups": ["payers", "bookers"]}), "request.role")

test_payer_and_booker_by_attribute if refused(with_user(payer, {"groups": ["payers"], "attributes": {"department": "books"}}), "request.role")

test_senior_payer_and_booker if refused(with_user(payer, {"groups": ["senior-payers", "bookers"]}), "request.role")

test_senior_payer if allowed(with_user(payer, {"groups": ["senior-payers"]}))

test_both_are_told if says(with_user(payer, {"groups": ["payers", "bookers"]}), "the roles booker and payer exclude each other")

# ---- Roles by attributes ----

by_attribute(attributes) := with_user(ready("ready-job"), {"groups": [], "attributes": attributes})

test_attributes if allowed(by_attribute({"department": "dba", "site": "nyc"}))

test_attribute_of_other_value if refused(by_attribute({"department": "sales", "site": "nyc"}), "request.role")

test_attribute_missing if refused(by_attribute({"department": "dba"}), "request.role")

test_attribute_however_spelt if refused(by_attribute({"department": "DBA", "site": "nyc"}), "request.role")

# ---- Sessions ----

busy(name, sessions) := with_env(used(name), {"sessions": sessions})

test_room if allowed(busy("ready-one", {"of_user": 1, "on_target": 2, "on_account_of_others": 0}))

test_too_many_of_person if refused(busy("ready-one", {"of_user": 2, "on_target": 2, "on_account_of_others": 0}), "condition.per_person")

test_too_many_on_target if refused(busy("ready-one", {"of_user": 1, "on_target": 3, "on_account_of_others": 0}), "condition.per_target")

test_exclusive if refused(busy("ready-one", {"of_user": 0, "on_target": 1, "on_account_of_others": 1}), "condition.exclusive")
