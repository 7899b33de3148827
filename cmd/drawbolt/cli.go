package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/drawbolt/drawbolt/web/api"
)

// A cli is one run of the program: where it reads and writes, and its global flags.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	now            func() time.Time
	inTTY          bool
	outTTY, errTTY bool

	json      string // "": no; "*": the whole object; else field,field
	quiet     bool
	noInput   bool
	yes       bool
	noColor   bool
	timeout   string
	profile   string
	server    string
	tokenFile string
	folder    string // of drawbolt's files, when a command names it

	ran   bool // a verb was found and its flags and arguments were right
	lines *bufio.Reader
	stop  <-chan struct{} // closed by Ctrl-C
}

// run executes one command line and returns its exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	c.stop = ctx.Done()
	root := c.root()
	root.SetArgs(args)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !c.ran {
		err = asUsage(cmd, err)
	}
	return c.finish(ctx, err)
}

// The groups of verbs in the help.
const (
	daily   = "daily"
	approve = "approve"
	auditor = "audit"
	setup   = "setup"
	admin   = "admin"
)

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "drawbolt",
		Short: "Ask for privileged access, approve it, use it, and see what was done with it",
		Long: `drawbolt asks for privileged access just in time, approves it, uses it and shows
what was done with it. Data goes to stdout, talk to stderr.

Exit codes: 0 done, 1 error, 2 bad usage or cancelled, 3 denied, 4 not logged in,
5 no approval in time, 6 no such thing, 7 grant ended, 8 still pending,
130 interrupted, 255 ssh failed.`,
		SilenceErrors: true, SilenceUsage: true,
		DisableAutoGenTag: true,
		Version:           version(),
		Args:              cobra.ArbitraryArgs,
		RunE:              noun,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.timeout != "" {
				if _, err := parseDuration(c.timeout); err != nil {
					return err
				}
			}
			c.ran = true
			return nil
		},
	}
	root.SetVersionTemplate("drawbolt {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&c.json, "json", "", "print JSON: the whole object, or only these `fields` (--json=id,state)")
	f.Lookup("json").NoOptDefVal = "*"
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no talk on stderr, only refusals and errors")
	f.BoolVar(&c.noInput, "no-input", false, "never ask anything")
	f.BoolVar(&c.yes, "yes", false, "answer yes to every question")
	f.BoolVar(&c.noColor, "no-color", false, "no colour (NO_COLOR does the same)")
	f.StringVar(&c.timeout, "timeout", "", "give up after this `duration`: the wait for a decision, or one answer of the server")
	f.StringVar(&c.profile, "profile", "", "`name` of the profile (DRAWBOLT_PROFILE)")
	f.StringVar(&c.server, "server", "", "`URL` of the server (DRAWBOLT_SERVER)")
	f.StringVar(&c.tokenFile, "token-file", "", "read the token from this `file` instead of the profile")

	root.AddGroup(
		&cobra.Group{ID: daily, Title: "Daily:"}, &cobra.Group{ID: approve, Title: "Approve:"},
		&cobra.Group{ID: auditor, Title: "Audit:"}, &cobra.Group{ID: setup, Title: "Set up:"},
		&cobra.Group{ID: admin, Title: "Administer:"},
	)
	group := func(id string, verbs ...*cobra.Command) {
		for _, v := range verbs {
			v.GroupID = id
			root.AddCommand(v)
		}
	}
	group(daily, c.loginCmd(), c.logoutCmd(), c.whoamiCmd(), c.lsCmd(), c.requestCmd(), c.statusCmd(), c.answerCmd(),
		c.extendCmd(), c.cancelCmd(), c.endCmd(), c.checkoutCmd(), c.checkinCmd(), c.sshCmd(), c.scpCmd(), c.runCmd(), c.passwordCmd(), c.totpCmd())
	group(approve, c.inboxCmd(), c.approveCmd(), c.denyCmd(), c.askCmd(), c.handOverCmd(), c.revokeCmd(), c.awayCmd())
	group(auditor, c.sessionsCmd(), c.watchCmd(), c.alarmsCmd(), c.acknowledgeCmd(), c.expectedCmd(), c.messageCmd(), c.pauseCmd(), c.resumeCmd(), c.searchCmd(), c.replayCmd(), c.verifyCmd(), c.exportCmd(), c.auditCmd())
	group(setup, c.sshConfigCmd(), c.proxyCmd(), c.completionCmd(), c.doctorCmd(), c.versionCmd())
	group(admin, c.targetCmd(), c.windowCmd(), c.networkCmd(), c.accountCmd(), c.roleCmd(), c.recordingCmd(), c.userCmd(), c.groupCmd(), c.caCmd(), c.policyCmd(), c.integrationCmd(), c.reportCmd(), c.reviewCmd(), c.breakglassCmd())
	root.AddCommand(c.manCmd())
	root.SetHelpCommandGroupID(setup)
	root.InitDefaultHelpCmd()
	for _, v := range root.Commands() {
		v.DisableFlagsInUseLine = true
	}
	return root
}

// noun is the RunE of a command that only has verbs below it.
func noun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if !cmd.HasParent() {
			return cmd.Help()
		}
		var verbs []string
		for _, v := range cmd.Commands() {
			if v.IsAvailableCommand() {
				verbs = append(verbs, v.Name())
			}
		}
		return usage("say what to do: %s %s", cmd.CommandPath(), strings.Join(verbs, "|"))
	}
	e := usage("%q is not a command of %s", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		e.next = cmd.CommandPath() + " " + near[0]
		e.text += ": did you mean " + strings.Join(near, " or ") + "?"
	} else {
		e.next = cmd.CommandPath() + " --help"
	}
	return e
}

// nounCmd makes a command that only has verbs below it.
func nounCmd(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: noun, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(verbs...)
	return cmd
}

// between wants at least lo and at most hi arguments (hi < 0: any number).
func between(lo, hi int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < lo:
			return usage("something is missing: %s", cmd.UseLine())
		case hi >= 0 && len(args) > hi:
			return usage("%q is one argument too many: %s", args[hi], cmd.UseLine())
		}
		for _, a := range args {
			if a == "" {
				return usage("an argument is empty: %s", cmd.UseLine())
			}
		}
		return nil
	}
}

// flagError words a mistake in the flags.
func flagError(cmd *cobra.Command, err error) error {
	e := usage("%v", err)
	e.next = cmd.CommandPath() + " --help"
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var flags []string
		add := func(f *pflag.Flag) {
			if !f.Hidden {
				flags = append(flags, f.Name)
			}
		}
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		if near := nearest(name, flags); near != "" {
			e.text += ": did you mean --" + near + "?"
		}
	}
	return e
}

// nearest returns the name that is at most two edits away, or "".
func nearest(name string, names []string) string {
	best, dist := "", 3
	for _, n := range names {
		if d := distance(name, n); d < dist {
			best, dist = n, d
		}
	}
	return best
}

// distance counts the edits between two short words (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// interactive reports whether a question may be asked.
func (c *cli) interactive() bool { return c.inTTY && c.errTTY && !c.noInput }

// ask asks for a line. It must be interactive.
func (c *cli) ask(question string) (string, error) {
	fmt.Fprint(c.stderr, question)
	return c.readLine()
}

// maxLine bounds what is read from a person, in bytes.
const maxLine = 4096

// untilStopped runs a read that nothing but input ends, and leaves it alone on
// Ctrl-C: the process is about to end then.
func (c *cli) untilStopped(read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		text, err := read()
		got <- result{text, err}
	}()
	select {
	case r := <-got:
		return r.text, r.err
	case <-c.stop:
		return "", &failure{code: exitInterrupt, text: "interrupted"}
	}
}

// readLine reads one line of stdin without its end.
func (c *cli) readLine() (string, error) { return c.untilStopped(c.line) }

func (c *cli) line() (string, error) {
	if c.lines == nil {
		c.lines = bufio.NewReaderSize(c.stdin, maxLine)
	}
	b, err := c.lines.ReadSlice('\n')
	if err != nil && (err != io.EOF || len(b) == 0) {
		if err == io.EOF {
			return "", cancelled("nothing was entered")
		}
		return "", fmt.Errorf("read from stdin: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// askSecret asks for a line that is not shown.
func (c *cli) askSecret(question string) (string, error) {
	f, ok := c.stdin.(*os.File)
	if !ok {
		return c.ask(question)
	}
	fmt.Fprint(c.stderr, question)
	fd := int(f.Fd())
	if echo, err := term.GetState(fd); err == nil {
		defer term.Restore(fd, echo) // Ctrl-C leaves ReadPassword where it is
	}
	defer fmt.Fprintln(c.stderr)
	return c.untilStopped(func() (string, error) {
		b, err := term.ReadPassword(fd)
		if err != nil {
			return "", cancelled("nothing was entered")
		}
		return string(b), nil
	})
}

// confirm asks a question that is answered by yes or no. Without a terminal only
// --yes answers it.
func (c *cli) confirm(question string) error {
	if c.yes {
		return nil
	}
	if !c.interactive() {
		return usage("“%s” needs an answer, and there is nobody to ask: add --yes", question)
	}
	line, err := c.ask(question + " [y/N] ")
	if err != nil {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return cancelled("nothing was changed")
	}
	return nil
}

// client returns a client for the profile's server, and the profile. Without a
// login it is an error of the kind "not logged in". output is like what the verb
// will emit: a field that --json names wrongly is found before anything is changed.
func (c *cli) client(output ...any) (*api.Client, *profile, error) {
	if err := c.checkFields(output...); err != nil {
		return nil, nil, err
	}
	p, err := c.loadProfile()
	if err != nil {
		return nil, nil, err
	}
	if p.token == "" {
		next := "drawbolt login"
		if p.Server == "" {
			next += " https://YOUR-SERVER"
		}
		return nil, nil, &failure{code: exitLogin, text: "you are not logged in", next: next}
	}
	cl, err := c.dial(p.Server, p.Fingerprint)
	if err != nil {
		return nil, nil, err
	}
	cl.Token = p.token
	return cl, p, nil
}

// dial returns a client without a token.
func (c *cli) dial(server, fingerprint string) (*api.Client, error) {
	h, err := api.NewHTTP(fingerprint)
	if err != nil {
		return nil, usage("%v", err)
	}
	cl := &api.Client{Server: server, HTTP: h, Agent: "drawbolt/" + version()}
	if c.timeout != "" {
		if cl.Timeout, err = parseDuration(c.timeout); err != nil {
			return nil, err
		}
	}
	return cl, nil
}
