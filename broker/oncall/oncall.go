// Package oncall says who is on call, by schedules that others keep: a file, a
// calendar (iCalendar, RFC 5545) as a file or at an address, or PagerDuty. Whoever
// is on call is in the group oncall-NAME of the schedule, and in it at no other
// time.
//
// It trusts a schedule for who is on call under that name, and for nothing else: it
// gives no other group. What cannot be read, or not be understood whole, counts for
// an hour as it was read last, and then for nobody. It asks nobody when it is asked:
// what it says was read before.
package oncall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

// Limits of what is read.
const (
	maxSchedules = 100
	maxFile      = 1 << 20 // bytes of a file, a calendar or an answer
	maxShifts    = 10_000  // of one schedule
	readWithin   = 20 * time.Second
	ahead        = 48 * time.Hour // how far shifts are looked for
)

// Config is what Schedules need.
type Config struct {
	// File lists the schedules; see the section On call in docs/operating.md.
	File string
	// Out calls the addresses that the file names.
	Out        *outbound.Client
	Every      time.Duration // how often a schedule is read; default 1m
	StaleAfter time.Duration // one that could not be read for so long counts for nobody; default 1h
	Now        func() time.Time
	Log        *slog.Logger
}

// Schedules are safe for concurrent use.
type Schedules struct {
	c       Config
	sources map[string]source // by group
	people  map[string]map[string]string
	changed chan struct{}

	mu   sync.RWMutex
	read map[string]reading // by group
}

// A reading is what a schedule said when it was last read.
type reading struct {
	shifts  []shift
	at      time.Time // zero: never
	problem error     // of the newest try
}

// A shift is one person's time. Until is exclusive.
type shift struct {
	person      string // as the schedule calls them
	from, until time.Time
}

// A source reads the shifts that touch a span of time.
type source interface {
	read(ctx context.Context, from, until time.Time) ([]shift, error)
}

// scheduleFile is the file.
type scheduleFile struct {
	Schedules map[string]scheduleEntry `yaml:"schedules"`
}

type scheduleEntry struct {
	File      string            `yaml:"file"`
	Calendar  string            `yaml:"calendar"`
	PagerDuty string            `yaml:"pagerduty"`
	TokenFile string            `yaml:"token_file"`
	URL       string            `yaml:"url"`
	People    map[string]string `yaml:"people"`
}

// New reads the list of schedules, and none of these: that is for Run.
func New(c Config) (*Schedules, error) {
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.StaleAfter == 0 {
		c.StaleAfter = time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	b, err := readFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("on call: %w", err)
	}
	var f scheduleFile
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("on call: %s: %w", c.File, err)
	}
	if len(f.Schedules) > maxSchedules {
		return nil, fmt.Errorf("on call: %s lists %d schedules, at most %d are taken", c.File, len(f.Schedules), maxSchedules)
	}
	s := &Schedules{c: c, sources: map[string]source{}, people: map[string]map[string]string{}, changed: make(chan struct{}, 1), read: map[string]reading{}}
	for name, e := range f.Schedules {
		group := access.OnCallPrefix + name
		if err := access.CheckGroupName(group); err != nil {
			return nil, fmt.Errorf("on call: schedule %q: %w", name, err)
		}
		if s.sources[group], err = newSource(c, e); err != nil {
			return nil, fmt.Errorf("on call: schedule %s: %w", name, err)
		}
		s.people[group] = map[string]string{}
		for them, user := range e.People {
			if err := access.CheckUserName(user); err != nil {
				return nil, fmt.Errorf("on call: schedule %s: %w", name, err)
			}
			s.people[group][strings.ToLower(them)] = user
		}
	}
	return s, nil
}

func newSource(c Config, e scheduleEntry) (source, error) {
	given := 0
	for _, s := range []string{e.File, e.Calendar, e.PagerDuty} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, errors.New("name one of file, calendar and pagerduty")
	case e.File != "":
		return file(e.File), nil
	case e.PagerDuty != "":
		return newPagerDuty(c.Out, e)
	case strings.Contains(e.Calendar, "://"):
		if err := outbound.CheckURL(e.Calendar); err != nil {
			return nil, fmt.Errorf("calendar: %w", err)
		}
		return calendarAt{c.Out, e.Calendar}, nil
	default:
		return calendarFile(e.Calendar), nil
	}
}

// Run reads the schedules again and again until ctx ends, and says when somebody
// has come or gone.
func (s *Schedules) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last time.Time
	was := ""
	for {
		if now := s.c.Now(); now.Sub(last) >= s.c.Every || now.Before(last) {
			s.Refresh(ctx)
			last = now
		}
		if is := s.roster(s.c.Now()); is != was {
			was = is
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Refresh reads each schedule once, side by side.
func (s *Schedules) Refresh(ctx context.Context) {
	var wg sync.WaitGroup
	for group, from := range s.sources {
		wg.Go(func() {
			now := s.c.Now()
			ctx, cancel := context.WithTimeout(ctx, readWithin)
			defer cancel()
			shifts, err := from.read(ctx, now.Add(-time.Minute), now.Add(ahead))
			if err == nil && len(shifts) > maxShifts {
				err = fmt.Errorf("it has more than %d shifts", maxShifts)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			r := s.read[group]
			if err != nil && r.problem == nil && ctx.Err() == nil {
				s.c.Log.ErrorContext(ctx, "a schedule of who is on call cannot be read", "group", group, "error", err)
			}
			if r.problem = err; err == nil {
				r.shifts, r.at = shifts, now
			}
			s.read[group] = r
		})
	}
	wg.Wait()
}

// Changed gets a value when somebody has come or gone.
func (s *Schedules) Changed() <-chan struct{} { return s.changed }

// Groups are those of the schedules in which the user of that name is on call.
func (s *Schedules) Groups(user string, at time.Time) []string {
	var groups []string
	for group := range s.sources {
		if slices.Contains(s.People(group, at), user) {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	return groups
}

// People are the names of the users who are on call in the schedule of that group.
func (s *Schedules) People(group string, at time.Time) []string {
	s.mu.RLock()
	r := s.read[group]
	s.mu.RUnlock()
	if r.at.IsZero() || at.Sub(r.at) > s.c.StaleAfter {
		return nil // nobody, rather than somebody who may be so no more
	}
	var users []string
	for _, shift := range r.shifts {
		if at.Before(shift.from) || !at.Before(shift.until) {
			continue
		}
		them := strings.ToLower(strings.TrimSpace(shift.person))
		user, known := s.people[group][them]
		if !known {
			user = them // a schedule may call people as we do
		}
		if access.CheckUserName(user) == nil {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// roster is who is on call, for comparing.
func (s *Schedules) roster(at time.Time) string {
	var b strings.Builder
	for _, group := range slices.Sorted(maps.Keys(s.sources)) {
		fmt.Fprintln(&b, group, s.People(group, at))
	}
	return b.String()
}

// Problems are the schedules that could not be read lately, by group, each with
// what is wrong.
func (s *Schedules) Problems(at time.Time) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]string{}
	for group := range s.sources {
		switch r := s.read[group]; {
		case r.at.IsZero() && r.problem != nil:
			out[group] = fmt.Sprintf("it was never read, and counts for nobody: %v", r.problem)
		case !r.at.IsZero() && at.Sub(r.at) > s.c.StaleAfter:
			out[group] = fmt.Sprintf("it was last read at %s, and counts for nobody: %v", r.at.UTC().Format(time.RFC3339), r.problem)
		case r.problem != nil:
			out[group] = fmt.Sprintf("it cannot be read, and counts as it was read at %s: %v", r.at.UTC().Format(time.RFC3339), r.problem)
		}
	}
	return out
}

// get reads what is at an address, whole.
func get(ctx context.Context, out *outbound.Client, address string, header http.Header) ([]byte, error) {
	a, err := out.Do(ctx, outbound.Call{Method: http.MethodGet, URL: address, Header: header, Limit: maxFile + 1})
	switch {
	case err != nil:
		return nil, err
	case a.Status != http.StatusOK:
		return nil, fmt.Errorf("the answer is %d %s", a.Status, http.StatusText(a.Status))
	case len(a.Body) > maxFile:
		return nil, errors.New("the answer is larger than 1 MiB")
	}
	return a.Body, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return b, err
}
