package bastion

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/drawbolt/drawbolt/broker/access"
)

// An Action is something that one of the two sides asks for within a
// connection. Each channel type, channel request and global request of a
// protocol is mapped to one of them; what has no Action has no way through.
type Action string

// The actions that exist. The zero Action stands for what a protocol has no
// name for.
const (
	Jump        Action = "jump"       // reach the next hop, which is ourselves
	OpenSession Action = "session"    // a channel for one shell or command
	Terminal    Action = "terminal"   // a pseudo-terminal for it
	Env         Action = "env"        // an environment variable of the allow-list
	Shell       Action = "shell"      // an interactive shell
	Exec        Action = "exec"       // one command
	SFTP        Action = "sftp"       // the file transfer subsystem
	Transfer    Action = "transfer"   // a command that is known to carry files
	Resize      Action = "resize"     // the terminal has another size
	Signal      Action = "signal"     // a signal for the program
	EndOutput   Action = "end-output" // the reader of the output has gone
	Exit        Action = "exit"       // how the program ended, said by the target
	KeepAlive   Action = "keep-alive" // is the other side there?
	LastOne     Action = "last-one"   // no more sessions on this connection
	HostKeys    Action = "host-keys"  // the target tells its other keys

	Forward Action = "forward" // a tunnel to elsewhere, in either direction
	Agent   Action = "agent"   // the user's key agent
	X11     Action = "x11"     // the user's display
)

// Authorize is the one place that says what may happen inside a connection
// whose grant has these rules. It returns nil, or an error that says why not;
// the caller refuses, and has the refusal audited. What is not named here is
// refused. Of Exec, SFTP, Transfer and Forward it says only whether there may be any:
// which, is for [AuthorizeCommand], [AuthorizeFile] and [AuthorizeForward].
func Authorize(rules access.SessionRules, action Action) error {
	switch action {
	case OpenSession, Terminal, Env, Resize, Signal, EndOutput, Exit, KeepAlive, LastOne, HostKeys:
		return nil
	case Shell:
		return allowed(rules.Shell, action)
	case Exec:
		return allowed(rules.Exec, action)
	case SFTP, Transfer:
		return allowed(len(rules.Files) > 0, action)
	case Forward:
		return allowed(len(rules.Forwards) > 0, action)
	case Agent:
		return allowed(rules.Agent, action)
	case X11:
		return allowed(rules.X11, action)
	default:
		return refusal("what is not named is not allowed", action)
	}
}

// AuthorizeHop is Authorize for a connection that only leads to the next hop:
// no grant, so nothing but the hop itself.
func AuthorizeHop(action Action) error {
	switch action {
	case Jump, KeepAlive, LastOne:
		return nil
	default:
		return refusal("this hop only leads to targets", action)
	}
}

// AuthorizeCommand says whether a command may be run, besides Exec being allowed.
func AuthorizeCommand(rules access.SessionRules, command string) error {
	if len(rules.Commands) == 0 {
		return nil
	}
	for _, text := range rules.Commands {
		if rule, err := access.ParseCommandRule(text); err == nil && rule.Matches(command) {
			return nil
		}
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2404", Text: "the role does not allow this command", Rule: "session.command"}
}

// A Tunnel is what somebody wants to reach through a session: the peer as it was
// named, and as it was resolved.
type Tunnel struct {
	Remote  bool   // the target listens there, and the user is reached
	Socket  string // path of a unix socket; then the rest is empty
	Host    string
	Address netip.Addr
	Port    uint16 // 0, of a remote one: any that is free
}

// AuthorizeForward says whether a tunnel may be opened, besides Forward being
// allowed. own are the bastion's own addresses. Every refusal is the same error,
// so that it tells nothing of the peer.
func AuthorizeForward(rules access.SessionRules, t Tunnel, own []netip.Addr) error {
	for _, text := range rules.Forwards {
		if rule, err := access.ParseForwardRule(text); err == nil && t.matches(rule, own) {
			return nil
		}
	}
	return ErrForward
}

func (t Tunnel) matches(rule access.ForwardRule, own []netip.Addr) bool {
	switch {
	case t.Socket != "":
		return rule.MatchesSocket(t.Remote, t.Socket)
	case t.Port == 0:
		return t.Remote && rule.Min == 1 && rule.Max == math.MaxUint16 && rule.Matches(true, t.Host, t.Address, 1, own)
	default:
		return rule.Matches(t.Remote, t.Host, t.Address, t.Port, own)
	}
}

// ResolveForward says whether it depends on the addresses of the host if a tunnel
// to it may be opened. Otherwise nobody is to be asked for them: a name can carry
// what it likes to whoever answers for it.
func ResolveForward(rules access.SessionRules, host string, port uint16) bool {
	return slices.ContainsFunc(rules.Forwards, func(text string) bool {
		rule, err := access.ParseForwardRule(text)
		return err == nil && rule.MayMatch(host, port)
	})
}

// ErrForward: a tunnel was refused.
var ErrForward = &access.Error{Kind: access.ErrDenied, Code: "DB-2406", Text: "the role does not allow this forward, or there is no such host", Rule: "session.forward"}

func allowed(yes bool, action Action) error {
	if yes {
		return nil
	}
	return refusal(fmt.Sprintf("the role does not allow %s", action), action)
}

func refusal(text string, action Action) error {
	rule := "session.unnamed"
	if action != "" {
		rule = "session." + string(action)
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2402", Text: text, Rule: rule}
}
