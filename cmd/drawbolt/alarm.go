package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) alarmsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "alarms SESSION",
		Short: "What the rules of a session found in it",
		Args:  between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, _, err := c.client(api.Alarm{})
			if err != nil {
				return err
			}
			s, err := cl.FindSession(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if s.Alarms == nil {
				s.Alarms = []api.Alarm{}
			}
			if ok, err := c.emit(s.Alarms); ok {
				return err
			}
			var rows [][]string
			for i, a := range s.Alarms {
				rows = append(rows, []string{strconv.Itoa(i + 1), c.when(a.At), a.Rule, alarmState(a)})
			}
			c.table("No alarm that you may see.", []string{"NO", "FIRST AT", "RULE", "STATE"}, rows)
			return nil
		},
	}
}

func alarmState(a api.Alarm) string {
	switch {
	case a.ExpectedAt != nil:
		return "expected, says " + a.ExpectedBy + quoted(a.ExpectedReason)
	case a.AcknowledgedAt != nil:
		return a.AcknowledgedBy + " is on it"
	default:
		return "open"
	}
}

func (c *cli) acknowledgeCmd() *cobra.Command {
	var in api.AlarmInput
	cmd := &cobra.Command{
		Use:     "acknowledge REQUEST|SESSION",
		Aliases: []string{"ack"},
		Short:   "Say “I am on it” of break-glass or of a session's alarms",
		Long: `Say that you look after break-glass, by the id of its request, or after the alarms
of a session. Others read your name wherever it is told of. It closes nothing; of
break-glass nobody is reminded for four hours.`,
		Example: "  drawbolt acknowledge REQ-4830\n  drawbolt acknowledge SES-9f2c --alarm 2",
		Args:    between(1, 1), ValidArgsFunction: c.completeGlass,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Alarm < 0 {
				return usage("--alarm is a number from 1 on")
			}
			if !strings.HasPrefix(args[0], "SES-") {
				if in.Alarm != 0 {
					return usage("--alarm is for sessions")
				}
				cl, _, err := c.client(api.BreakGlass{})
				if err != nil {
					return err
				}
				b, err := cl.AcknowledgeBreakGlass(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if ok, err := c.emit(b); ok {
					return err
				}
				c.done("you are on it; the review of %s stays open", b.Request.ID)
				return nil
			}
			cl, _, err := c.client(api.Session{})
			if err != nil {
				return err
			}
			s, err := cl.AcknowledgeAlarm(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(s); ok {
				return err
			}
			c.done("you are on it; look: drawbolt watch %s", s.ID)
			return nil
		},
	}
	cmd.Flags().IntVar(&in.Alarm, "alarm", 0, "the `number` of the alarm; without it, all that nobody is on")
	return cmd
}

func (c *cli) expectedCmd() *cobra.Command {
	var in api.ExpectedInput
	cmd := &cobra.Command{
		Use:   "expected SESSION --reason TEXT",
		Short: "Say that an alarm of a session was to be expected",
		Long: `Say why an alarm of a session was to be expected, which stands on record. The same
rule alarms no more in this session; in all others it does, and what is done is
recorded as before. Whose session it is cannot say so.`,
		Example: "  drawbolt expected SES-9f2c --reason 'the backup of CHG-77'",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Alarm < 0 {
				return usage("--alarm is a number from 1 on")
			}
			why, err := c.because(in.Reason)
			if err != nil {
				return err
			}
			in.Reason = why
			cl, _, err := c.client(api.Session{})
			if err != nil {
				return err
			}
			s, err := cl.Expected(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			if ok, err := c.emit(s); ok {
				return err
			}
			c.done("it is on record; the rule alarms no more in %s", s.ID)
			return nil
		},
	}
	cmd.Flags().IntVar(&in.Alarm, "alarm", 0, "the `number` of the alarm, when there are several")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why it was")
	return cmd
}
