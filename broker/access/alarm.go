package access

import (
	"fmt"
	"slices"
	"time"
)

// An Alarm is that a session's rules found something of which others are told.
// There is one for each rule that did, however often it does: what somebody says
// of it is said of the rule in this session, and of no other session.
type Alarm struct {
	Rule  string // as the role has it
	Level DetectLevel
	At    time.Time // the first time

	AckID   string // of the first who said "I am on it"; "": nobody
	AckName string
	AckAt   time.Time

	ExpectedID   string // of who said that it was expected; "": nobody
	ExpectedName string
	ExpectedAt   time.Time
	Reason       string // why it was
}

// Expected reports whether somebody said that it was.
func (a *Alarm) Expected() bool { return !a.ExpectedAt.IsZero() }

// maxAlarms bounds the alarms of a session: those of further rules are told as
// others are, and nothing can be said of them.
const maxAlarms = 64

// Raise finds the alarm of a rule, or adds it, and returns its number, counted
// from 1; 0: there are too many. changed says that the session is another now.
func (s *Session) Raise(rule string, level DetectLevel, t time.Time) (number int, changed bool) {
	if i := slices.IndexFunc(s.Alarms, func(a Alarm) bool { return a.Rule == rule }); i >= 0 {
		return i + 1, false
	}
	if len(s.Alarms) >= maxAlarms {
		return 0, false
	}
	s.Alarms = append(s.Alarms, Alarm{Rule: rule, Level: level, At: t})
	return len(s.Alarms), true
}

// Acknowledge notes who looks after the alarm of that number, or with 0 after all
// that nobody does. It closes nothing. The first one counts.
func (s *Session) Acknowledge(by User, number int, t time.Time) error {
	if err := s.judge(by, number); err != nil {
		return err
	}
	var taken *Alarm
	done := false
	for i := range s.Alarms {
		a := &s.Alarms[i]
		switch {
		case number != 0 && number != i+1:
		case a.AckID != "":
			taken = a
		default:
			a.AckID, a.AckName, a.AckAt, done = by.ID, by.Name, t, true
		}
	}
	if !done {
		return onIt(taken.AckID == by.ID, taken.AckName, taken.AckAt, "drawbolt alarms "+s.ID)
	}
	return nil
}

// onIt is the answer to who comes second.
func onIt(same bool, name string, at time.Time, next string) error {
	who := name + " has"
	if same {
		who = "you have"
	}
	return &Error{Kind: ErrConflict, Code: "DB-6330", Text: fmt.Sprintf("nothing changed: %s been on it since %s UTC", who, at.UTC().Format("2006-01-02 15:04")), Next: next}
}

// Expect notes that the alarm of that number, or with 0 the only one of which
// nobody has said so, was expected, and returns its number.
func (s *Session) Expect(by User, number int, reason string, t time.Time) (int, error) {
	if err := s.judge(by, number); err != nil {
		return 0, err
	}
	if number == 0 {
		var open []int
		for i := range s.Alarms {
			if !s.Alarms[i].Expected() {
				open = append(open, i+1)
			}
		}
		switch {
		case len(open) > 1:
			return 0, &Error{Kind: ErrInvalid, Code: "DB-6332", Text: fmt.Sprintf("session %s has %d alarms: say which was expected", s.ID, len(open)), Next: fmt.Sprintf("drawbolt expected %s --alarm %d --reason TEXT", s.ID, open[0])}
		case len(open) == 1:
			number = open[0]
		default:
			number = 1 // and so it is told who said so
		}
	}
	a := &s.Alarms[number-1]
	if a.Expected() {
		return 0, &Error{Kind: ErrConflict, Code: "DB-6333", Text: fmt.Sprintf("nothing changed: %s has said already that alarm %d of %s was expected", a.ExpectedName, number, s.ID), Next: "drawbolt alarms " + s.ID}
	}
	if err := CheckReason(reason); err != nil {
		return 0, err
	}
	a.ExpectedID, a.ExpectedName, a.ExpectedAt, a.Reason = by.ID, by.Name, t, reason
	return number, nil
}

// judge refuses who may say nothing of a session's alarms, and numbers that stand
// for none.
func (s *Session) judge(by User, number int) error {
	switch {
	case by.ID == s.UserID:
		return &Error{Kind: ErrDenied, Code: "DB-6331", Rule: "alarm.own", Text: "nobody says of their own session that an alarm is in good hands or was expected: somebody else must"}
	case by.Bot || by.Emergency:
		return &Error{Kind: ErrDenied, Code: "DB-6334", Rule: "alarm.person", Text: "alarms are looked after by a person"}
	case number < 0 || number > len(s.Alarms) || len(s.Alarms) == 0:
		return &Error{Kind: ErrConflict, Code: "DB-6332", Text: "there is no such alarm in session " + s.ID, Next: "drawbolt alarms " + s.ID}
	}
	return nil
}
