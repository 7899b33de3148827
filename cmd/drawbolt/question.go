package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) askCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ask REQUEST TEXT",
		Short: "Ask a question before you decide",
		Long: `Ask the requester a question about a request that you may decide on. It waits on,
with the votes that it has; the requester hears of the question at once, also in an
ssh that waits.`,
		Example:           "  drawbolt ask REQ-4821 'is the replica not enough?'",
		Args:              between(2, 2),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Inbox: true}),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Request{})
			if err != nil {
				return err
			}
			r, err := cl.Ask(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if ok, err := c.emit(r); ok {
				return err
			}
			c.done("%s is asked; the answer will stand in: drawbolt status %s", r.Requester, r.ID)
			return nil
		},
	}
}

func (c *cli) answerCmd() *cobra.Command {
	var in api.AnswerInput
	cmd := &cobra.Command{
		Use:               "answer REQUEST TEXT",
		Short:             "Answer a question about your request",
		Example:           "  drawbolt answer REQ-4821 'no, it lags by an hour'\n  drawbolt answer REQ-4821 --question 2 'until noon'",
		Args:              between(2, 2),
		ValidArgsFunction: c.completeRequests(api.RequestFilter{Mine: true, State: api.Pending}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Question < 0 {
				return usage("--question is a number from 1 on")
			}
			cl, _, err := c.client(api.Request{})
			if err != nil {
				return err
			}
			in.Text = args[1]
			r, err := cl.Answer(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(r); ok {
				return err
			}
			c.done("answered; %s waits on", r.ID)
			return nil
		},
	}
	cmd.Flags().IntVar(&in.Question, "question", 0, "the `number` of the question, when several are open")
	return cmd
}

func (c *cli) handOverCmd() *cobra.Command {
	var in api.HandOverInput
	cmd := &cobra.Command{
		Use:   "handover REQUEST USER",
		Short: "Call somebody else who could decide, to decide in your stead",
		Long: `Call somebody by name to decide on a request in your stead: one who could decide
on it without that. It gives nobody a right and takes none; the other one is told,
and finds it in the inbox by your name.`,
		Example:           "  drawbolt handover REQ-4821 dave --note 'you know these disks'",
		Args:              between(2, 2),
		ValidArgsFunction: c.completeHandOver,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Request{})
			if err != nil {
				return err
			}
			in.To = args[1]
			r, err := cl.HandOver(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(r); ok {
				return err
			}
			c.done("%s is called to decide on %s; everybody else still may", in.To, r.ID)
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Note, "note", "", "what the other one should know")
	return cmd
}

// completeHandOver offers requests, and then who else is asked about the one that
// stands there.
func (c *cli) completeHandOver(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	inbox := api.RequestFilter{Inbox: true}
	if len(args) == 0 {
		return c.completeRequests(inbox)(cmd, args, typed)
	}
	var out []string
	if len(args) == 1 {
		for _, r := range c.knownRequests(cmd.Context(), inbox) {
			if r.ID != args[0] {
				continue
			}
			for _, name := range r.Waiting {
				name, _, _ = strings.Cut(name, " (for ")
				if strings.HasPrefix(name, typed) {
					out = append(out, choice(name, "may decide, too"))
				}
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// describeTalk prints what was asked, answered and handed over.
func (c *cli) describeTalk(r *api.Request, row func(name, format string, args ...any)) {
	for i, q := range r.Questions {
		row(fmt.Sprintf("asked %d", i+1), "%s: “%s”", q.By, q.Text)
		switch {
		case !q.Open():
			row("answer", "“%s”", q.Answer)
		case r.State == api.Pending:
			row("answer", "none yet: %s", answerWith(r.ID, i+1))
		}
	}
	for _, h := range r.HandOvers {
		row("handed", "to %s by %s%s", h.To, h.By, quoted(h.Note))
	}
}

// answerWith is what the requester types.
func answerWith(id string, question int) string {
	return fmt.Sprintf("drawbolt answer %s --question %d TEXT", id, question)
}

// handedOver says who has handed the request to the caller; "": nobody has.
func handedOver(r *api.Request) string {
	if r.HandedBy == "" {
		return ""
	}
	return "handed to you by " + r.HandedBy + quoted(r.HandedNote)
}
