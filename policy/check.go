package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of Data, far above what is sensible.
const (
	maxRoles        = 10_000
	maxRules        = 100_000 // of all roles together
	maxRuleList     = 1_000   // names, accounts, label values, networks, ... of one rule
	maxMembers      = 100_000 // groups or users of one role
	maxLabels       = 32      // label keys of one selector, attributes of one role, facts of one rule
	maxNetworks     = 1_000   // that have names
	maxNeeds        = 4       // each further need doubles the quorums to check
	maxApprovers    = 100     // persons of one need
	maxStep         = 100
	maxSessionRules = 100 // commands, files, forwards or detections of one rule
	maxName         = 512 // bytes of a name, id, group, label, account
	maxRuleMinutes  = 366 * 24 * 60
)

// carried are the actions that no rule lists, and why.
var carried = map[Action]string{
	ActionActivate: "a rule that lists request carries it",
	ActionConnect:  "a rule that lists request carries it",
	ActionCancel:   "it is always the requester's own",
	ActionRelease:  "it is always the requester's own",
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("is longer than %d bytes", maxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q is not UTF-8", s)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%q begins or ends with a space", s)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%q has a control character", s)
		}
	}
	return nil
}

func checkNames(what string, names []string) error {
	if len(names) > maxRuleList {
		return fmt.Errorf("%s: %d entries, at most %d are taken", what, len(names), maxRuleList)
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func checkRule(r *Rule) error {
	if len(r.Actions) == 0 {
		return errors.New("lists no actions")
	}
	var opens, lasts bool
	for _, a := range r.Actions {
		if why := carried[a]; why != "" {
			return fmt.Errorf("action %s cannot be listed: %s", a, why)
		}
		if !a.Known() && a != ActionBreakGlass {
			return fmt.Errorf("there is no action %q", a)
		}
		switch a {
		case ActionRequest, ActionBreakGlass, ActionExtend:
			opens, lasts = true, true
		case ActionCheckout:
			opens = true
		}
	}
	if err := checkNames("target names", r.Targets.Names); err != nil {
		return err
	}
	for _, n := range r.Targets.Names {
		if i := strings.IndexByte(n, '*'); i >= 0 && i != len(n)-1 {
			return fmt.Errorf("target name %q: a * may stand at the end only", n)
		}
	}
	if len(r.Targets.Labels) > maxLabels {
		return fmt.Errorf("%d labels, at most %d are taken", len(r.Targets.Labels), maxLabels)
	}
	for k, vs := range r.Targets.Labels {
		if err := checkName(k); err != nil {
			return fmt.Errorf("label key: %w", err)
		}
		if len(vs) == 0 {
			return fmt.Errorf("label %s has no values, so no target can match", k)
		}
		if err := checkNames("label "+k, vs); err != nil {
			return err
		}
	}
	if err := checkNames("accounts", r.Accounts); err != nil {
		return err
	}
	if slices.Contains(r.Accounts, "*") && len(r.Accounts) > 1 {
		return errors.New(`accounts: "*" stands alone`)
	}
	if opens && len(r.Accounts) == 0 {
		return errors.New(`names no accounts; name them, or "*" for every one`)
	}
	if err := checkSpan("max_duration", r.MaxDuration); err != nil {
		return err
	}
	if lasts && r.MaxDuration == 0 {
		return errors.New("max_duration is missing")
	}
	if err := checkSpan("mfa_within", r.MFAWithin); err != nil {
		return err
	}
	if len(r.Approvals) > maxNeeds {
		return fmt.Errorf("%d approval needs, at most %d are taken", len(r.Approvals), maxNeeds)
	}
	for _, n := range r.Approvals {
		if n.Count < 1 || n.Count > maxApprovers {
			return fmt.Errorf("approvals: count is %d, it must be 1 to %d", n.Count, maxApprovers)
		}
		if len(n.Groups) == 0 {
			return errors.New("approvals: no group is named that could approve")
		}
		if err := checkNames("approvals: groups", slices.Concat(n.Groups, n.EscalateTo)); err != nil {
			return err
		}
		if n.Step < 0 || n.Step > maxStep {
			return fmt.Errorf("approvals: step is %d, it must be 0 to %d", n.Step, maxStep)
		}
		if n.EscalateSeconds < 0 || n.EscalateSeconds > maxRuleMinutes*60 || (n.EscalateSeconds == 0) != (len(n.EscalateTo) == 0) {
			return errors.New("approvals: an escalation has a time and groups")
		}
		if n.When == nil {
			continue
		}
		if n.When.LongerSeconds < 0 || len(n.When.Labels) > maxLabels {
			return errors.New("approvals: when: a time is negative, or there are too many labels")
		}
		for k, vs := range n.When.Labels {
			if len(vs) == 0 {
				return fmt.Errorf("approvals: when: label %s has no values, so no target can match", k)
			}
			if err := checkNames("approvals: when: label "+k, append([]string{k}, vs...)); err != nil {
				return err
			}
		}
	}
	if r.DenyThreshold < 0 || r.DenyThreshold > maxApprovers {
		return fmt.Errorf("deny_threshold is %d, it must be 0 to %d", r.DenyThreshold, maxApprovers)
	}
	for _, list := range [][]string{r.Session.Commands, r.Session.Files, r.Session.Forwards, r.Session.Detect} {
		if len(list) > maxSessionRules {
			return fmt.Errorf("session: %d entries, at most %d are taken", len(list), maxSessionRules)
		}
		if err := checkNames("session", list); err != nil {
			return err
		}
	}
	switch r.Session.Checkout {
	case "", CheckoutManaged, CheckoutAny:
	default:
		return fmt.Errorf("session: checkout %q is neither %s nor %s", r.Session.Checkout, CheckoutManaged, CheckoutAny)
	}
	switch r.Session.Recording {
	case "", RecordingStandard, RecordingStrict:
		return nil
	default:
		return fmt.Errorf("recording %q is neither %s nor %s", r.Session.Recording, RecordingStandard, RecordingStrict)
	}
}

func checkSpan(name string, d time.Duration) error {
	switch {
	case d < 0:
		return fmt.Errorf("%s is negative", name)
	case d%time.Second != 0:
		return fmt.Errorf("%s %s is not whole seconds", name, d)
	case d > maxRuleMinutes*time.Minute:
		return fmt.Errorf("%s %s is longer than a year", name, d)
	}
	return nil
}
