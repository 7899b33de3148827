package ui

import (
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// A Secret is what is shown once.
type Secret struct {
	Lease api.Lease
	Text  string
	Until time.Time // when it is shown no more
}

// Checkouts is a page of leases.
type Checkouts struct {
	Active bool // those alone that are not over
	Items  []api.Lease
	Older  string // address of the page after it; "": none
}

// leaseText says how a lease stands.
func leaseText(l api.Lease) string {
	switch {
	case l.Active:
		return "until " + Stamp(l.Until)
	case l.Known && l.Managed:
		return "over (" + l.EndReason + "), being changed"
	case l.Known:
		return "over, still known to " + l.User
	case l.EndReason == "":
		return "over"
	default:
		return "over (" + l.EndReason + ")"
	}
}

// after says what becomes of a secret that was shown.
func after(l api.Lease) string {
	if l.Managed {
		return "It is changed when you check it in, or when your access ends."
	}
	return "Nobody changes it by themselves: it is marked as known to you until somebody sets another."
}
