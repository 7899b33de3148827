package discovery

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// LinuxScript is what a Linux system is scanned with: for a POSIX sh, which gets it
// on its standard input, as root. Its arguments are names of kernel settings.
//
//go:embed linux.sh
var LinuxScript []byte

// ErrUnread says that a system's answer is no scan, or not a whole one.
var ErrUnread = errors.New("the answer is no whole scan")

// privileged are groups whose members may become root, or as good as.
var privileged = map[string]string{
	"docker": "may start containers that see the whole machine", "lxd": "may start containers that see the whole machine",
	"podman": "may start containers that see the whole machine", "disk": "reads and writes the disks below the files",
	"shadow": "reads the hashes of all passwords", "kmem": "reads the memory of the machine",
	"libvirt": "may start virtual machines with the machine's disks",
}

// ParseLinux reads the output of LinuxScript. It refuses what is not whole; what the
// script itself has cut off is named in Incomplete.
func ParseLinux(output []byte) (Scan, error) {
	s := Scan{Kind: Linux, Settings: map[string]string{}}
	if len(output) > MaxOutput {
		return s, fmt.Errorf("%w: it has more than %d bytes", ErrUnread, MaxOutput)
	}
	_, output, found := bytes.Cut(output, []byte("drawbolt\t1\n")) // sshd may greet before
	body, _, ended := bytes.Cut(output, []byte("\nend\tof the scan"))
	if !found || !ended {
		return s, ErrUnread
	}
	r := linuxReader{scan: &s, byName: map[string]int{}, groups: map[string]string{}, primary: map[string][]string{}, byUID: map[int64]string{}}
	r.uid = -1
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > maxLine {
			s.incomplete("long lines")
			continue
		}
		r.line(strings.Split(string(line), "\t"))
	}
	if r.uid != 0 {
		s.incomplete("what only root may read")
	}
	if len(s.Accounts) == 0 {
		return s, fmt.Errorf("%w: it has no account", ErrUnread)
	}
	r.finish()
	return s, nil
}

type linuxReader struct {
	scan    *Scan
	uid     int64
	byName  map[string]int
	byUID   map[int64]string
	groups  map[string]string   // name by number
	primary map[string][]string // accounts by the number of their group
	sudoers sudoers
	shadow  bool
}

func (r *linuxReader) account(name string) *Account {
	if i, ok := r.byName[name]; ok {
		return &r.scan.Accounts[i]
	}
	return nil
}

// line reads one line; one of another form is passed over.
func (r *linuxReader) line(f []string) {
	s := r.scan
	switch {
	case len(f) < 2:
	case f[0] == "now":
		if n, ok := moment(f[1]); ok {
			s.At = n
		}
	case f[0] == "uid":
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			r.uid = n
		}
	case f[0] == "os":
		s.System = clean(f[1])
	case f[0] == "kernel":
		s.set("fact.kernel", f[1])
	case f[0] == "cut":
		s.incomplete(f[1])
	case f[0] == "known" && f[1] == "logins":
		s.LastLogins = true
	case f[0] == "passwd" && len(f) >= 8:
		r.passwd(f)
	case f[0] == "shadow" && len(f) >= 6:
		r.shadowLine(f)
	case f[0] == "group" && len(f) >= 4:
		r.groupLine(f)
	case f[0] == "sudoers" && len(f) >= 3:
		r.sudoers.line(clean(f[1]), strings.Join(f[2:], " "))
	case f[0] == "sshd" && len(f) >= 3:
		r.sshd(f[1], strings.Join(f[2:], " "))
	case f[0] == "sshd-user" && len(f) >= 4:
		s.set("sshd-user."+f[1]+"."+f[2], f[3])
	case f[0] == "matches":
		s.set("sshd.matches", f[1])
	case f[0] == "key" && len(f) >= 3:
		r.key(f[1], strings.Join(f[2:], "\t"))
	case f[0] == "login" && len(f) >= 3:
		if a := r.account(f[1]); a != nil {
			if t, ok := moment(f[2]); ok && t.After(a.LastLogin) {
				a.LastLogin = t
			}
		}
	case f[0] == "setuid":
		path := clean(strings.Join(f[1:], " "))
		if !strings.HasPrefix(path, "/") {
			s.incomplete("setuid")
			break
		}
		s.Setuid = r.listed(s.Setuid, "setuid", path)
	case f[0] == "listen":
		if address, ok := listening(f[1]); ok {
			s.Listening = r.listed(s.Listening, "listen", address)
		}
	case f[0] == "fact" && len(f) >= 3:
		s.set("fact."+f[1], f[2])
	case f[0] == "sysctl" && len(f) >= 3:
		s.set("sysctl."+f[1], f[2])
	}
}

func (r *linuxReader) listed(list []string, part, text string) []string {
	if len(list) >= maxListed {
		r.scan.incomplete(part)
		return list
	}
	if text == "" || slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// moment reads seconds since 1970, of this century.
func moment(s string) (time.Time, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 4102444800 {
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}

func day(s string) (time.Time, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 47482 {
		return time.Time{}, false
	}
	return time.Unix(n*86400, 0).UTC(), true
}

func (r *linuxReader) passwd(f []string) {
	name := f[1]
	if name == "" || name != clean(name) || len(name) > 64 {
		r.scan.incomplete("accounts with odd names")
		return
	}
	if _, there := r.byName[name]; there {
		return // the first one counts, as for the system
	}
	if len(r.scan.Accounts) >= maxAccounts {
		r.scan.incomplete("passwd")
		return
	}
	uid, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		uid = -1
	}
	a := Account{Name: name, UID: uid, Shell: clean(f[6]), Comment: clean(strings.Join(f[7:], " "))}
	if f[4] == PasswordSet || f[4] == PasswordNone || f[4] == PasswordLocked {
		a.Password = f[4]
	}
	if uid == 0 {
		a.Rights = append(a.Rights, Right{Text: "is root: its number is 0", Full: true, Source: "/etc/passwd"})
	}
	r.byName[name] = len(r.scan.Accounts)
	if _, there := r.byUID[uid]; !there {
		r.byUID[uid] = name
	}
	r.primary[f[3]] = append(r.primary[f[3]], name)
	r.scan.Accounts = append(r.scan.Accounts, a)
}

func (r *linuxReader) shadowLine(f []string) {
	r.shadow = true
	a := r.account(f[1])
	if a == nil || a.Password != "" { // it does not stand there, or is not looked for there
		return
	}
	if f[2] == PasswordSet || f[2] == PasswordNone || f[2] == PasswordLocked {
		a.Password = f[2]
	}
	a.Changed, _ = day(f[3])
	most, err := strconv.Atoi(f[4])
	a.NeverExpires = a.Password == PasswordSet && (err != nil || most < 0 || most >= 9999)
	if end, ok := day(f[5]); ok && !r.scan.At.IsZero() && !r.scan.At.Before(end) {
		a.Disabled = true
	}
}

func (r *linuxReader) groupLine(f []string) {
	group := clean(f[1])
	if group == "" {
		return
	}
	if _, there := r.groups[f[2]]; !there {
		r.groups[f[2]] = group
	}
	for name := range strings.SplitSeq(f[3], ",") {
		r.join(name, group)
	}
	for _, name := range r.primary[f[2]] {
		r.join(name, group)
	}
}

func (r *linuxReader) join(name, group string) {
	a := r.account(name)
	if a == nil || slices.Contains(a.Groups, group) {
		return
	}
	if len(a.Groups) >= maxRights {
		r.scan.incomplete("groups of one account")
		return
	}
	a.Groups = append(a.Groups, group)
	if why, ok := privileged[group]; ok {
		a.Rights = append(a.Rights, Right{Text: why, Full: true, Source: "group " + group})
	}
}

func (r *linuxReader) sshd(name, value string) {
	s := r.scan
	if name == "port" || name == "listenaddress" || name == "acceptenv" || name == "hostkey" {
		return // several lines each; what is listened at is known from elsewhere
	}
	s.set("sshd."+name, value)
}

// key reads a line of authorized_keys; without a name it is one of the authorities.
func (r *linuxReader) key(name, line string) {
	public, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return
	}
	k := Key{Type: clean(public.Type()), Fingerprint: ssh.FingerprintSHA256(public), Comment: clean(comment)}
	if name == "" {
		r.scan.Authorities = r.listed(r.scan.Authorities, "authorities", k.Fingerprint)
		return
	}
	a := r.account(name)
	if a == nil || slices.ContainsFunc(a.Keys, func(o Key) bool { return o.Fingerprint == k.Fingerprint }) {
		return
	}
	for i, o := range options {
		what, _, _ := strings.Cut(strings.ToLower(o), "=")
		k.Authority = k.Authority || what == "cert-authority"
		if what == "environment" {
			options[i] = "environment" // it may hold a secret
		}
	}
	k.Options = clean(strings.Join(options, ","))
	if len(a.Keys) >= maxKeys {
		r.scan.incomplete("keys of one account")
		return
	}
	a.Keys = append(a.Keys, k)
}

// listening reads an address as /proc/net/tcp has it: in words of four bytes, each in
// the order of the machine, which is taken to be little-endian.
func listening(s string) (string, bool) {
	address, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b) != 4 && len(b) != 16 {
		return "", false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	ip, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String(), true
}

// finish joins what stands in different parts.
func (r *linuxReader) finish() {
	s := r.scan
	if !r.shadow {
		s.incomplete("shadow")
	}
	for i := range s.Accounts {
		a := &s.Accounts[i]
		for _, right := range r.sudoers.of(a) {
			if len(a.Rights) >= maxRights {
				s.incomplete("rights of one account")
				break
			}
			a.Rights = append(a.Rights, right)
		}
		if noShell(a.Shell) {
			a.Service = "it has no login shell"
		} else if a.UID > 0 && a.UID < 1000 {
			a.Service = "its number is one of the system's"
		}
	}
	if r.sudoers.unclear > 0 {
		s.incomplete("rules of sudo that are not understood")
	}
	slices.Sort(s.Listening)
	slices.Sort(s.Setuid)
	s.set("fact.listening", strings.Join(s.open(), " "))
	s.set("fact.setuid", strings.Join(Unusual(s.Setuid), " "))
}

// open are the ports that are listened at for others than the machine itself.
func (s *Scan) open() (ports []string) {
	for _, l := range s.Listening {
		at, err := netip.ParseAddrPort(l)
		if port := strconv.Itoa(int(at.Port())); err == nil && !at.Addr().IsLoopback() && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	slices.SortFunc(ports, func(a, b string) int { return len(a)*100000 - len(b)*100000 + strings.Compare(a, b) })
	return ports
}

func noShell(shell string) bool {
	name := shell[strings.LastIndex(shell, "/")+1:]
	return name == "nologin" || name == "false" || name == "sync" || name == "halt" || name == "shutdown"
}

// usual are names of programs of distributions that run as somebody else.
const usual = " su sudo sudoedit mount umount passwd chsh chfn gpasswd newgrp chage expiry pkexec fusermount fusermount3 ping ping6 at crontab ssh-keysign ssh-agent " +
	"dbus-daemon-launch-helper polkit-agent-helper-1 unix_chkpwd pam_timestamp_check userhelper mount.nfs mount.cifs ntfs-3g snap-confine newuidmap newgidmap " +
	"bwrap chrome-sandbox vmware-user-suid-wrapper Xorg.wrap grub2-set-bootflag usernetctl sendmail procmail exim4 pppd staprun cockpit-session doas utempter bsd-write wall write locate "

// Unusual are the programs that are none of those with which distributions come, or
// that stand where these do not.
func Unusual(programs []string) (list []string) {
	for _, p := range programs {
		name := p[strings.LastIndex(p, "/")+1:]
		system := strings.HasPrefix(p, "/usr/") && !strings.HasPrefix(p, "/usr/local/") || strings.HasPrefix(p, "/bin/") || strings.HasPrefix(p, "/sbin/")
		if !system || !strings.Contains(usual, " "+name+" ") {
			list = append(list, p)
		}
	}
	return list
}
