package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// A Reach says what stands between a caller and an account.
type Reach struct {
	Target  access.Target
	Account string
	Grant   *access.Grant   // usable now
	Request *access.Request // pending; the newest
}

// Reach looks at what the caller has for the account: a usable grant, or a
// pending request, or neither. Who may not know the target gets ErrNotFound.
func (b *Broker) Reach(ctx context.Context, by access.Caller, target, account string) (Reach, error) {
	if err := errors.Join(access.CheckTargetName(target), access.CheckAccountName(account)); err != nil {
		return Reach{}, err
	}
	e := event(by, "target.reach", audit.Clean(account+"@"+target, audit.MaxName))
	t, err := b.c.Store.Target(ctx, target)
	if err != nil {
		return Reach{}, b.refused(ctx, e, unknownTarget(err, account+"@"+target))
	}
	if err := b.refresh(ctx); err != nil {
		return Reach{}, b.refused(ctx, e, policyDown(err))
	}
	r := Reach{Target: t, Account: account}
	if err := b.mayLook(ctx, by, account+"@"+target); err != nil {
		return Reach{}, b.refused(ctx, e, err)
	}
	if err := noSession(&t, account); err != nil && b.mayKnow(ctx, by, &t, account) {
		return Reach{}, b.refused(ctx, e, err)
	}
	now := b.now()
	grants, err := b.c.Store.OpenGrants(ctx, by.User.ID, now.UnixMicro())
	if err != nil {
		return r, err
	}
	var later error // there is a grant, which starts later
	for _, g := range grants {
		if g.TargetID != t.ID || g.Account != account {
			continue
		}
		switch g.StateAt(now) {
		case access.Active:
			r.Grant = &g
			return r, nil
		case access.Scheduled:
			later = g.Usable(now)
		}
	}
	pending, err := b.c.Store.Requests(ctx, store.RequestFilter{Waiting: now, Requester: by.User.ID, TargetID: t.ID, Account: account, Limit: 10})
	if err != nil {
		return r, err
	}
	if i := slices.IndexFunc(pending, func(r access.Request) bool { return r.StateAt(now) == access.Pending }); i >= 0 {
		r.Request = &pending[i]
		return r, nil
	}
	if later != nil {
		return Reach{}, b.refused(ctx, e, later)
	}
	if _, ok := t.Account(account); !ok || !b.mayKnow(ctx, by, &t, account) {
		return Reach{}, b.refused(ctx, e, unknownTarget(access.ErrNotFound, account+"@"+target))
	}
	return r, nil
}

// mayLook asks whether the caller may see what is their own, such as a grant on
// the target, without which they learn nothing of it.
func (b *Broker) mayLook(ctx context.Context, by access.Caller, what string) error {
	_, err := b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID})
	if errors.Is(err, access.ErrDenied) {
		err = unknownTarget(access.ErrNotFound, what)
	}
	return err
}

// mayKnow: a target is known to who may ask for the account, and to who may
// read targets. A refusal that comes of more than a missing role (too long, no
// ticket, a freeze, a stale second factor, a lock) does not hide the target.
func (b *Broker) mayKnow(ctx context.Context, by access.Caller, t *access.Target, account string) bool {
	if _, err := b.decideNow(ctx, question{action: policy.ActionTargetRead, by: by, target: t, account: account}); err == nil {
		return true
	}
	d, _ := b.decideNow(ctx, wouldAsk(by, t, account))
	return mayKnowOf(d)
}

// mayKnowOf: a rule is about the account, even if it does not hold now.
func mayKnowOf(d policy.Decision) bool {
	return d.Allow || d.Role != "" || slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool { return strings.HasPrefix(r.Rule, "condition.") })
}

// wouldAsk is the question whether the caller could ask for an account at all; the
// emergency user does so by break-glass only.
func wouldAsk(by access.Caller, t *access.Target, account string) question {
	q := question{action: policy.ActionRequest, by: by, target: t, account: account, owner: by.User.ID, duration: time.Second}
	if by.User.Emergency {
		q.request = &access.Request{RequesterID: by.User.ID, BreakGlass: true, Reason: "emergency"}
	}
	return q
}

// An Opening is how a session begins.
type Opening struct {
	Kind    string // "shell", "exec", or "forward" for the tunnels of a connection
	Command string // of an exec, as it was sent
	Client  string // the client's version string
}

// MaxCommand bounds the command of an exec, in bytes.
const MaxCommand = 64 << 10

// Open opens a session under a grant. The policy is asked again, with the
// roles, groups and labels of this moment and with the votes of those who may
// still vote. The session and its event are saved before Open returns, and the
// grant's clock starts if this is its first use. The handle's context ends when
// the right to the session does. The caller must call Close.
func (b *Broker) Open(ctx context.Context, by access.Caller, grantID string, o Opening) (*Live, error) {
	e := event(by, "session.open", grantID)
	if err := b.refresh(ctx); err != nil {
		return nil, b.refused(ctx, e, policyDown(err))
	}
	if !slices.Contains([]string{"shell", "exec", "forward"}, o.Kind) || len(o.Command) > MaxCommand {
		return nil, b.refused(ctx, e, access.Invalid("a session is a shell, tunnels, or a command of at most %d bytes", MaxCommand))
	}
	if err := b.stillProven(ctx, by); err != nil {
		return nil, b.refused(ctx, e, err)
	}
	ticket, err := b.checkGranted(ctx, by, grantID)
	if err != nil {
		return nil, b.refused(ctx, e, err)
	}
	var s access.Session
	var g *access.Grant
	var t *access.Target
	var hops []access.Target
	var login string
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		caller, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		var r *access.Request
		if g, r, err = grantOf(ctx, tx, grantID); err != nil {
			return e, unknownRequest(err, grantID)
		}
		e.Request, e.Target, e.Account = r.ID, r.TargetName, r.Account
		if g == nil || g.UserID != caller.User.ID {
			return e, unknownRequest(access.ErrNotFound, grantID)
		}
		e.Grant = g.ID
		if err := g.Usable(tx.Now()); err != nil {
			return e, err
		}
		var decision policy.Decision
		var running store.Running
		if t, running, decision, err = b.askAgain(ctx, tx, caller, g, r, ticket); err != nil {
			return e, err
		}
		if err := noSession(t, g.Account); err != nil {
			return e, err
		}
		if hops, err = hopsOf(ctx, tx.Target, t); err != nil {
			return e, err
		}
		if err := b.room(running, t); err != nil {
			fill(&e, err)
			return e, err
		}
		if err := g.Activate(tx.Now()); err != nil {
			return e, err
		}
		g.Rules = g.Rules.Narrow(sessionRules(decision.Rules))
		if err := tx.SaveGrant(ctx, g); err != nil {
			return e, err
		}
		if login, err = planAccount(ctx, tx, caller, g, t); err != nil {
			return e, err
		}
		s = access.Session{
			ID: access.NewID(access.SessionPrefix), GrantID: g.ID, RequestID: r.ID, UserID: caller.User.ID, UserName: caller.User.Name,
			TargetID: t.ID, TargetName: t.Name, Account: g.Account, Kind: o.Kind, Command: audit.Clean(o.Command, audit.MaxDetailValue),
			Client: audit.Clean(o.Client, audit.MaxName), Node: b.c.Node, State: access.Opening, OpenedAt: tx.Now(), Labels: t.Labels, Version: 1,
		}
		if by.Source.IsValid() {
			s.Source = by.Source.String()
		}
		s.Risks = risksOf(g, t)
		by = caller
		e.Object, e.Session, e.Rule = s.ID, s.ID, decision.Rule
		detail(&e, "kind", o.Kind)
		detail(&e, "command", o.Command)
		detail(&e, "client", o.Client)
		detail(&e, "target_via", strings.Join(t.Via, ","))
		if login != g.Account {
			detail(&e, "login", login)
		}
		detail(&e, "decision", decision.ID)
		detail(&e, "policy", decision.PolicyDigest)
		detail(&e, "input", decision.InputHash)
		detail(&e, "end", g.End.UTC().Format(time.RFC3339))
		return e, tx.AddSession(ctx, &s)
	})
	if err != nil {
		return nil, err
	}
	l := b.newLive(s, *g, *t, by)
	l.Hops, l.Login = hops, login
	b.liveMu.Lock()
	b.live[s.ID] = l
	b.liveMu.Unlock()
	// A revocation that was committed between the transaction and this line
	// did not find the session in the map; look once more.
	why, err := b.recheck(ctx, b.facts(ctx), l)
	if why != nil {
		err = l.finish(why)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx, l, Closing{Reason: "refused"}))
	}
	return l, nil
}

// risksOf are those that are known from the beginning.
func risksOf(g *access.Grant, t *access.Target) (list []string) {
	if g.BreakGlass {
		list = append(list, access.RiskBreakGlass)
	}
	if t.Labels.Tier == "0" {
		list = append(list, access.RiskTierZero)
	}
	if g.Rules.FourEyes {
		list = append(list, access.RiskFourEyes)
	}
	return list
}

// askAgain asks whether the holder may still use the grant. What the request
// says must still be what was approved, and ticket is what is known of its ticket
// now; nil: as it was then. It returns the sessions that are open as well.
func (b *Broker) askAgain(ctx context.Context, tx *store.Tx, by access.Caller, g *access.Grant, r *access.Request, ticket *access.TicketCheck) (*access.Target, store.Running, policy.Decision, error) {
	var running store.Running
	target, votes, err := b.around(ctx, tx, r)
	if err != nil {
		return nil, running, policy.Decision{}, err
	}
	if err := unchanged(target, g, r); err != nil {
		return nil, running, policy.Decision{}, err
	}
	if running, err = tx.Running(ctx, by.User.ID, target.ID, g.Account, tx.Now()); err != nil {
		return nil, running, policy.Decision{}, err
	}
	q := question{action: policy.ActionActivate, by: by, target: target, account: g.Account, request: r, votes: votes, ticket: ticket}
	q.sessions = policy.Sessions{OfUser: running.OfUser, OnTarget: running.OnTarget, OnAccountOfOthers: running.OnAccountOfOthers}
	if q.sharing, err = b.sharing(ctx, tx, r); err != nil {
		return nil, running, policy.Decision{}, err
	}
	if g.Start.IsZero() { // the first use starts the grant's clock
		if d, err := b.decideIn(ctx, tx, q); err != nil {
			return nil, running, d, err
		}
	}
	q.action = policy.ActionConnect
	d, err := b.decideIn(ctx, tx, q)
	return target, running, d, err
}

// unchanged reports whether the target is still the one that was approved.
func unchanged(t *access.Target, g *access.Grant, r *access.Request) error {
	if t.Address == r.TargetAddress && slices.Equal(t.HostKeys, r.TargetKeys) && slices.Equal(t.Via, r.TargetVia) && madeOf(t, r.Account).Same(r.Made) && r.Digest() == g.Digest {
		return nil
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2010", Rule: "grant.digest",
		Text: fmt.Sprintf("%s is not what was approved any more: its address, its host keys or the way to it have changed", t.Name),
		Next: fmt.Sprintf("drawbolt end %s, then ask again", r.ID)}
}

// Credential issues the certificate with which the bastion logs in for this
// session: for the session's account on its target, for minutes, for the key
// that the bastion has just made. It permits at the target what the session may
// need and no more. Its serial is stored before it is signed. For an account that
// is made for the grant there is none until it is there.
func (b *Broker) Credential(ctx context.Context, l *Live, key ssh.PublicKey) (*ssh.Certificate, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if err := b.accountPresent(ctx, l); err != nil {
		return nil, err
	}
	now, tunnels := b.now(), l.Session.Kind == "forward"
	return b.authority(sshca.User).Sign(ctx, b.serials(l.Caller, &l.Session), sshca.Certificate{
		Kind: sshca.User, Key: key, Principal: l.Login, Target: l.Target.Name,
		KeyID:      fmt.Sprintf("drawbolt %s %s %s", l.Session.UserName, l.Session.GrantID, l.Session.ID),
		ValidAfter: now, ValidBefore: earlier(now.Add(b.c.CertificateTTL), l.End()),
		PermitPTY: !tunnels, PermitPortForwarding: tunnels,
		PermitAgentForwarding: !tunnels && l.Rules.Agent, PermitX11Forwarding: !tunnels && l.Rules.X11,
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Started records that the target has let the session in.
func (b *Broker) Started(ctx context.Context, l *Live) error {
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := sessionEvent(l, "session.start")
		s, err := tx.Session(ctx, l.Session.ID)
		if err != nil {
			return e, err
		}
		if err := s.Move(access.Open); err != nil {
			return e, err
		}
		return e, tx.SaveSession(ctx, &s)
	})
}

func sessionEvent(l *Live, action string) audit.Event {
	e := event(l.Caller, action, l.Session.ID)
	e.Request, e.Grant, e.Session, e.Target, e.Account = l.Session.RequestID, l.Session.GrantID, l.Session.ID, l.Session.TargetName, l.Session.Account
	return e
}

// A Closing is how a session ended.
type Closing struct {
	Reason     string // "exited", "expired", "revoked", ...; a word
	Text       string // more, for people
	ExitStatus *int
	Recording  access.Sealed // zero when there is none
	Head       string        // hash at the end of the recording's journal, hex
	Input      int64         // bytes
	Output     int64
}

// Close ends the session: its one closing event carries the hash of the sealed
// recording. Closing again changes nothing. It works after the deadline and
// with a context that has been cancelled.
func (b *Broker) Close(ctx context.Context, l *Live, c Closing) error {
	ctx = context.WithoutCancel(ctx)
	l.close()
	b.liveMu.Lock()
	delete(b.live, l.Session.ID)
	b.liveMu.Unlock()
	return b.closeSession(ctx, l.Caller, l.Session.ID, c)
}

var errClosed = errors.New("closed already")

func (b *Broker) closeSession(ctx context.Context, by access.Caller, id string, c Closing) error {
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		s, err := tx.Session(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		if s.State == access.Closed {
			return audit.Event{}, errClosed
		}
		if err := s.Move(access.Closed); err != nil {
			return audit.Event{}, err
		}
		s.ClosedAt, s.EndReason, s.ExitStatus, s.Recording = tx.Now(), c.Reason, c.ExitStatus, c.Recording
		e := event(by, "session.close", s.ID)
		e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
		e.Reason = audit.Clean(c.Text, audit.MaxReason)
		detail(&e, "end", c.Reason)
		if c.ExitStatus != nil {
			detail(&e, "exit_status", fmt.Sprint(*c.ExitStatus))
		}
		recordingDetails(&e, c.Recording, c.Head)
		detail(&e, "input_bytes", fmt.Sprint(c.Input))
		detail(&e, "output_bytes", fmt.Sprint(c.Output))
		if err := tx.SaveSession(ctx, &s); err != nil {
			return e, err
		}
		return e, tx.RotationUsed(ctx, s.TargetID, s.Account)
	})
	if errors.Is(err, errClosed) {
		return nil
	}
	return err
}

// Refused records that something was refused to the caller, in a session when
// l is not nil: a channel, a request on one, a host key.
func (b *Broker) Refused(ctx context.Context, by access.Caller, l *Live, what, why string) error {
	e := event(by, "ssh.refuse", what)
	if l != nil {
		e = sessionEvent(l, "ssh.refuse")
		detail(&e, "what", what)
	}
	e.Outcome, e.Reason = audit.Refused, audit.Clean(why, audit.MaxReason)
	if e.Actor == "" {
		e.Actor = "unknown"
	}
	return b.c.Store.Record(context.WithoutCancel(ctx), e)
}

// Recovered puts the recording of a session on record that was sealed after
// the session had been given up: of one that this server left open when it
// died, which it closes, or of one that was closed without its recording. It
// is no verb of a person: the server calls it for itself.
func (b *Broker) Recovered(ctx context.Context, id string, sealed access.Sealed, head string) error {
	s, err := b.c.Store.Session(ctx, id)
	if err != nil {
		return err
	}
	if s.State != access.Closed {
		return b.closeSession(ctx, access.System(), id, Closing{Reason: "aborted", Text: abandoned, Recording: sealed, Head: head})
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		s, err := tx.Session(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		e := event(access.System(), "session.seal", s.ID)
		e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
		if s.Recording.Name != "" {
			return e, &access.Error{Kind: access.ErrConflict, Code: "DB-3015", Text: "session " + s.ID + " has a recording already"}
		}
		s.Recording = sealed
		recordingDetails(&e, sealed, head)
		return e, tx.SaveSession(ctx, &s)
	})
}

const abandoned = "the server stopped in the middle of the session"

// Abandoned closes the sessions that this server left open when it died and
// whose recording Recovered did not bring back. sealed looks for one that was
// sealed before.
func (b *Broker) Abandoned(ctx context.Context, sealed func(sessionID string) access.Sealed) (int, error) {
	n := 0
	for {
		list, err := b.c.Store.Sessions(ctx, store.SessionFilter{Live: true, Node: b.c.Node, Limit: 1000})
		if err != nil || len(list) == 0 {
			return n, err
		}
		for _, s := range list {
			if err := b.closeSession(ctx, access.System(), s.ID, Closing{Reason: "aborted", Text: abandoned, Recording: sealed(s.ID)}); err != nil {
				return n, err
			}
			n++
		}
	}
}

func recordingDetails(e *audit.Event, r access.Sealed, head string) {
	if r.Name == "" {
		return
	}
	detail(e, "recording", r.Name)
	detail(e, "recording_sha256", r.SHA256)
	detail(e, "recording_size", fmt.Sprint(r.Size))
	detail(e, "recording_events", fmt.Sprint(r.Events))
	detail(e, "recording_aborted", fmt.Sprint(r.Aborted))
	detail(e, "recording_head", head)
}
