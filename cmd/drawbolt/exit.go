package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

// The exit codes, which scripts rely on.
const (
	exitError     = 1   // network, server, bug
	exitUsage     = 2   // bad usage, or cancelled at a prompt
	exitDenied    = 3   // by a person or by policy
	exitLogin     = 4   // not logged in
	exitExpired   = 5   // approval timed out or the request expired
	exitNotFound  = 6   // no such thing, or you may not know that it exists
	exitEnded     = 7   // grant revoked or ended
	exitPending   = 8   // still pending
	exitInterrupt = 130 // Ctrl-C
	exitTransport = 255 // ssh failed; ssh and scp only
)

// A failure is how a command ends when it does not end well: the exit code, what
// the person reads and what to type next. Without text nothing is printed.
type failure struct {
	code  int
	text  string // one sentence; made fit for a terminal when it is printed
	rule  string
	cat   string // code in the message catalogue
	id    string // finds the server's log line
	next  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// usage returns a mistake in how the program was called.
func usage(format string, args ...any) *failure {
	return &failure{code: exitUsage, text: fmt.Sprintf(format, args...)}
}

// cancelled returns what follows from a no at a prompt.
func cancelled(text string) *failure {
	return &failure{code: exitUsage, text: "cancelled: " + text}
}

// silent ends with a code and prints nothing more.
func silent(code int) *failure { return &failure{code: code} }

// asUsage turns what cobra says before a verb runs into a usage mistake.
func asUsage(cmd *cobra.Command, err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	e := usage("%s", first)
	e.next = cmd.CommandPath() + " --help"
	return e
}

// outcome is the one place that turns an error into an exit code and words.
func outcome(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if p := api.AsProblem(err); p != nil {
		f := &failure{code: problemCode(p), text: p.Error(), rule: p.Rule, cat: p.Code, id: p.ID, next: p.Next, cause: err}
		if f.next == "" {
			f.next = nextOf[f.code]
		}
		return f
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &failure{code: exitInterrupt, text: "interrupted", cause: err}
	case api.Untrusted(err):
		return &failure{code: exitError, text: err.Error(), cause: err,
			next: "drawbolt login, with --fingerprint from your administrator"}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{code: exitError, text: "no answer in time: " + err.Error(), next: "drawbolt doctor", cause: err}
	default:
		return &failure{code: exitError, text: err.Error(), cause: err}
	}
}

// nextOf is what to type when the server did not say.
var nextOf = map[int]string{
	exitLogin:    "drawbolt login",
	exitNotFound: "drawbolt ls",
}

// problemCode maps a refusal of the server: by the code of its sentence where
// that says more than the HTTP status, else by the status.
func problemCode(p *api.Problem) int {
	switch p.Code {
	case "DB-3002": // the request expired without a decision
		return exitExpired
	case "DB-2006", "DB-3005": // the grant is over
		return exitEnded
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return exitLogin
	case http.StatusForbidden:
		return exitDenied
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return exitUsage
	case http.StatusGone:
		return exitExpired
	default:
		return exitError
	}
}

// requestCode is the exit code that the state of a request stands for.
func requestCode(r *api.Request) int {
	switch r.State {
	case api.Approved:
		if r.Grant != nil && r.Grant.State == api.Ended {
			return exitEnded
		}
		return 0
	case api.Denied:
		return exitDenied
	case api.Expired:
		return exitExpired
	case api.Cancelled:
		return exitUsage
	case api.Pending:
		return exitPending
	default:
		return exitError
	}
}

// finish prints what went wrong and returns the exit code.
func (c *cli) finish(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	f := outcome(ctx, err)
	if f.text == "" {
		return f.code
	}
	var marks []string
	if f.rule != "" {
		marks = append(marks, "rule "+f.rule)
	}
	if f.cat != "" {
		marks = append(marks, f.cat)
	}
	if f.id != "" && f.code == exitError {
		marks = append(marks, "id "+f.id)
	}
	text := clean(f.text)
	if len(marks) > 0 {
		text += " (" + clean(strings.Join(marks, ", ")) + ")"
	}
	fmt.Fprintln(c.stderr, c.paint(red, "✗")+" "+text)
	if f.next != "" {
		fmt.Fprintln(c.stderr, "  Next: "+clean(f.next))
	}
	return f.code
}
