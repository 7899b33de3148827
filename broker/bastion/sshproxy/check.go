package sshproxy

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Bounds of a check.
const (
	checkWithin  = 25 * time.Second // all of it
	stepWithin   = 8 * time.Second  // one step
	loginsAtOnce = 4                // sshd's MaxStartups refuses more than ten
	maxRefusals  = 2                // of logins, at an sshd that shuts out who fails
	maxKRLAge    = 10 * time.Minute // a target fetches its list every minute
	maxClockSkew = 30 * time.Second // certificates hold from a minute before they are made
)

// reportScript is the one thing that a check runs at a target, as its provisioner.
//
//go:embed check.sh
var reportScript string

// An inquiry is one check, while it goes on.
type inquiry struct {
	Machines
	probe   broker.Probe
	version string // of the one that was looked at last
	steps   []access.CheckStep
}

// Check tries what a session at the target of the probe needs, step by step, and
// says what holds. At accounts of people it logs in and opens nothing: no shell
// and no command of theirs runs. Where the target has a provisioner, that one
// runs check.sh. Everything is closed when Check returns.
func (m Machines) Check(ctx context.Context, p broker.Probe) []access.CheckStep {
	if m.Now == nil {
		m.Now = time.Now
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkWithin, errors.New("the check took too long"))
	defer cancel()
	q := &inquiry{Machines: m, probe: p}
	q.run(ctx)
	return q.steps
}

func (q *inquiry) note(s access.CheckStep) {
	s.Detail = clean(s.Detail)
	q.steps = append(q.steps, s)
}

// A dialer connects to where the way has led so far.
type dialer func(context.Context) (net.Conn, error)

func (q *inquiry) run(ctx context.Context) {
	way := append(slices.Clone(q.probe.Hops), q.probe.Target)
	if !q.resolves(ctx, way[0]) {
		return
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", way[0].Address)
	}
	for i, at := range way {
		if !q.answers(ctx, at, dial) {
			return
		}
		if i == len(q.probe.Hops) {
			q.logins(ctx, dial)
			return
		}
		through, done := q.pass(ctx, i, dial, way[i+1].Address)
		if through == nil {
			return
		}
		defer done()
		dial = through
	}
}

func (q *inquiry) resolves(ctx context.Context, first access.Target) bool {
	s := access.CheckStep{Step: access.CheckName, Target: first.Name, State: access.CheckOK}
	host, _, err := net.SplitHostPort(first.Address)
	if err == nil && net.ParseIP(host) == nil {
		ctx, cancel := context.WithTimeout(ctx, stepWithin)
		defer cancel()
		var found []string
		if found, err = net.DefaultResolver.LookupHost(ctx, host); err == nil {
			s.Detail = host + " is " + strings.Join(found[:min(len(found), 4)], ", ")
		}
	} else if err == nil {
		s.Detail = host + " is an address"
	}
	if err != nil {
		s.State, s.Detail, s.Next = access.CheckFailed, host+" does not resolve: "+err.Error(), "drawbolt target set "+first.Name+" --address HOST:PORT"
	}
	q.note(s)
	return s.State == access.CheckOK
}

// answers looks at what is there, up to its host key, and breaks off before
// anything is said that is ours.
func (q *inquiry) answers(ctx context.Context, at access.Target, dial dialer) bool {
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	port := access.CheckStep{Step: access.CheckPort, Target: at.Name, State: access.CheckOK, Detail: at.Address + " answers"}
	nc, err := dial(ctx)
	if err != nil {
		port.State, port.Detail, port.Next = access.CheckFailed, at.Address+" cannot be reached: "+err.Error(), "is sshd running there, and does a firewall let this server in?"
		q.note(port)
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	q.note(port)

	k := knownHost{target: at, authorities: q.Broker.Authorities().Hosts, now: q.Now}
	heard := &firstLine{Conn: nc}
	var shown gossh.PublicKey
	var verdict error
	_, _, _, err = gossh.NewClientConn(heard, at.Address, &gossh.ClientConfig{
		Config: targetAlgorithms(), ClientVersion: clientVersion, HostKeyAlgorithms: anyHostKey(k.algorithms()),
		HostKeyCallback: func(_ string, remote net.Addr, key gossh.PublicKey) error {
			shown, verdict = key, k.check(remote, key)
			return errLooked
		},
	})
	said := heard.text()
	q.version = said
	version := access.CheckStep{Step: access.CheckVersion, Target: at.Name, State: access.CheckOK, Detail: said}
	if shown == nil {
		version.State, version.Detail = access.CheckFailed, "what answers does not speak SSH as we do: "+err.Error()
		if said != "" {
			version.Detail = said + ": " + err.Error()
		}
		q.note(version)
		return false
	}
	q.note(version)
	q.note(hostKeyStep(at, shown, verdict))
	return verdict == nil
}

var errLooked = errors.New("we have seen the host key")

// anyHostKey asks for the algorithms first, and takes every other, so that what
// the target has can be told.
func anyHostKey(first []string) []string {
	list := slices.Clone(first)
	add := func(algorithms []string) {
		for _, a := range algorithms {
			if !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	add(hostCertAlgorithms)
	for _, kind := range []string{gossh.KeyAlgoED25519, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521, gossh.KeyAlgoRSA} {
		add(hostKeyAlgorithms[kind])
	}
	return list
}

func hostKeyStep(at access.Target, shown gossh.PublicKey, verdict error) access.CheckStep {
	s := access.CheckStep{Step: access.CheckHostKey, Target: at.Name, State: access.CheckOK}
	key := shown
	cert, certified := shown.(*gossh.Certificate)
	if certified {
		key = cert.Key
	}
	s.Detail = key.Type() + " " + gossh.FingerprintSHA256(key)
	switch {
	case verdict == nil && certified:
		s.Detail += ", certified by our host authority until " + time.Unix(int64(min(cert.ValidBefore, 1<<40)), 0).UTC().Format(time.DateTime) + " UTC"
	case verdict == nil:
		s.Detail += ", which is pinned"
	default:
		s.State = access.CheckFailed
		why := verdict.Error()
		if refused, ok := errors.AsType[*access.Error](verdict); ok {
			why = refused.Text
		}
		s.Detail = why + ". It shows " + s.Detail + ": compare that with \"ssh-keygen -l -f\" at its console before you pin it"
		s.Next = "drawbolt target set " + at.Name + " --host-key '" + strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key))) + "'"
	}
	return s
}

// A firstLine keeps the first line that the peer sends.
type firstLine struct {
	net.Conn
	line []byte
	full bool
}

func (f *firstLine) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.full {
		line, _, ended := bytes.Cut(p[:n], []byte("\n"))
		f.line = append(f.line, line[:min(len(line), 255-len(f.line))]...)
		f.full = ended || len(f.line) == 255
	}
	return n, err
}

// text is to be called when nothing is read any more.
func (f *firstLine) text() string { return clean(strings.TrimSpace(string(f.line))) }

// enter logs in at the hop of that index, or, with the number of hops, at the
// target, over a connection of its own.
func (q *inquiry) enter(ctx context.Context, hop int, at access.Target, account string, dial dialer) (gossh.Conn, error) {
	nc, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	auth, explain, err := q.auth(ctx, hop, account)
	if err != nil {
		nc.Close()
		return nil, err
	}
	k := knownHost{target: at, authorities: q.Broker.Authorities().Hosts, now: q.Now}
	client, channels, requests, err := gossh.NewClientConn(nc, at.Address, &gossh.ClientConfig{
		Config: targetAlgorithms(), User: account, Auth: auth, ClientVersion: clientVersion,
		HostKeyAlgorithms: k.algorithms(),
		HostKeyCallback:   func(_ string, remote net.Addr, key gossh.PublicKey) error { return k.check(remote, key) },
	})
	if err != nil {
		nc.Close()
		return nil, explain(err)
	}
	go rejectAll(channels)
	go gossh.DiscardRequests(requests)
	if !stop() {
		client.Close()
		return nil, context.Cause(ctx)
	}
	return client, nil
}

// auth is what the account logs in with, and what makes an error of it one that
// can be shown.
func (q *inquiry) auth(ctx context.Context, hop int, account string) ([]gossh.AuthMethod, func(error) error, error) {
	if a, _ := q.probe.Target.Account(account); a.Lent() && hop == len(q.probe.Hops) {
		l := &lent{kind: a.Credential, lend: func() (broker.Loan, error) { return q.Broker.CheckLend(ctx, q.probe, account) }}
		return l.methods(), func(err error) error { return l.explain(account+"@"+q.probe.Target.Name, err) }, nil
	}
	signer, err := credential(ctx, func(ctx context.Context, key gossh.PublicKey) (*gossh.Certificate, error) {
		return q.Broker.CheckCredential(ctx, q.probe, hop, account, key)
	})
	if err != nil {
		return nil, nil, err
	}
	return []gossh.AuthMethod{gossh.PublicKeys(signer)}, func(err error) error { return err }, nil
}

// loggedIn says how a login ended.
func loggedIn(s access.CheckStep, client gossh.Conn, err error) access.CheckStep {
	refused, ours := errors.AsType[*access.Error](err)
	switch {
	case err == nil:
		s.State, s.Detail = access.CheckOK, s.Account+" is let in"
		if c, ok := client.(gossh.AlgorithmsConnMetadata); ok {
			s.Detail += ", by " + c.Algorithms().KeyExchange + " and " + c.Algorithms().Write.Cipher
		}
	case ours:
		s.State, s.Detail, s.Next = access.CheckFailed, refused.Text, refused.Next
	case refusedLogin(err):
		s.State, s.Detail = access.CheckFailed, s.Account+" is not let in with a certificate for "+s.Account+"@"+s.Target
	default:
		s.State, s.Detail = access.CheckFailed, "the login as "+s.Account+" broke off: "+err.Error()
	}
	return s
}

// refusedLogin reports whether the target refused the certificate; x/crypto has
// no type for that.
func refusedLogin(err error) bool { return strings.Contains(err.Error(), "unable to authenticate") }

// pass logs in at the hop of that index and returns what dials on from there.
func (q *inquiry) pass(ctx context.Context, hop int, dial dialer, to string) (dialer, func()) {
	at := q.probe.Hops[hop]
	within, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	client, err := q.enter(within, hop, at, at.HopAccount, dial)
	s := loggedIn(access.CheckStep{Step: access.CheckWay, Target: at.Name, Account: at.HopAccount}, client, err)
	if s.State == access.CheckFailed && s.Next == "" {
		s.Next = "drawbolt target bootstrap " + at.Name
	}
	q.note(s)
	if err != nil {
		return nil, nil
	}
	unlink := context.AfterFunc(ctx, func() { client.Close() })
	through := func(ctx context.Context) (net.Conn, error) {
		payload, err := forwardTo(to)
		if err != nil {
			return nil, err
		}
		ch, reqs, err := openChannel(ctx, client, "direct-tcpip", payload)
		if err != nil {
			return nil, fmt.Errorf("through %s: %w", at.Name, err)
		}
		go gossh.DiscardRequests(reqs)
		return &passed{Channel: ch, under: ch}, nil
	}
	return through, func() {
		unlink()
		client.Close()
	}
}

// logins tries the accounts, side by side, and then says what that means for the
// target's trust in our authority.
func (q *inquiry) logins(ctx context.Context, dial dialer) {
	t := q.probe.Target
	results := make([]access.CheckStep, len(q.probe.Accounts))
	atOnce, refusals := loginsAtOnce, 0
	if penalizes(q.version) {
		atOnce = 1
	}
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, account := range q.probe.Accounts {
		places <- struct{}{} // whoever had it has written its result
		s := access.CheckStep{Step: access.CheckLogin, Target: t.Name, Account: account, State: access.CheckUnknown}
		if atOnce == 1 && refusals >= maxRefusals {
			s.Detail = account + " is not tried: its sshd shuts out an address from which logins fail, and that is this server's"
			results[i] = s
			<-places
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, stepWithin)
			defer cancel()
			client, err := q.enter(ctx, len(q.probe.Hops), t, account, dial)
			if err == nil {
				client.Close()
			} else if atOnce == 1 {
				refusals++
			}
			results[i] = loggedIn(s, client, err)
		})
	}
	all.Wait()
	machine, reported := q.machine(ctx, dial)
	var certified []access.CheckStep // the logins with certificates
	for _, s := range results {
		if a, _ := t.Account(s.Account); !a.Lent() {
			certified = append(certified, s)
		}
	}
	trusted := reported || slices.ContainsFunc(certified, func(s access.CheckStep) bool { return s.State == access.CheckOK })
	for _, s := range results {
		if a, _ := t.Account(s.Account); s.State == access.CheckFailed && s.Next == "" && trusted && !a.Lent() {
			s.Detail += "; others are, so this account is not there, is locked, is not let in by sshd, or has no such principal"
			s.Next = "write " + s.Account + "@" + t.Name + " into the principals of " + s.Account + ": drawbolt target bootstrap " + t.Name
		}
		q.note(s)
	}
	q.note(q.authority(trusted, certified))
	for _, s := range machine {
		q.note(s)
	}
}

// penalizes reports whether this is an sshd that refuses an address for a while
// after some failed logins (PerSourcePenalties, since OpenSSH 9.8): sessions of
// people come from ours as well.
func penalizes(version string) bool {
	m := openSSHVersion.FindStringSubmatch(version)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > 9 || major == 9 && minor >= 8
}

func (q *inquiry) authority(trusted bool, logins []access.CheckStep) access.CheckStep {
	t := q.probe.Target
	key := gossh.FingerprintSHA256(q.Broker.Authorities().User)
	s := access.CheckStep{Step: access.CheckAuthority, Target: t.Name, State: access.CheckOK, Detail: "sshd trusts our user authority " + key}
	switch {
	case trusted:
	case len(logins) == 0 && t.Provisioner == "":
		s.State, s.Detail = access.CheckUnknown, "there is no account with which it could be told"
	default:
		s.State, s.Next = access.CheckFailed, "drawbolt target bootstrap "+t.Name
		s.Detail = "nobody is let in: sshd does not trust our user authority " + key + ", or no account has its principal"
	}
	return s
}

// machine logs in as the provisioner and asks what only root sees. It reports
// whether that one was let in.
func (q *inquiry) machine(ctx context.Context, dial dialer) (_ []access.CheckStep, letIn bool) {
	t := q.probe.Target
	if t.Provisioner == "" {
		return []access.CheckStep{
			{Step: access.CheckClock, Target: t.Name, State: access.CheckUnknown, Detail: "only a provisioner could tell"},
			{Step: access.CheckRevoked, Target: t.Name, State: access.CheckUnknown, Detail: "only a provisioner could tell"},
		}, false
	}
	ctx, cancel := context.WithTimeout(ctx, stepWithin)
	defer cancel()
	login := access.CheckStep{Step: access.CheckProvisioner, Target: t.Name, Account: t.Provisioner}
	client, err := q.enter(ctx, len(q.probe.Hops), t, t.Provisioner, dial)
	if err != nil {
		login = loggedIn(login, nil, err)
		login.Next = "drawbolt target bootstrap " + t.Name
		return []access.CheckStep{login}, false
	}
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })()
	before := q.Now()
	ch, reqs, err := openChannel(ctx, client, "session", nil)
	var said []byte
	if err == nil {
		command := "sh -s"
		if t.Provisioner != "root" {
			command = "sudo -n -- sh -s"
		}
		said, err = execute(ch, reqs, command, []byte(reportScript), maxMachineOutput)
	}
	if err != nil {
		login.State, login.Detail = access.CheckFailed, t.Provisioner+" is let in and cannot run what it has to, as root: "+err.Error()
		return []access.CheckStep{login}, true
	}
	return machineSteps(login, said, before, q.Now()), true
}

var reportLine = regexp.MustCompile(`(?m)^drawbolt: ([a-z_]{1,20})=([a-z0-9]{1,20})\r?$`)

// machineSteps reads what check.sh said between before and after. The target is
// not trusted: what it says is its word, and what is not understood is unknown.
func machineSteps(login access.CheckStep, said []byte, before, after time.Time) []access.CheckStep {
	values := map[string]string{}
	var missing []string
	for _, m := range reportLine.FindAllSubmatch(said, -1) {
		if key := string(m[1]); key == "missing" {
			missing = append(missing, string(m[2]))
		} else {
			values[key] = string(m[2])
		}
	}
	name := login.Target
	switch {
	case values["root"] != "yes":
		login.State, login.Detail = access.CheckFailed, login.Account+" is not root there"
	case len(missing) > 0:
		login.State, login.Detail = access.CheckFailed, "there is no "+strings.Join(missing[:min(len(missing), 8)], ", no ")
	default:
		login.State, login.Detail = access.CheckOK, login.Account+" makes accounts there"
	}
	clock := access.CheckStep{Step: access.CheckClock, Target: name, State: access.CheckUnknown, Detail: "it did not say"}
	now, err := strconv.ParseInt(values["clock"], 10, 64)
	if err == nil && now > 0 && now < 1<<40 {
		skew := time.Unix(now, 0).Sub(before.Add(after.Sub(before) / 2)).Truncate(time.Second)
		clock.State, clock.Detail = access.CheckOK, fmt.Sprintf("%s apart from ours", skew.Abs())
		if skew.Abs() > maxClockSkew {
			clock.State, clock.Next = access.CheckFailed, "set the clock of the target by NTP"
		}
	}
	return []access.CheckStep{login, clock, revokedStep(name, values, now)}
}

func revokedStep(name string, values map[string]string, now int64) access.CheckStep {
	s := access.CheckStep{Step: access.CheckRevoked, Target: name, State: access.CheckFailed, Next: "drawbolt target bootstrap " + name}
	written, err := strconv.ParseInt(values["krl_written"], 10, 64)
	switch values["krl"] {
	case "none":
		s.Detail = "sshd has no list of revoked certificates"
	case "missing":
		s.Detail = "the list that RevokedKeys names is not there: sshd lets nobody in by key"
	case "broken":
		s.Detail = "the list that RevokedKeys names is none"
	case "there":
		age := time.Duration(max(0, min(now-written, 1<<32))) * time.Second
		s.Detail = fmt.Sprintf("the list has %s certificates and is %s old", values["krl_revoked"], age)
		if err == nil && now > 0 && age <= maxKRLAge {
			s.State, s.Next = access.CheckOK, ""
		}
	default:
		s.State, s.Detail, s.Next = access.CheckUnknown, "sshd's configuration cannot be read there", ""
	}
	return s
}
