package sshproxy

import (
	"fmt"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// offer tells the target of the user's agent and display, where they were asked
// for. That a target does not want them is no reason to end the session. Of the
// display's cookie nothing is kept.
func (c *channel) offer(s *bastion.Session, ch gossh.Channel) error {
	for _, o := range []struct {
		asked   bool
		name    string
		payload []byte
		what    string
	}{
		{c.x11 != nil, "x11-req", c.displayPayload(), "display"},
		{c.agent, "auth-agent-req@openssh.com", nil, "agent"},
	} {
		if !o.asked {
			continue
		}
		if err := s.Mark("the user's %s is offered to the target", o.what); err != nil {
			return err
		}
		ok, err := ch.SendRequest(o.name, true, o.payload)
		if err != nil {
			return err
		}
		if !ok {
			if err := s.Mark("the target does not take the user's %s", o.what); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *channel) displayPayload() []byte {
	if c.x11 == nil {
		return nil
	}
	return gossh.Marshal(*c.x11)
}

// targetOpens takes a channel that the target opens: to the user's agent or
// display, where the rules allow it and the user has offered it in this session.
func (c *channel) targetOpens(s *bastion.Session, nc gossh.NewChannel) {
	action := sessionChannels[nc.ChannelType()]
	err := c.allows(action)
	o := opening{far: c.user, kind: nc.ChannelType(), allowed: func(rules access.SessionRules) error { return bastion.Authorize(rules, action) }}
	if err == nil {
		switch action {
		case bastion.Agent:
			err = c.toAgent(nc.ExtraData(), &o)
		case bastion.X11:
			err = c.toDisplay(nc.ExtraData(), &o)
		default:
			err = errUnasked
		}
	}
	c.link.admit(c.who, s, nc, err, func() error { return c.extra.join(nc, o) })
}

func (c *channel) toAgent(payload []byte, o *opening) error {
	if !c.agent {
		return errUnasked
	}
	if len(payload) > 0 {
		return errPayload
	}
	o.what = "to the user's agent"
	return nil
}

func (c *channel) toDisplay(payload []byte, o *opening) error {
	if c.x11 == nil {
		return errUnasked
	}
	x, err := parseX11Opening(payload)
	if err != nil {
		return err
	}
	if n := c.x11s.Add(1); n > 1 && c.x11.Single {
		return errUnasked
	}
	o.payload = gossh.Marshal(x)
	o.what = fmt.Sprintf("to the user's display from %q port %d", x.Origin, x.OriginPort)
	return nil
}
