package bastion

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/commandline"
)

// A Watch carries the terminal of a session and looks for the commands that the
// session's rules name. It is an aid for people and no boundary: what it does not
// see, passes. While the rules name none it only forwards. Its methods are safe for
// concurrent use, Input and Output once each.
type Watch struct {
	session *Session
	warn    func(text string) // tells the user; does not wait

	under atomic.Pointer[access.SessionRules] // the rules that detections is made from

	mu         sync.Mutex
	detections []detection
	ends       bool                // one of them ends the session
	reader     *commandline.Reader // nil: nothing is looked for
	columns    int
	unechoed   int           // lines in a row that were not shown in time
	shown      chan struct{} // has a place; filled when something was shown
	events     int
}

type detection struct {
	text string
	rule access.DetectRule
}

const (
	// maxUnechoed is after how many lines that were not shown Enter waits no more,
	// until one is: a program that echoes nothing should not be slowed down.
	maxUnechoed = 4
	// maxDetections is how many detections of a session are events in the audit
	// log and said to the user; the recording has them all.
	maxDetections = 100
)

// Watch begins to look at the terminal of the session. warn tells the user a line
// and must not wait for the user to read it.
func (s *Session) Watch(warn func(text string)) *Watch {
	w := &Watch{session: s, warn: warn, shown: make(chan struct{}, 1)}
	s.watch.Store(w)
	return w
}

// Resize notes a new width of the terminal, as [Session.Resize] does.
func (w *Watch) Resize(columns int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.columns = columns
	if w.reader != nil {
		w.reader.Resize(columns)
	}
}

// Input carries what is typed until src ends (nil) or something fails.
func (w *Watch) Input(dst io.Writer, src io.Reader) error {
	return pump(src, func(p []byte) error {
		if !w.looks() {
			return w.session.Forward(recorder.Input, dst, p)
		}
		return w.typed(dst, p)
	})
}

// Output carries what is shown until src ends (nil) or something fails.
func (w *Watch) Output(dst io.Writer, src io.Reader) error {
	return pump(src, func(p []byte) error {
		if !w.looks() {
			return w.session.Forward(recorder.Output, dst, p)
		}
		lines := w.show(p)
		if err := w.session.Forward(recorder.Output, dst, p); err != nil {
			return err
		}
		for _, line := range lines {
			if err := w.sent(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// looks reports whether there is something to look for, under the rules of now.
func (w *Watch) looks() bool {
	rules := w.session.Live.Allowed()
	if rules == w.under.Load() {
		return len(rules.Detect) > 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detections, w.ends = nil, false
	for _, text := range rules.Detect {
		if rule, err := access.ParseDetectRule(text); err == nil {
			w.detections = append(w.detections, detection{text, rule})
			w.ends = w.ends || rule.Level == access.DetectEnd
		}
	}
	if len(rules.Detect) > 0 && w.reader == nil {
		w.reader = commandline.New(w.columns)
	}
	w.under.Store(rules)
	return len(rules.Detect) > 0
}

// typed forwards keys. Before one that sends a line, the line is looked at.
func (w *Watch) typed(dst io.Writer, p []byte) error {
	for len(p) > 0 {
		n, enter := w.keys(p)
		if n > 0 {
			if err := w.session.Forward(recorder.Input, dst, p[:n]); err != nil {
				return err
			}
		}
		p = p[n:]
		if !enter {
			continue
		}
		if err := w.beforeEnter(); err != nil {
			return err
		}
		if err := w.session.Forward(recorder.Input, dst, p[:1]); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

func (w *Watch) keys(p []byte) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reader.Typed(p)
}

func (w *Watch) show(p []byte) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.reader.Shown(p)
	select {
	case w.shown <- struct{}{}:
	default:
	}
	return lines
}

// beforeEnter ends the session when the line that is about to be sent is one that
// ends it.
func (w *Watch) beforeEnter() error {
	line, ends := w.line()
	if ends {
		if d := w.match(line, access.DetectEnd); d != nil {
			return w.end(*d, line, false)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reader.Enter()
	return nil
}

// line waits until what was typed is shown, if it will be, and returns the line. It
// only waits when a rule ends sessions; all else can be told afterwards.
func (w *Watch) line() (line string, ends bool) {
	var timeout <-chan time.Time
	for {
		w.mu.Lock()
		line, settled := "", w.reader.Settled()
		if ends = w.ends; ends {
			line = w.reader.Line()
		}
		if settled && line != "" {
			w.unechoed = 0
		}
		wait := ends && !settled && w.unechoed < maxUnechoed
		w.mu.Unlock()
		if !wait {
			return line, ends
		}
		if timeout == nil {
			timer := time.NewTimer(w.session.bastion.cfg.EchoWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-w.shown:
		case <-w.session.ctx.Done():
			return "", false // nothing is forwarded any more
		case <-timeout:
			w.mu.Lock()
			w.unechoed++
			line = w.reader.Line()
			w.mu.Unlock()
			return line, ends
		}
	}
}

// match returns the first detection of a level that a line matches.
func (w *Watch) match(line string, level access.DetectLevel) *detection {
	if line == "" {
		return nil
	}
	w.mu.Lock()
	list := w.detections
	w.mu.Unlock()
	for _, d := range list {
		if d.rule.Level == level && d.rule.Matches(line) {
			return &d
		}
	}
	return nil
}

// sent looks at a line that has been sent. One that ends the session, and that was
// not seen before it was sent, ends it now.
func (w *Watch) sent(line string) error {
	for _, level := range []access.DetectLevel{access.DetectWarn, access.DetectAlert, access.DetectEnd} {
		d := w.match(line, level)
		switch {
		case d == nil:
		case level == access.DetectEnd:
			return w.end(*d, line, true)
		default:
			if err := w.tell(*d, line, true); err != nil {
				return err
			}
			if level == access.DetectWarn && w.counts() {
				w.warn(fmt.Sprintf("the role warns of this command (%s); it is on record", d.text))
			}
		}
	}
	return nil
}

// end puts the detection on record and ends the session.
func (w *Watch) end(d detection, line string, sent bool) error {
	if err := w.tell(d, line, sent); err != nil {
		return err
	}
	w.session.End(ErrDetected)
	return ErrDetected
}

// tell puts a detection on record: at once in the recording, and without waiting
// in the audit log.
func (w *Watch) tell(d detection, line string, sent bool) error {
	s := w.session
	when := "sent"
	if !sent {
		when = "not sent"
	}
	if err := s.Mark("detected %s: %s: %s: %s", d.rule.Level, d.text, when, line); err != nil {
		return err
	}
	w.mu.Lock()
	w.events++
	w.mu.Unlock()
	if !w.counts() {
		return nil
	}
	s.tellings.begin(s, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), closeWait)
		defer cancel()
		err := s.bastion.cfg.Broker.Detected(ctx, s.Live, broker.Detection{Level: d.rule.Level, Rule: d.text, Command: line, Sent: sent})
		if err != nil {
			s.bastion.cfg.Log.ErrorContext(ctx, "record a detection", "session", s.Live.Session.ID, "error", err)
		}
	})
	return nil
}

// tellings are the detections that are being told to the broker.
type tellings struct {
	mu     sync.Mutex // guards closed, and Add of open against Wait
	closed bool
	open   sync.WaitGroup
}

func (t *tellings) begin(s *Session, tell func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		s.Go(&t.open, tell)
	}
}

// finish returns when all have been told. There are no more then.
func (t *tellings) finish() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.open.Wait()
}

// counts reports whether there have been few enough detections to tell of one.
func (w *Watch) counts() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events <= maxDetections
}
