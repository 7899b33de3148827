package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/objects"
)

// openSinks opens the places where recordings are kept: those of the recorder,
// and those from which they are read.
func (a *App) openSinks() error {
	r, err := a.config.Recordings, error(nil)
	q := objects.QueueConfig{
		Folder: r.Folder, Check: a.onRecord, Log: a.log,
		Quarantined: func(ctx context.Context, name string, why error) error {
			return a.broker.Quarantined(ctx, name, why.Error())
		},
	}
	switch {
	case r.S3.Endpoint != "":
		if a.bucket, err = objects.NewBucket(a.config.bucket()); err != nil {
			return err
		}
		a.closers = append(a.closers, func() error { a.bucket.Close(); return nil })
		q.Store = a.bucket
	case r.ColdFolder != "":
		if q.Store, err = objects.Folder(r.ColdFolder); err != nil {
			return err
		}
		q.After = r.ColdAfter.duration()
	default:
		if a.objects, err = recorder.Directory(r.Folder); err != nil {
			return err
		}
		a.sink = recorder.Apart(a.objects, a.db)
		a.made = a.sink
		return nil
	}
	if a.queue, err = objects.NewQueue(q); err != nil {
		return err
	}
	a.objects = a.queue
	a.sink, a.made = recorder.Apart(a.queue, a.db), recorder.Apart(a.queue.Local(), a.db)
	return nil
}

// onRecord compares a recording in the folder with the audit log, before it
// leaves. What belongs to it waits until it is sealed and on record, too: until
// then the recorder may look for it, and only here. Of such objects no hash can be
// looked up.
func (a *App) onRecord(ctx context.Context, name string) error {
	id, _, _ := strings.Cut(name, ".")
	s, err := a.db.Session(ctx, id)
	switch {
	case errors.Is(err, access.ErrNotFound):
		return fmt.Errorf("%w: no session %.80q is known", objects.ErrWrong, id)
	case err != nil:
		return fmt.Errorf("%w: %w", objects.ErrNotYet, err)
	case s.Recording.Name == "":
		return objects.ErrNotYet
	case !strings.HasSuffix(name, recorder.Suffix):
		return nil
	case s.Recording.Name != name:
		return fmt.Errorf("%w: the recording of %s is %s", objects.ErrWrong, id, s.Recording.Name)
	}
	f, err := a.made.Open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != s.Recording.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s here, and %s on record", objects.ErrWrong, sum, s.Recording.SHA256)
	}
	return nil
}

// cool puts objects of the bucket into the colder class when they are old enough.
func (a *App) cool(ctx context.Context) error {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		n, err := a.bucket.Cool(ctx, time.Now().Add(-a.config.Recordings.ColdAfter.duration()), a.config.Recordings.S3.ColdClass)
		if err != nil && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "recordings were not all put into the colder class", "moved", n, "error", err)
		} else if n > 0 {
			a.log.InfoContext(ctx, "put recordings into the colder class", "moved", n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchRoom tells operators and the audit log when room for recordings becomes
// scarcer, and when there is some again.
func (a *App) watchRoom(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for step := recorder.Plenty; ; {
		room, err := a.recorder.Room()
		if now := room.Still(step); err == nil && now != step {
			step = now
			a.roomChanged(ctx, step, room.String())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *App) roomChanged(ctx context.Context, step recorder.Step, room string) {
	switch {
	case step >= recorder.Closed:
		a.log.ErrorContext(ctx, "too little room for recordings", "step", step.String(), "room", room)
	case step == recorder.Scarce:
		a.log.WarnContext(ctx, "room for recordings becomes scarce", "step", step.String(), "room", room)
	default:
		a.log.InfoContext(ctx, "there is room for recordings again", "room", room)
	}
	if err := a.broker.RoomChanged(ctx, step.String(), room); err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "the room for recordings was not put on record", "error", err)
	}
}

// keepingMetrics are those of where recordings are kept.
func (a *App) keepingMetrics() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	room := func(of func(recorder.Room) float64) func() float64 {
		return func() float64 {
			r, err := a.recorder.Room()
			if err != nil {
				return -1
			}
			return of(r)
		}
	}
	list := []prometheus.Collector{
		gauge("drawbolt_recordings_free_bytes", "Free bytes on the disk of recordings that has least room.", room(func(r recorder.Room) float64 { return float64(r.Free) })),
		gauge("drawbolt_recordings_room_step", "How scarce room is: 0 plenty, 1 scarce, 2 no new sessions, 3 sessions end, 4 none at all.", room(func(r recorder.Room) float64 { return float64(r.Step) })),
	}
	if a.queue == nil {
		return list
	}
	status := func(of func(objects.Status) float64) func() float64 {
		return func() float64 {
			s, err := a.queue.Status(context.Background())
			if err != nil {
				return -1
			}
			return of(s)
		}
	}
	return append(list,
		gauge("drawbolt_recordings_waiting", "Objects that have not arrived where they are kept.", status(func(s objects.Status) float64 { return float64(s.Waiting) })),
		gauge("drawbolt_recordings_oldest_seconds", "How long the first of them has been waiting.", status(func(s objects.Status) float64 { return s.Oldest.Seconds() })),
		gauge("drawbolt_recordings_quarantined", "Objects in quarantine.", status(func(s objects.Status) float64 { return float64(len(s.Quarantined)) })),
	)
}

// late is after how long the doctor minds that an object has not arrived.
const late = time.Hour

// examineKeeping is the doctor's look at where recordings are kept.
func (a *App) examineKeeping(ctx context.Context) (list []finding) {
	add := func(state, text, next string) { list = append(list, finding{"recordings", state, text, next}) }
	switch room, err := a.recorder.Room(); {
	case err != nil:
		add("error", err.Error(), "")
	case room.Step >= recorder.Closed:
		add("error", "no session starts: "+room.String(), "make room at "+room.Folder)
	case room.Step == recorder.Scarce:
		add("warning", "room becomes scarce: "+room.String(), "make room at "+room.Folder)
	default:
		add("ok", room.String(), "")
	}
	if a.bucket != nil {
		if err := a.bucket.Check(ctx); err != nil {
			add("error", fmt.Sprintf("the object store: %q", err.Error()), "recordings stay in "+a.config.Recordings.Folder+" meanwhile; check recordings.s3")
		} else {
			add("ok", a.bucket.String()+" lets us in", "")
		}
	}
	if a.queue == nil {
		return list
	}
	s, err := a.queue.Status(ctx)
	switch {
	case err != nil:
		add("error", err.Error(), "")
	case s.Oldest > late:
		add("warning", fmt.Sprintf("%d objects have not arrived, the first for %s", s.Waiting, access.FormatDuration(s.Oldest.Truncate(time.Minute))), "look for \"did not arrive\" in the log of the server")
	default:
		add("ok", fmt.Sprintf("%d objects are on their way", s.Waiting), "")
	}
	for i, aside := range s.Quarantined {
		if i == 10 {
			add("warning", fmt.Sprintf("and %d more are in quarantine", len(s.Quarantined)-i), "")
			break
		}
		add("warning", fmt.Sprintf("%s is in quarantine: %s", aside.Name, aside.Why), "when that is mended, move it from the folder quarantine back into "+a.config.Recordings.Folder)
	}
	return list
}
