package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// work is one owner's work on an account, while the lease holds.
type work struct {
	a       *Account
	entry   Entry
	version uint64
	before  vault.Secret // what was current when it began
	saved   bool         // something was, and all that was tried
	renewed bool         // a candidate is in force now
	report  Report
}

// save writes down where the work stands. When it returns an error, nothing may be
// sent any more.
func (w *work) save(ctx context.Context) error {
	version, err := w.a.c.Book.Save(ctx, w.entry, w.version)
	if err != nil {
		w.saved = false
		return fmt.Errorf("write down what is known of the account: %w", err)
	}
	w.version, w.saved = version, true
	return nil
}

// release gives the account free for others, if it was claimed. What fails here is
// over with the lease.
func (w *work) release() error {
	if !w.saved {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.entry.Owner, w.entry.OwnedUntil = "", time.Time{}
	return w.save(ctx)
}

// mayTry reports whether one more login may fail.
func (w *work) mayTry() error {
	now := w.a.c.Now()
	w.entry.Tried = within(w.entry.Tried, now, w.a.c.Window)
	if n := len(w.entry.Tried); n >= w.a.c.Failures {
		return &WaitError{w.entry.Tried[n-w.a.c.Failures].Add(w.a.c.Window), "one more failed login might lock the account"}
	}
	return nil
}

// within keeps what is younger than the window. What is of the future counts, too.
func within(times []time.Time, now time.Time, window time.Duration) []time.Time {
	return slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return now.Sub(t) >= window })
}

// try logs in with a password that is in the entry. The attempt is written down
// before. When the password is accepted it is the current one from now on, which is
// not written down yet.
func (w *work) try(ctx context.Context, p *Password) error {
	if err := w.mayTry(); err != nil {
		return err
	}
	w.entry.Tried = append(w.entry.Tried, w.a.c.Now())
	if err := w.save(ctx); err != nil {
		return err
	}
	return w.check(ctx, p)
}

// check is try without writing down the attempt.
func (w *work) check(ctx context.Context, p *Password) error {
	err := w.a.c.Rotator.Check(ctx, p.Secret)
	now := w.a.c.Now()
	switch {
	case errors.Is(err, ErrUnreachable):
		w.untried()
		return err
	case errors.Is(err, ErrWrong):
		w.entry.wrong(*p, now)
	}
	w.report.Logins++
	if err != nil {
		return err
	}
	w.entry.Tried = nil // a login ends the count of failed ones
	if late := w.late(); p.State == Current && now.Before(late) {
		w.entry.Current.ProvedAt = now
		return errors.Join(&WaitError{late, "the change may still be made"}, w.save(ctx))
	}
	w.renewed = p.State == Candidate
	w.entry.promote(*p, now, w.a.c.Grace)
	w.report.Changed = !equal(w.before, w.entry.Current.Secret)
	return nil
}

// late is until when a change that is pending may still be made.
func (w *work) late() time.Time {
	if w.entry.Candidate == nil {
		return time.Time{}
	}
	return w.entry.Candidate.SentAt.Add(w.a.c.Late)
}

// untried takes back the note of a login that did not take place.
func (w *work) untried() { w.entry.Tried = w.entry.Tried[:len(w.entry.Tried)-1] }

// settle brings a change that was begun to its end.
func (w *work) settle(ctx context.Context) error {
	if w.entry.Candidate == nil {
		return nil
	}
	known := w.entry.Known()
	if w.currentFirst() {
		known[0], known[1] = known[1], known[0]
	}
	return w.search(ctx, known)
}

// currentFirst reports whether the current password is to be tried before the candidate:
// while the change may be made between two logins. Were the candidate tried before it and
// the current one after it, neither would be accepted; the other way round one is. Where a
// replaced password is accepted for a while that cannot be, and would say nothing.
func (w *work) currentFirst() bool {
	return w.a.c.Grace == 0 && w.a.c.Now().Before(w.late()) && !w.wrong(w.entry.Current)
}

// wrong reports whether a password was found not to be accepted, when it could not be on
// its way any more, and no other one to be in force since. A day later it is worth another try.
func (w *work) wrong(p Password) bool {
	return p.WrongAt.After(w.entry.Current.ProvedAt) && !p.WrongAt.Before(p.SentAt.Add(w.a.c.Late)) && w.a.c.Now().Sub(p.WrongAt) < wrongFor
}

// search finds the password in force among these, and sets a new one when it is none
// of them and there is an account that may.
func (w *work) search(ctx context.Context, known []Password) error {
	for _, p := range known {
		older := p.State != Candidate && p.State != Current
		if w.wrong(p) || older && w.a.c.Reset != nil {
			continue // a login less that may lock the account: a new one can be set
		}
		err := w.try(ctx, &p)
		if err == nil {
			return w.save(ctx)
		}
		if !errors.Is(err, ErrWrong) {
			return err
		}
	}
	if w.a.c.Reset == nil {
		return ErrUnknown
	}
	return w.change(ctx, w.a.c.Reset)
}

// change sets a new password. A candidate that is there is set once more: it may be
// on its way still.
func (w *work) change(ctx context.Context, by Rotator) error {
	now := w.a.c.Now()
	w.entry.Refusals = within(w.entry.Refusals, now, refusedWithin)
	if len(w.entry.Refusals) >= maxRefused {
		return &WaitError{w.entry.Refusals[0].Add(refusedWithin), "the system has refused several passwords"}
	}
	if err := w.mayTry(); err != nil {
		return err
	}
	first := w.entry.Candidate == nil
	if first {
		secret, err := w.a.c.Make()
		if err != nil {
			return err
		}
		w.entry.Candidate = &Password{Secret: secret, State: Candidate, MadeAt: now}
	}
	w.entry.Candidate.SentAt = now
	if err := w.save(ctx); err != nil {
		return err
	}
	err := by.Set(ctx, w.entry.Current.Secret, w.entry.Candidate.Secret)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		state := Refused
		if !first { // an answer before this one was unclear
			state = Unused
		}
		w.entry.retire(*w.entry.Candidate, state)
		w.entry.Candidate, w.entry.Refusals = nil, append(w.entry.Refusals, now)
		return errors.Join(refusal, w.save(ctx))
	}
	if err != nil {
		err = fmt.Errorf("set the password: %w", err)
	}
	if errors.Is(err, ErrUnreachable) && first {
		w.entry.retire(*w.entry.Candidate, Unused)
		w.entry.Candidate = nil
		return errors.Join(err, w.save(ctx))
	}
	if err != nil && w.currentFirst() {
		if was := w.try(ctx, &w.entry.Current); !errors.Is(was, ErrWrong) {
			return errors.Join(err, was)
		}
		proof := w.try(ctx, w.entry.Candidate)
		if proof == nil {
			return w.save(ctx)
		}
		return errors.Join(err, proof)
	}
	prove := w.try
	if err == nil {
		// That this login fails is so unlikely that it is not written down before, which
		// would count against those that find out after a crash.
		w.entry.Tried = append(w.entry.Tried, now)
		prove = w.check
	}
	proof := prove(ctx, w.entry.Candidate)
	switch {
	case proof == nil:
		return w.save(ctx)
	case !errors.Is(proof, ErrWrong):
		return errors.Join(err, proof)
	case err == nil:
		err = errors.New("set the password: the system says that it was set, and does not accept it")
	}
	// Then the one before is in force, for now at least.
	was := w.try(ctx, &w.entry.Current)
	if was == nil {
		was = w.save(ctx)
	}
	return errors.Join(err, was)
}
