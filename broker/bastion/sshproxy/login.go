package sshproxy

import (
	"regexp"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A destination is what a login string asks for. It says nothing about who
// asks.
type destination struct {
	target  string
	account string
	ticket  string // a reason given in the login string, such as INC-1234
}

func (d destination) String() string { return d.account + "@" + d.target }

const maxLogin = 200 // bytes of a login string

var ticket = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._#/-]{0,63}\z`)

// parseLogin takes the login string of the first hop apart. direct is false
// when it names no target, so that the connection can only be a hop to one:
// the string is then of no meaning at all, and above all no identity.
//
//	account+target   account+target+TICKET   account@target   account@target+TICKET
func parseLogin(s string) (d destination, direct bool, err error) {
	i := strings.IndexAny(s, "+@")
	if i < 0 {
		return destination{}, false, nil
	}
	d.account = s[:i]
	d.target, d.ticket, err = cutTicket(s[i+1:])
	if err != nil {
		return destination{}, true, err
	}
	return d, true, d.check()
}

// parseAccount takes the login string of the second hop apart, which knows its
// target already: account, or account+TICKET.
func parseAccount(s, target string) (d destination, err error) {
	d.target = target
	if d.account, d.ticket, err = cutTicket(s); err != nil {
		return destination{}, err
	}
	return d, d.check()
}

func cutTicket(s string) (name, ref string, err error) {
	name, ref, found := strings.Cut(s, "+")
	if found && !ticket.MatchString(ref) {
		return "", "", access.Invalid("the reference after the + must be letters, digits and ._#/- (at most 64), such as INC-1234")
	}
	return name, ref, nil
}

func (d destination) check() error {
	if len(d.account)+len(d.target)+len(d.ticket) > maxLogin {
		return access.Invalid("the login name is too long")
	}
	if err := access.CheckAccountName(d.account); err != nil {
		return err
	}
	return access.CheckTargetName(d.target)
}
