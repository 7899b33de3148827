// Package policy asks the policy bundle (Rego, evaluated by OPA inside this
// process) whether something may be done, and under which conditions.
//
// A caller fills an [Input], calls [Engine.Decide] and obeys the [Decision].
// Refusing is a result and carries reasons in words; an error means that the
// engine failed, and a caller refuses then as well.
//
// What it trusts: the caller for the truth of the Input (who the user is, which
// groups they have now, what time it is) and for the roles in [Data]; the
// bundle for being written by the administrators. A bundle is nevertheless held
// in a cage: it has no network, no clock, no randomness and no environment, a
// deadline, and an answer that is not exactly a Decision is an error. An
// attacker who can change the bundle or the roles can allow anything; one who
// can choose every string of an Input can at most be refused, because input is
// data and never becomes part of a query.
//
// What it does not do: it saves nothing, sends nothing, knows no request states
// and counts no time. Which moves a request may make is the caller's affair.
package policy
