package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) sshConfigCmd() *cobra.Command {
	var install, uninstall bool
	var transport string
	cmd := &cobra.Command{
		Use:   "ssh-config [--install|--uninstall] [--transport ssh|https]",
		Short: "Make plain ssh, scp, sftp, rsync, git and ansible work",
		Long: `Print an ssh_config with one Host block a target, or install it: it is written
into the folder of the profile, and one Include line goes to the top of
~/.ssh/config. Run it again when there are new targets.

With --transport https ssh goes through the HTTPS port of the server, by
"drawbolt proxy", for networks that let nothing else out. The choice is kept.`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if install && uninstall {
				return usage("--install and --uninstall exclude each other")
			}
			if uninstall {
				return c.uninstallConfig()
			}
			if !slices.Contains([]string{"", "ssh", overHTTPS}, transport) {
				return usage("--transport is ssh or https, not %q", transport)
			}
			return c.runSSHConfig(cmd.Context(), install, transport)
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "include it in ~/.ssh/config")
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "take the Include line out again")
	cmd.Flags().StringVar(&transport, "transport", "", "how ssh reaches the server: ssh (its own port) or https")
	cmd.RegisterFlagCompletionFunc("transport", cobra.FixedCompletions([]string{"ssh", overHTTPS}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// overHTTPS is the transport of a profile whose ssh goes through drawbolt proxy.
const overHTTPS = "https"

func (c *cli) runSSHConfig(ctx context.Context, install bool, transport string) error {
	cl, p, err := c.client()
	if err != nil {
		return err
	}
	if transport != "" {
		p.Transport = strings.TrimSuffix(transport, "ssh") // that one is the default
		if err := c.saveProfile(p); err != nil {
			return err
		}
	}
	n, text, err := c.refreshConfig(ctx, cl, p)
	if err != nil {
		return err
	}
	if err := c.refreshKnownHosts(ctx, p); err != nil {
		return err
	}
	if !install {
		_, err := c.stdout.Write(text)
		if !c.outTTY {
			c.say("An earlier \"Host *\" wins over what comes later: put this on top of the file, or use")
			c.say("Next: drawbolt ssh-config --install")
		}
		return err
	}
	file, err := c.userConfig()
	if err != nil {
		return err
	}
	old, err := readFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	include := block(p)
	updated := append([]byte(include), without(old, p.name)...)
	if !bytes.Equal(old, updated) {
		c.say("Will put this on top of %s:", file)
		for _, line := range strings.Split(strings.TrimSpace(include), "\n") {
			c.say("  + %s", line)
		}
		if err := c.confirm("Continue?"); err != nil {
			return err
		}
		if err := replaceUserFile(file, updated); err != nil {
			return err
		}
	}
	c.done("%d hosts in %s", n, p.path("ssh_config"))
	c.next("ssh TARGET      Undo: drawbolt ssh-config --uninstall")
	return nil
}

func (c *cli) uninstallConfig() error {
	p, err := c.loadProfile()
	if err != nil {
		return err
	}
	file, err := c.userConfig()
	if err != nil {
		return err
	}
	old, err := readFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	updated := without(old, p.name)
	if bytes.Equal(old, updated) {
		c.done("%s does not include drawbolt; nothing changed", file)
		return nil
	}
	if err := replaceUserFile(file, updated); err != nil {
		return err
	}
	c.done("%s does not include drawbolt any more", file)
	return nil
}

// refreshConfig renews the identity when it is needed and writes ssh_config.
func (c *cli) refreshConfig(ctx context.Context, cl *api.Client, p *profile) (int, []byte, error) {
	if err := c.ensureIdentity(ctx, cl, p); err != nil {
		return 0, nil, err
	}
	list, err := cl.Targets(ctx)
	if err != nil {
		return 0, nil, err
	}
	text, err := writeSSHConfig(p, list.Items)
	return len(list.Items), text, err
}

// writeSSHConfig writes the ssh_config of the profile, and returns it.
func writeSSHConfig(p *profile, targets []api.Target) ([]byte, error) {
	proxy := ""
	if p.Transport == overHTTPS {
		var err error
		if proxy, err = proxyCommand(p); err != nil {
			return nil, err
		}
	}
	text := sshConfig(p, targets, proxy)
	return text, writeFile(p.path("ssh_config"), text)
}

// sshConfig writes one Host block for the bastion and one for each target. Real
// Host lines, not Match, so that shells and editors find the names. Whatever of
// the server's text is not plain is left out: a newline or a quote in it would
// become configuration, and ssh_config can run commands. proxy is the command
// that takes the place of the bastion, if any.
func sshConfig(p *profile, targets []api.Target, proxy string) []byte {
	var b bytes.Buffer
	jump := "drawbolt-" + p.name
	identity := func() {
		fmt.Fprintf(&b, "    UserKnownHostsFile %s\n", sshPath(p.path("known_hosts")))
		fmt.Fprintf(&b, "    StrictHostKeyChecking yes\n")
		fmt.Fprintf(&b, "    IdentityFile %s\n", sshPath(p.path("id")))
		fmt.Fprintf(&b, "    CertificateFile %s\n", sshPath(p.path("id-cert.pub")))
		fmt.Fprintf(&b, "    IdentitiesOnly yes\n")
		fmt.Fprintf(&b, "    ForwardAgent no\n")
	}
	fmt.Fprintf(&b, "# >>> drawbolt %s >>> refresh: drawbolt ssh-config --install\n", p.name)
	fmt.Fprintf(&b, "Host %s\n    HostName %s\n    Port %d\n", jump, p.SSHHost, p.SSHPort)
	if plainHost(p.User) {
		fmt.Fprintf(&b, "    User %s\n", p.User)
	}
	fmt.Fprintf(&b, "    HostKeyAlias %s\n", p.SSHHost)
	identity()
	targets = slices.Clone(targets)
	slices.SortFunc(targets, func(x, y api.Target) int { return strings.Compare(x.Name, y.Name) })
	for _, t := range targets {
		if !plainHost(t.Name) || t.Name == jump {
			continue
		}
		// 22 is what the bastion is asked for; the real port is the target's own.
		fmt.Fprintf(&b, "\nHost %s\n    HostName %s\n    Port 22\n    HostKeyAlias %s\n", t.Name, t.Name, t.Name)
		var accounts []string
		for _, a := range t.Accounts {
			if (a.Usable || a.MayAsk) && plainHost(a.Name) {
				accounts = append(accounts, a.Name)
			}
		}
		if len(accounts) == 1 {
			fmt.Fprintf(&b, "    User %s\n", accounts[0])
		}
		if proxy != "" {
			fmt.Fprintf(&b, "    ProxyCommand %s\n", proxy)
		} else {
			fmt.Fprintf(&b, "    ProxyJump %s\n", jump)
		}
		identity()
	}
	fmt.Fprintf(&b, "# <<< drawbolt %s <<<\n", p.name)
	return b.Bytes()
}

// proxyCommand is what ssh runs to get through over HTTPS. ssh replaces the
// tokens with %, and gives the rest to the shell of the person.
func proxyCommand(p *profile) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	words := []string{program, "proxy", "--folder", filepath.Dir(p.dir), "--profile", p.name}
	for i, w := range words {
		if words[i], err = shellWord(w); err != nil {
			return "", err
		}
	}
	return strings.Join(words, " ") + " --host %h --port %p", nil
}

// shellWord quotes a word for the shell behind a ProxyCommand.
func shellWord(w string) (string, error) {
	quote, inside := "'", "'\\''"
	if runtime.GOOS == "windows" {
		quote, inside = `"`, ``
		w = filepath.ToSlash(w)
	}
	if strings.ContainsFunc(w, unicode.IsControl) || inside == "" && strings.Contains(w, quote) {
		return "", usage("the path %q cannot stand in an ssh_config", w)
	}
	if !strings.ContainsFunc(w, func(r rune) bool {
		return !strings.ContainsRune("/._-+:", r) && (r >= unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}) {
		return w, nil // nothing in it means anything to ssh or to a shell
	}
	return quote + strings.ReplaceAll(strings.ReplaceAll(w, "%", "%%"), quote, inside) + quote, nil
}

// sshPath quotes a path for ssh_config; % begins a token there.
func sshPath(path string) string {
	return `"` + strings.ReplaceAll(filepath.ToSlash(path), "%", "%%") + `"`
}

func marks(name string) (begin, end string) {
	return "# >>> drawbolt " + name + " >>>", "# <<< drawbolt " + name + " <<<"
}

// block is what --install writes. An Include takes no tokens, so no % there.
func block(p *profile) string {
	begin, end := marks(p.name)
	return begin + "\nInclude \"" + filepath.ToSlash(p.path("ssh_config")) + "\"\n" + end + "\n"
}

// without returns the text without the block of this profile. A begin without
// its end is left alone: it is not ours any more.
func without(text []byte, name string) []byte {
	begin, end := marks(name)
	lines := bytes.SplitAfter(text, []byte("\n"))
	is := func(line []byte, mark string) bool { return string(bytes.TrimSpace(line)) == mark }
	var out []byte
	for i := 0; i < len(lines); i++ {
		if is(lines[i], begin) {
			if j := slices.IndexFunc(lines[i:], func(l []byte) bool { return is(l, end) }); j >= 0 {
				i += j
				continue
			}
		}
		out = append(out, lines[i]...)
	}
	return out
}

// included reports whether ~/.ssh/config includes the profile.
func (c *cli) included(p *profile) bool {
	file, err := c.userConfig()
	if err != nil {
		return false
	}
	text, err := readFile(file)
	return err == nil && !bytes.Equal(text, without(text, p.name))
}

// userConfig is ~/.ssh/config, or the file that it is a link to.
func (c *cli) userConfig() (string, error) {
	home, err := c.home()
	if err != nil {
		return "", err
	}
	file := filepath.Join(home, ".ssh", "config")
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	return file, nil
}

// replaceUserFile replaces somebody else's file and keeps its mode.
func replaceUserFile(file string, data []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	return replaceFile(file, data, mode)
}
