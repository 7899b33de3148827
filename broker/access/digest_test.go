package access

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// outside lists what the digest leaves out, and why that is safe. A field that
// is neither here nor in the digest fails the test, so a new field of a
// Request cannot be forgotten.
var outside = map[string]string{
	"RequesterName":    "a name for people; RequesterID is in",
	"TargetName":       "a name for people; TargetID, the address and the keys are in",
	"Ticket":           "read from Reason, which is in",
	"Batch":            "what it is shown together with; each is decided by its own digest",
	"Via":              "how the request came; it grants nothing",
	"State":            "moves after the vote",
	"CreatedAt":        "when it was asked; it grants nothing",
	"ExpiresAt":        "checked against the clock at each vote",
	"DecidedAt":        "comes after the vote",
	"DecidedBy":        "comes after the vote",
	"Note":             "comes after the vote",
	"Policy.Text":      "the sentence of Policy.Rule, which is in",
	"Policy.InputHash": "found by Policy.Decision, which is in",
	"Approvals":        "the votes themselves",
	"Objections":       "the votes themselves",
	"Questions":        "a conversation grants nothing, and must not void votes",
	"HandOvers":        "who was called grants nothing, and must not void votes",
	"EditedAt":         "when it was changed; what it was changed to is in",
	"Edits":            "counts changes, each of which is in",
	"Needs[].When":     "a request has only the needs that apply to it, without it",
	"Version":          "counts savings",
}

func fullRequest() Request {
	return Request{
		ID: "REQ-0", RequesterID: "USR-0", RequesterName: "alice", TargetID: "TGT-0", TargetName: "db01", TargetAddress: "10.0.0.1:22",
		TargetKeys: []string{"ssh-ed25519 AAAA"}, TargetVia: []string{"jump01"}, Account: "root", Reason: "INC-1 disk full",
		Made:   &AccountTemplate{Prefix: "jit-", Login: "x", Groups: []string{"adm"}, Sudo: []string{"ALL=(ALL) ALL"}, Shell: "/bin/sh"},
		Ticket: "INC-1", Duration: time.Hour,
		Start: noon, Source: "192.0.2.1", Via: "cli", State: Pending, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour),
		Role: "engineers", Needs: []Need{{Count: 1, Groups: []string{"approvers"}, Step: 1, EscalateAfter: time.Minute, EscalateTo: []string{"leads"}}}, DenyThreshold: 2, OwnerID: "USR-9",
		Rules:     SessionRules{Recording: "strict", Shell: true, Commands: []string{"uptime"}, Files: []string{"upload *"}, Forwards: []string{"local *:80"}, Detect: []string{"warn shutdown"}, SilentWatch: true, FourEyes: true, Checkout: "any"},
		Policy:    Ruling{"D", "root", "text", "hash", "digest"},
		Approvals: []Approval{{UserID: "USR-1", Groups: []string{"approvers"}}}, Version: 3,
	}
}

func TestDigestCoversWhatIsShown(t *testing.T) {
	base := fullRequest()
	want := base.Digest()
	if again := fullRequest(); again.Digest() != want {
		t.Fatal("the digest of equal requests differs")
	}
	used := map[string]bool{}
	// walk changes one leaf at a time of a fresh request.
	var walk func(path string, at func(*Request) reflect.Value)
	walk = func(path string, at func(*Request) reflect.Value) {
		r := fullRequest()
		v := at(&r)
		if _, out := outside[path]; out || v.Kind() != reflect.Struct && v.Kind() != reflect.Slice && v.Kind() != reflect.Pointer || v.Type() == reflect.TypeFor[time.Time]() {
			change(t, v)
			same := r.Digest() == want
			why, out := outside[path]
			used[path] = true
			if same != out {
				t.Errorf("%s: digest unchanged = %t, listed as outside = %t %q", path, same, out, why)
			}
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				name := v.Type().Field(i).Name
				if path != "" {
					name = path + "." + name
				}
				walk(name, func(r *Request) reflect.Value { return at(r).Field(i) })
			}
		case reflect.Pointer:
			walk(path, func(r *Request) reflect.Value { return at(r).Elem() })
		case reflect.Slice:
			if v.Len() == 0 {
				t.Fatalf("%s has no element to change", path)
			}
			walk(path+"[]", func(r *Request) reflect.Value { return at(r).Index(0) })
			// One more, and none.
			r := fullRequest()
			v := at(&r)
			v.Set(reflect.Append(v, v.Index(0)))
			if r.Digest() == want {
				t.Errorf("%s: one more element does not show", path)
			}
			v.Set(v.Slice(0, 0))
			if r.Digest() == want {
				t.Errorf("%s: an element less does not show", path)
			}
		}
	}
	walk("", func(r *Request) reflect.Value { return reflect.ValueOf(r).Elem() })
	for path := range outside {
		if !used[path] {
			t.Errorf("%s is listed as outside but is no field", path)
		}
	}
}

func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + int64(time.Second))
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(at.Add(time.Second)))
			return
		}
		fallthrough
	default:
		if v.Type() == reflect.TypeFor[Occasion]() {
			return // never there
		}
		t.Fatalf("no way to change a %s", v.Type())
	}
}

// Text that moves from one field into its neighbour is another request.
func TestDigestKeepsFieldsApart(t *testing.T) {
	seen := map[string]string{}
	for i, r := range []Request{
		{Account: "ab", Role: "c"}, {Account: "a", Role: "bc"}, {Account: "abc"}, {Role: "abc"},
		{Account: `a","Role":"b`}, {Reason: "abc"}, {TargetKeys: []string{"a", "b"}}, {TargetKeys: []string{"ab"}}, {TargetKeys: []string{`a","b`}},
		{Needs: []Need{{Count: 1, Groups: []string{"a"}}, {Count: 1, Groups: []string{"b"}}}}, {Needs: []Need{{Count: 1, Groups: []string{"a", "b"}}}}, {Needs: []Need{{Count: 2, Groups: []string{"a", "b"}}}},
	} {
		d := r.Digest()
		if other, twice := seen[d]; twice {
			t.Errorf("request %d has the digest of request %s", i, other)
		}
		seen[d] = fmt.Sprint(i)
	}
	// The order of what the policy said counts as well: it is what was shown.
	a, b := fullRequest(), fullRequest()
	a.TargetKeys, b.TargetKeys = []string{"k1", "k2"}, []string{"k2", "k1"}
	if a.Digest() == b.Digest() || !slices.IsSorted(a.TargetKeys) {
		t.Error("the order of the keys does not show")
	}
}
