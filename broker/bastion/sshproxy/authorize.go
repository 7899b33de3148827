package sshproxy

import (
	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// What the names of the protocol mean. A name that is in none of these tables
// has the zero Action, which bastion.Authorize refuses.
var (
	// channelTypes are what a user opens where a target is the other side.
	channelTypes = map[string]bastion.Action{
		"session":                        bastion.OpenSession,
		"direct-tcpip":                   bastion.Forward,
		"direct-streamlocal@openssh.com": bastion.Forward,
	}
	// hopChannelTypes are what a user opens on the hop to a target.
	hopChannelTypes = map[string]bastion.Action{
		"direct-tcpip": bastion.Jump,
	}
	// globalRequests are the requests of users that belong to no channel.
	globalRequests = map[string]bastion.Action{
		"keepalive@openssh.com":                  bastion.KeepAlive,
		"no-more-sessions@openssh.com":           bastion.LastOne,
		"tcpip-forward":                          bastion.Forward,
		"cancel-tcpip-forward":                   bastion.Forward,
		"streamlocal-forward@openssh.com":        bastion.Forward,
		"cancel-streamlocal-forward@openssh.com": bastion.Forward,
	}
	// sessionRequests are the requests of users within a session channel. That
	// of a subsystem depends on its name.
	sessionRequests = map[string]bastion.Action{
		"pty-req":                    bastion.Terminal,
		"env":                        bastion.Env,
		"shell":                      bastion.Shell,
		"exec":                       bastion.Exec,
		"window-change":              bastion.Resize,
		"signal":                     bastion.Signal,
		"eow@openssh.com":            bastion.EndOutput,
		"keepalive@openssh.com":      bastion.KeepAlive,
		"auth-agent-req@openssh.com": bastion.Agent,
		"x11-req":                    bastion.X11,
	}
	subsystems = map[string]bastion.Action{
		"sftp": bastion.SFTP,
	}
	// targetGlobals are the requests of targets that belong to no channel.
	targetGlobals = map[string]bastion.Action{
		"hostkeys-00@openssh.com": bastion.HostKeys,
		"keepalive@openssh.com":   bastion.KeepAlive,
	}
	// targetRequests are the requests of targets within a session channel.
	targetRequests = map[string]bastion.Action{
		"exit-status":           bastion.Exit,
		"exit-signal":           bastion.Exit,
		"eow@openssh.com":       bastion.EndOutput,
		"keepalive@openssh.com": bastion.KeepAlive,
	}
	// sessionChannels are what a target opens where a shell or command runs, and
	// tunnelChannels where tunnels are carried: each only after it was asked for.
	sessionChannels = map[string]bastion.Action{
		"auth-agent@openssh.com": bastion.Agent,
		"x11":                    bastion.X11,
	}
	tunnelChannels = map[string]bastion.Action{
		"forwarded-tcpip":                   bastion.Forward,
		"forwarded-streamlocal@openssh.com": bastion.Forward,
	}
)

// authorize asks for an action that is part of the login's connection.
func (who login) authorize(action bastion.Action) error {
	if who.hop {
		return bastion.AuthorizeHop(action)
	}
	return bastion.Authorize(who.rules, action)
}

func (who login) authorizeChannel(name string) (bastion.Action, error) {
	types := channelTypes
	if who.hop {
		types = hopChannelTypes
	}
	action := types[name]
	return action, who.authorize(action)
}

func liveOf(s *bastion.Session) *broker.Live {
	if s == nil {
		return nil
	}
	return s.Live
}
