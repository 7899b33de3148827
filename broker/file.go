package broker

import (
	"context"
	"fmt"

	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Transfer is what became of a file that was carried, or asked for, in a
// session; or of many, when Files is set.
type Transfer struct {
	Via       string // "sftp", "scp", "rsync", "git"
	What      string // when it is no file: what was refused, such as "open", "rename", or "push" and "fetch" of a reference
	Direction string // "upload" or "download"; empty when neither
	Path, To  string // as the target understands them
	Bytes     int64  // that passed
	SHA256    string // of these bytes, in hex; empty when they passed in part or out of order
	Result    string // "ok", "refused", "failed", "cut"
	Why       string // of a result that is not ok
	Kept      string // name of the sealed copy
	KeptHash  string // SHA-256 of the copy as it is kept, in hex
	Files     int    // how many files this sums up; the recording names each
}

// Transferred puts on record what became of a file in the session. It works
// after the session's right to go on is gone.
func (b *Broker) Transferred(ctx context.Context, l *Live, t Transfer) error {
	e := sessionEvent(l, "session.file")
	if t.Files > 0 {
		e.Action = "session.files"
		detail(&e, "files", fmt.Sprint(t.Files))
	}
	switch t.Result {
	case "ok":
	case "refused":
		e.Outcome = audit.Refused
	default:
		e.Outcome = audit.Failed
	}
	e.Reason = audit.Clean(t.Why, audit.MaxReason)
	detail(&e, "protocol", t.Via)
	detail(&e, "what", t.What)
	detail(&e, "direction", t.Direction)
	detail(&e, "path", t.Path)
	detail(&e, "to", t.To)
	detail(&e, "bytes", fmt.Sprint(t.Bytes))
	detail(&e, "sha256", t.SHA256)
	if t.SHA256 == "" && t.Result != "refused" && t.What == "" && t.Files == 0 {
		detail(&e, "partial", "true")
	}
	detail(&e, "result", t.Result)
	detail(&e, "kept", t.Kept)
	detail(&e, "kept_sha256", t.KeptHash)
	return b.c.Store.Record(context.WithoutCancel(ctx), e)
}
