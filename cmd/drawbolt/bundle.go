package main

import (
	"io"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/bundle"
)

// bundleJSON is what was found in a bundle. What it says of the session is
// worked out from events that are proven.
type bundleJSON struct {
	Verified  bool        `json:"verified"`
	Kind      string      `json:"kind"`
	KeyInside bool        `json:"key_from_bundle,omitempty"` // no trusted key was given
	Key       string      `json:"key,omitempty"`
	Checks    []checkJSON `json:"checks"`
	Problem   string      `json:"problem,omitempty"` // the first one

	Session        string            `json:"session,omitempty"`
	Request        string            `json:"request,omitempty"`
	Grant          string            `json:"grant,omitempty"`
	Person         string            `json:"person,omitempty"`
	Target         string            `json:"target,omitempty"`
	Account        string            `json:"account,omitempty"`
	Source         string            `json:"source,omitempty"`
	OpenedAt       *time.Time        `json:"opened_at,omitempty"`
	ClosedAt       *time.Time        `json:"closed_at,omitempty"`
	EndReason      string            `json:"end_reason,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	Needed         int               `json:"needed"`
	BreakGlass     bool              `json:"break_glass,omitempty"`
	Approvals      []approvalJSON    `json:"approvals"`
	Rule           string            `json:"rule,omitempty"`
	PolicyDigest   string            `json:"policy_digest,omitempty"`
	Certificates   []certificateJSON `json:"certificates"`
	Events         int               `json:"events"`
	SHA256         string            `json:"sha256,omitempty"` // of the sealed file at the server
	CheckpointSize int64             `json:"checkpoint_size,omitempty"`
	CheckpointTime *time.Time        `json:"checkpoint_time,omitempty"`
	EndSignedAt    *time.Time        `json:"end_signed_at,omitempty"`
	MadeAt         *time.Time        `json:"made_at,omitempty"`
}

type checkJSON struct {
	Name    string `json:"name"`
	Holds   bool   `json:"holds"`
	Says    string `json:"says,omitempty"`
	Problem string `json:"problem,omitempty"`
}

type approvalJSON struct {
	User    string    `json:"user"`
	At      time.Time `json:"at"`
	Comment string    `json:"comment,omitempty"`
	Seq     int64     `json:"seq"`
}

type certificateJSON struct {
	Serial    string    `json:"serial"`
	KeyID     string    `json:"key_id"`
	Key       string    `json:"key"`
	Principal string    `json:"principal"`
	Target    string    `json:"target"`
	At        time.Time `json:"issued_at"`
}

// verifyBundle checks a bundle without any server.
func (c *cli) verifyBundle(f io.Reader, keys []note.Verifier) error {
	file, ok := f.(*os.File)
	if !ok {
		return usage("a bundle is read from a file, not from stdin")
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	rep, err := bundle.Verify(file, info.Size(), keys)
	if err != nil {
		return err
	}
	j := describeBundle(&rep)
	j.KeyInside = len(keys) == 0
	if ok, err := c.emit(j); ok && err != nil {
		return err
	}
	if c.json == "" {
		c.showBundle(&j)
	}
	if !rep.Verified {
		return broken("%s", rep.Problem())
	}
	if j.KeyInside {
		c.say("! no key was given: this proves only that the evidence agrees with the key that lies in it")
		c.say("  Get the key of the audit log in another way and add --key.")
	}
	return nil
}

func describeBundle(rep *bundle.Report) bundleJSON {
	f := &rep.Facts
	j := bundleJSON{
		Verified: rep.Verified, Kind: kindBundle, Key: rep.Key, Problem: rep.Problem(), Checks: []checkJSON{},
		Session: f.Session, Request: f.Request, Grant: f.Grant, Person: f.Person, Target: f.Target, Account: f.Account, Source: f.Source,
		OpenedAt: moment(f.Opened), ClosedAt: moment(f.Closed), EndReason: f.EndReason, Reason: f.Reason, Needed: f.Needs, BreakGlass: f.BreakGlass,
		Approvals: []approvalJSON{}, Rule: f.Rule, PolicyDigest: f.PolicyDigest, Certificates: []certificateJSON{},
		Events: f.Events, SHA256: f.RecordingSHA256, CheckpointSize: f.Size, CheckpointTime: moment(f.Checkpoint), EndSignedAt: moment(f.ClosedBy), MadeAt: moment(f.Made),
	}
	for _, k := range rep.Checks {
		j.Checks = append(j.Checks, checkJSON{k.Name, k.Problem == "", k.Says, k.Problem})
	}
	for _, a := range f.Approvals {
		j.Approvals = append(j.Approvals, approvalJSON{a.Name, a.At, a.Comment, a.Seq})
	}
	for _, x := range f.Certificates {
		j.Certificates = append(j.Certificates, certificateJSON{x.Serial, x.KeyID, x.Key, x.Principal, x.Target, x.At})
	}
	return j
}

// moment returns a time that may be missing.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *cli) showBundle(j *bundleJSON) {
	for _, k := range j.Checks {
		if k.Holds {
			c.print("✓ %-10s %s", k.Name, k.Says)
		} else {
			c.print("✗ %-10s %s", k.Name, k.Problem)
		}
	}
	if !j.Verified {
		return
	}
	c.print("")
	c.print("Proven by events of the log:")
	c.print("  who      %s as %s on %s, from %s", j.Person, j.Account, j.Target, first(j.Source, "an unknown address"))
	c.print("  when     %s to %s, %s", j.OpenedAt.Format(time.RFC3339), j.ClosedAt.Format(time.RFC3339), first(j.EndReason, "ended"))
	c.print("  why      %s: %s", j.Request, j.Reason)
	for _, a := range j.Approvals {
		comment := ""
		if a.Comment != "" {
			comment = ": " + a.Comment
		}
		c.print("  approved by %s at %s (event %d)%s", a.User, a.At.Format(time.RFC3339), a.Seq, comment)
	}
	if len(j.Approvals) == 0 {
		c.print("  approved by nobody: the rule %s asked for nobody, or it was break-glass", j.Rule)
	}
	c.print("  policy   rule %s, policy %s", j.Rule, j.PolicyDigest)
	for _, x := range j.Certificates {
		c.print("  certified %s on %s, serial %s, at %s", x.Principal, x.Target, x.Serial, x.At.Format(time.RFC3339))
	}
}
