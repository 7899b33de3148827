package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// poll is how long the server is asked to hold one question.
const poll = 30 * time.Second

// wait returns when the request is no longer pending, or when limit has passed
// (0: none; the request itself expires). It shows that it waits: on a terminal
// by a line that counts, else by one line every half minute.
func (c *cli) wait(ctx context.Context, cl *api.Client, r api.Request, limit time.Duration) (api.Request, error) {
	began := c.now()
	stop := c.ticker(ctx, began)
	defer func() { stop() }()
	failures, questions := 0, 0
	for r.State == api.Pending {
		for ; questions < len(r.Questions); questions++ {
			if q := &r.Questions[questions]; q.Open() {
				stop()
				c.say("  %s asks: “%s”", q.By, q.Text)
				c.say("  answer in another terminal: %s", answerWith(r.ID, questions+1))
				stop = c.ticker(ctx, began)
			}
		}
		hold := poll
		if limit > 0 {
			left := limit - c.now().Sub(began)
			if left <= 0 {
				return r, nil
			}
			hold = min(hold, max(left, time.Second))
		}
		now, err := cl.AwaitRequest(ctx, r.ID, r.Version, hold)
		switch {
		case ctx.Err() != nil:
			stop()
			return r, &failure{code: exitInterrupt, cause: ctx.Err(),
				text: r.ID + " stays open",
				next: "drawbolt status " + r.ID + " --wait    or    drawbolt cancel " + r.ID}
		case err != nil:
			// The server may be starting anew; the request is safe there.
			failures++
			if api.AsProblem(err) != nil && api.AsProblem(err).Status < 500 || api.Untrusted(err) || failures > 5 {
				return r, err
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(failures) * time.Second):
			}
			continue
		}
		failures = 0
		if len(now.Approvals) > len(r.Approvals) && now.State == api.Pending {
			stop()
			for _, a := range now.Approvals[len(r.Approvals):] {
				c.say("  approved by %s%s%s; %s still needed", a.User, narrowed(&a), quoted(a.Comment), need(missing(now.Needs)))
			}
			stop = c.ticker(ctx, began)
		}
		r = now
	}
	return r, nil
}

// missing returns what is still needed.
func missing(needs []api.Need) []api.Need {
	var out []api.Need
	for _, n := range needs {
		if n.Have < n.Count {
			n.Count -= n.Have
			out = append(out, n)
		}
	}
	return out
}

// ticker shows that time passes until the returned func is called, which also
// wipes the line and may be called again.
func (c *cli) ticker(ctx context.Context, began time.Time) func() {
	if c.quiet {
		return func() {}
	}
	live := c.errTTY && c.env("TERM") != "dumb"
	every := poll
	if live {
		every = time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	show := func() {
		d := c.now().Sub(began).Truncate(time.Second)
		line := fmt.Sprintf("waiting for approval %d:%02d  (Ctrl-C leaves the request open)", int(d.Minutes()), int(d.Seconds())%60)
		if live {
			fmt.Fprintf(c.stderr, "\r\x1b[K%s", line)
		} else {
			fmt.Fprintln(c.stderr, line)
		}
	}
	go func() {
		defer close(ended)
		t := time.NewTicker(every)
		defer t.Stop()
		show()
		for {
			select {
			case <-ctx.Done():
				if live {
					fmt.Fprint(c.stderr, "\r\x1b[K")
				}
				return
			case <-t.C:
				show()
			}
		}
	}()
	return func() {
		cancel(errors.New("done"))
		<-ended
	}
}
