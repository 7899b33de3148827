package access

import (
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// SessionRules say what a session may do and how it is recorded. The zero value
// allows nothing.
type SessionRules struct {
	Recording string // "strict" always: no recording, no session
	Shell     bool
	Exec      bool
	Agent     bool // the user's key agent
	X11       bool // the user's display
	// Commands are the only ones that Exec allows, see [ParseCommandRule];
	// empty: any.
	Commands []string
	Files    []string // which files may be carried, see [ParseFileRule]
	Forwards []string // which tunnels may be opened, see [ParseForwardRule]
	// Detect are the commands that are looked for in what is typed into terminals,
	// see [ParseDetectRule]: an aid and no boundary.
	Detect []string `json:",omitempty"` // requests of before it was known keep their digest
	// SilentWatch: the user is not told when somebody watches.
	SilentWatch bool `json:",omitempty"`
	// FourEyes: what the user sends passes only while somebody else watches.
	FourEyes bool `json:",omitempty"`
	// Checkout: the holder may see the account's password. "" not; [CheckoutManaged]
	// where it is changed afterwards by the server; [CheckoutAny] elsewhere, too.
	Checkout string `json:",omitempty"`
}

// Of which accounts the holder of a grant may see the password.
const (
	CheckoutManaged = "managed"
	CheckoutAny     = "any"
)

// Narrow keeps what both allow: a role that was widened after an approval
// widens nothing, one that was narrowed narrows at once. Of the lists it keeps
// the entries that both have; of what is looked for, those that either has. Who is
// told of watchers by either is told, and what either wants watched is watched.
func (r SessionRules) Narrow(now SessionRules) SessionRules {
	out := SessionRules{
		Recording: now.Recording,
		Shell:     r.Shell && now.Shell,
		Exec:      r.Exec && now.Exec,
		Agent:     r.Agent && now.Agent,
		X11:       r.X11 && now.X11,
		Files:     common(r.Files, now.Files),
		Forwards:  common(r.Forwards, now.Forwards),
		Detect:    either(r.Detect, now.Detect),

		SilentWatch: r.SilentWatch && now.SilentWatch,
		FourEyes:    r.FourEyes || now.FourEyes,
		Checkout:    narrowCheckout(r.Checkout, now.Checkout),
	}
	switch {
	case len(r.Commands) == 0:
		out.Commands = now.Commands
	case len(now.Commands) == 0:
		out.Commands = r.Commands
	default:
		out.Commands = common(r.Commands, now.Commands)
		out.Exec = out.Exec && len(out.Commands) > 0 // none would be any
	}
	return out
}

func narrowCheckout(a, b string) string {
	switch {
	case a == "" || b == "":
		return ""
	case a == CheckoutAny && b == CheckoutAny:
		return CheckoutAny
	default:
		return CheckoutManaged
	}
}

func common(a, b []string) []string {
	var out []string
	for _, s := range a {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func either(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// maxSessionRule bounds one entry of the lists, in bytes.
const maxSessionRule = 512

func (r SessionRules) validate() error {
	if !slices.Contains([]string{"", "strict"}, r.Recording) {
		return Invalid("recording must be strict")
	}
	if !slices.Contains([]string{"", CheckoutManaged, CheckoutAny}, r.Checkout) {
		return Invalid("checkout must be %s or %s", CheckoutManaged, CheckoutAny)
	}
	for _, list := range [][]string{r.Commands, r.Files, r.Forwards, r.Detect} {
		if len(list) > MaxItems {
			return Invalid("at most %d commands, files, forwards or detections are taken", MaxItems)
		}
		for _, s := range list {
			if len(s) > maxSessionRule {
				return Invalid("%s... is longer than %d bytes", strconv.QuoteToASCII(clip(s)), maxSessionRule)
			}
		}
	}
	if len(r.Commands) > 0 && !r.Exec {
		return Invalid("commands are named, but exec is not allowed")
	}
	for _, s := range r.Commands {
		if _, err := ParseCommandRule(s); err != nil {
			return err
		}
	}
	for _, s := range r.Files {
		if _, err := ParseFileRule(s); err != nil {
			return err
		}
	}
	for _, s := range r.Forwards {
		if _, err := ParseForwardRule(s); err != nil {
			return err
		}
	}
	for _, s := range r.Detect {
		if _, err := ParseDetectRule(s); err != nil {
			return err
		}
	}
	return nil
}

// A CommandRule allows commands of exec requests.
type CommandRule struct{ text string }

// ParseCommandRule reads a command. Without a * it allows just this command,
// byte for byte, whatever it contains: it was written by whoever wrote the role.
//
// With a *, the command that is asked for must be plain words with one space
// between: no quotes, no variables, no redirections, no newline, nothing that a
// shell takes for more than text. A * in a word stands for any characters, but
// not for a leading dash, so that nothing becomes an option; ** as the last word
// stands for any number of such words.
func ParseCommandRule(s string) (CommandRule, error) {
	if s == "" || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return CommandRule{}, Invalid("the command %s is empty, or has spaces around it or control characters in it", strconv.QuoteToASCII(clip(s)))
	}
	if !strings.Contains(s, "*") {
		return CommandRule{s}, nil
	}
	words := strings.Split(s, " ")
	for i, w := range words {
		switch {
		case w == "**" && i == len(words)-1 && i > 0:
		case i == 0 && strings.Contains(w, "*"):
			return CommandRule{}, Invalid("the command %s does not name its program", strconv.QuoteToASCII(clip(s)))
		case strings.Contains(w, "**") || !plainWord(strings.ReplaceAll(w, "*", "x")):
			return CommandRule{}, Invalid("the command %s has a *, and words that are not plain: letters, digits and %s", strconv.QuoteToASCII(clip(s)), plainSigns)
		}
	}
	return CommandRule{s}, nil
}

// Matches reports whether the rule allows a command, as it was sent.
func (r CommandRule) Matches(command string) bool {
	if !strings.Contains(r.text, "*") {
		return command == r.text
	}
	pattern, words := strings.Split(r.text, " "), strings.Split(command, " ")
	for i, w := range words {
		if !plainWord(w) {
			return false
		}
		at := min(i, len(pattern)-1)
		p := pattern[at]
		if i >= len(pattern) && p != "**" {
			return false
		}
		if strings.HasPrefix(p, "*") && strings.HasPrefix(w, "-") {
			return false
		}
		if p != "**" && !globWord(p, w) {
			return false
		}
	}
	return len(words) >= len(pattern) || len(words) == len(pattern)-1 && pattern[len(pattern)-1] == "**"
}

// plainSigns may stand in plain words besides letters and digits: no shell gives
// them a meaning within a word. (A first word with = would set a variable, but
// rules name their program.)
const plainSigns = "@%+=:,./_-"

func plainWord(w string) bool {
	return w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(plainSigns, r))
	})
}

// globWord matches a word of a pattern in which * stands for any characters.
func globWord(pattern, word string) bool {
	// path.Match's * stops at a slash, which has no meaning here.
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(word))
	return ok && err == nil
}

// A Direction is the way in which a file is carried.
type Direction string

// The directions of files.
const (
	Upload   Direction = "upload"   // from the user to the target
	Download Direction = "download" // from the target to the user
)

// A FileRule allows files to be carried.
type FileRule struct {
	Direction Direction
	Path      string // a pattern, see [ParseFileRule]
	MaxBytes  int64  // of one file
	Keep      bool   // a sealed copy is kept beside the recording
}

// ParseFileRule reads "DIRECTION PATH [max SIZE] [keep]", such as
// "download /var/log/*" or "upload /srv/www/** max 100MiB keep".
//
// A path is absolute, or * for every one. In it, * stands for any number of
// characters but /, and ** at the end for everything below. Sizes are bytes, or
// KiB, MiB, GiB.
func ParseFileRule(s string) (FileRule, error) {
	bad := func(why string) (FileRule, error) {
		return FileRule{}, Invalid(`the file rule %s %s; write for example "download /var/log/*" or "upload * max 100MiB"`, strconv.QuoteToASCII(clip(s)), why)
	}
	words := strings.Split(s, " ")
	if len(words) < 2 {
		return bad("names no path")
	}
	r := FileRule{Direction: Direction(words[0]), Path: words[1], MaxBytes: math.MaxInt64}
	if r.Direction != Upload && r.Direction != Download {
		return bad("begins neither with upload nor with download")
	}
	if r.Path != "*" && (!strings.HasPrefix(r.Path, "/") || path.Clean(r.Path) != r.Path || !plainText(r.Path)) {
		return bad("names a path that is neither absolute and clean nor *")
	}
	words = words[2:]
	if len(words) >= 2 && words[0] == "max" {
		size, ok := parseSize(words[1])
		if !ok {
			return bad("has a size that is none")
		}
		r.MaxBytes, words = size, words[2:]
	}
	if len(words) == 1 && words[0] == "keep" {
		r.Keep, words = true, nil
	}
	if len(words) > 0 {
		return bad("has more than a direction, a path, max SIZE and keep")
	}
	return r, nil
}

func parseSize(s string) (int64, bool) {
	unit := int64(1)
	for i, name := range []string{"KiB", "MiB", "GiB"} {
		if number, ok := strings.CutSuffix(s, name); ok {
			s, unit = number, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || s[0] == '+' || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// Matches reports whether the rule speaks of a file. The path is absolute and
// clean, as the target understands it.
func (r FileRule) Matches(d Direction, file string) bool {
	if d != r.Direction {
		return false
	}
	if r.Path == "*" {
		return true
	}
	if folder, ok := strings.CutSuffix(r.Path, "/**"); ok {
		return below(folder, file)
	}
	return glob(r.Path, file)
}

// below reports whether file lies under a folder that matches the pattern.
func below(folder, file string) bool {
	depth := strings.Count(folder, "/")
	rest := file
	end := 0
	for range depth {
		i := strings.IndexByte(rest[1:], '/')
		if i < 0 {
			return false
		}
		end += i + 1
		rest = file[end:]
	}
	return len(rest) > 1 && glob(folder, file[:end])
}

// glob matches a pattern in which * stands for any characters but /.
func glob(pattern, s string) bool {
	ok, err := path.Match(quoteGlob.Replace(pattern), s)
	return ok && err == nil
}

// quoteGlob takes from path.Match what else it knows.
var quoteGlob = strings.NewReplacer(`\`, `\\`, `?`, `\?`, `[`, `\[`)

// A ForwardRule allows tunnels.
type ForwardRule struct {
	Remote   bool         // from a port of the target back to the user
	Socket   string       // a pattern of paths of unix sockets; then Host and ports are not used
	Host     string       // a name, or "*"; empty when Network is used
	Network  netip.Prefix // addresses
	Min, Max uint16       // ports
}

// ParseForwardRule reads "local HOST:PORTS", "remote HOST:PORTS", "local
// unix:PATH" or "remote unix:PATH": a tunnel from the user to a host that the
// target reaches, or from an address at which the target listens back to the
// user.
//
// HOST is a name, an address, a network like 10.0.0.0/8 or [fd00::]/8, or * for
// every one but loopback, link-local and the broker's own addresses, which must be
// named. PORTS is a port, a span like 8000-8100, or *. In PATH, * stands for any
// characters but /.
func ParseForwardRule(s string) (ForwardRule, error) {
	bad := func(why string) (ForwardRule, error) {
		return ForwardRule{}, Invalid(`the forward %s %s; write for example "local db.internal:5432" or "remote 127.0.0.1:8000-8100"`, strconv.QuoteToASCII(clip(s)), why)
	}
	direction, peer, _ := strings.Cut(s, " ")
	if direction != "local" && direction != "remote" {
		return bad("begins neither with local nor with remote")
	}
	r := ForwardRule{Remote: direction == "remote"}
	if socket, ok := strings.CutPrefix(peer, "unix:"); ok {
		if !strings.HasPrefix(socket, "/") || path.Clean(socket) != socket || !plainText(socket) {
			return bad("names a socket whose path is not absolute and clean")
		}
		r.Socket = socket
		return r, nil
	}
	i := strings.LastIndexByte(peer, ':')
	if i <= 0 {
		return bad("names no port")
	}
	host, ports := peer[:i], peer[i+1:]
	min, max, span := strings.Cut(ports, "-")
	if !span {
		max = min
	}
	if ports == "*" {
		min, max = "1", "65535"
	}
	var ok1, ok2 bool
	r.Min, ok1 = parsePort(min)
	r.Max, ok2 = parsePort(max)
	if !ok1 || !ok2 || r.Min > r.Max {
		return bad("has ports that are none")
	}
	bare := strings.NewReplacer("[", "", "]", "").Replace(host)
	if network, err := netip.ParsePrefix(bare); err == nil {
		if network != network.Masked() || network.Addr().Is4In6() {
			return bad("names a network with host bits set")
		}
		r.Network = network
		return r, nil
	}
	if addr, err := netip.ParseAddr(bare); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		r.Network = netip.PrefixFrom(addr, addr.BitLen())
		return r, nil
	}
	if host != "*" && CheckTargetName(host) != nil {
		return bad("names a host that is none")
	}
	r.Host = host
	return r, nil
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '+' && s[0] != '0'
}

// MatchesSocket reports whether the rule speaks of the unix socket at a path.
func (r ForwardRule) MatchesSocket(remote bool, socket string) bool {
	return r.Socket != "" && r.Remote == remote && glob(r.Socket, socket)
}

// Matches reports whether the rule speaks of a host, as the client named it and
// as it was resolved, and a port. Special addresses (loopback, link-local,
// unspecified, multicast) and those in own must be named by the rule.
func (r ForwardRule) Matches(remote bool, host string, addr netip.Addr, port uint16, own []netip.Addr) bool {
	if r.Socket != "" || r.Remote != remote || port < r.Min || port > r.Max {
		return false
	}
	addr = addr.Unmap()
	if r.Network.IsValid() {
		return r.Network.Contains(addr) && (!special(addr, own) || r.namesSpecial())
	}
	if r.Host == "*" {
		return addr.IsValid() && !special(addr, own)
	}
	return strings.EqualFold(r.Host, host) && (!special(addr, own) || strings.EqualFold(r.Host, "localhost"))
}

// MayMatch reports whether there is an address with which the rule would allow a
// local forward to the host, as the client names it.
func (r ForwardRule) MayMatch(host string, port uint16) bool {
	return r.Socket == "" && !r.Remote && port >= r.Min && port <= r.Max &&
		(r.Network.IsValid() || r.Host == "*" || strings.EqualFold(r.Host, host))
}

// namesSpecial reports whether the rule is just about one address, or about
// loopback or link-local ones.
func (r ForwardRule) namesSpecial() bool {
	a := r.Network.Addr()
	return r.Network.IsSingleIP() || r.Network.Bits() >= 8 && (a.IsLoopback() || a.IsLinkLocalUnicast())
}

// apart are further addresses that must be named: "this network" and the limited
// broadcast (RFC 6890), and where clouds answer a machine's questions about
// itself with its credentials. 169.254.169.254 is link-local.
var apart = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("fd00:ec2::/32"),      // Amazon
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google
	netip.MustParsePrefix("168.63.129.16/32"),   // Microsoft
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
}

// carried gives the IPv4 address to which a gateway takes what is sent to an
// IPv6 one: NAT64 (RFC 6052, section 2.1) and 6to4 (RFC 3056, section 2).
func carried(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case !a.Is6():
		return a, false
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return a, false
}

func special(a netip.Addr, own []netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	if b, ok := carried(a); ok && special(b, own) {
		return true
	}
	if slices.ContainsFunc(apart, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsMulticast() || a.IsUnspecified() || slices.Contains(own, a)
}

// plainText reports whether s has neither spaces nor control characters.
func plainText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
