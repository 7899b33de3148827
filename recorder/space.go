package recorder

import "fmt"

// A Step says how scarce room is on the disks that recordings need. What it
// keeps sessions from is for the disks to take what the rest still record.
type Step int

// The steps, from plenty to nothing. F is the floor, Config.Floor.
const (
	Plenty Step = iota
	Scarce      // less than five times F: somebody should look
	Closed      // less than F: no recording starts, but urgent ones
	Ending      // less than half F: recordings that run end, but urgent ones
	Spent       // less than an eighth of F: no urgent one starts
)

func (s Step) String() string {
	switch s {
	case Plenty:
		return "plenty"
	case Scarce:
		return "scarce"
	case Closed:
		return "closed"
	case Ending:
		return "ending"
	default:
		return "spent"
	}
}

// A Room says how much room there is on the disk that has least of it.
type Room struct {
	Step   Step
	Folder string // on that disk
	Free   uint64 // bytes
	Size   uint64 // bytes of the disk
	Floor  uint64 // bytes below which no recording starts
}

func (r Room) String() string {
	return fmt.Sprintf("%d MiB of %d MiB are free at %s, and %d MiB are the floor", r.Free>>20, r.Size>>20, r.Folder, r.Floor>>20)
}

// stepOf is the step of a disk. Where the floor is 5 % of it, three quarters are
// used when room is scarce.
func stepOf(free, floor uint64) Step {
	switch {
	case free < floor/8:
		return Spent
	case free < floor/2:
		return Ending
	case free < floor:
		return Closed
	case free < 5*floor:
		return Scarce
	default:
		return Plenty
	}
}

// Still is the step as it is to be told after that other one: one that is better
// by a hair is not, so that room that goes up and down is not told each time.
func (r Room) Still(before Step) Step {
	if r.Step < before {
		return min(before, stepOf(r.Free-min(r.Free, r.Floor/16), r.Floor))
	}
	return r.Step
}

// Room looks at the disks.
func (r *Recorder) Room() (Room, error) {
	var worst Room
	for i, folder := range append([]string{r.cfg.Journals}, r.cfg.Folders...) {
		free, size, err := diskSpace(folder)
		if err != nil {
			return Room{}, fmt.Errorf("ask for free space: %w", err)
		}
		floor := r.cfg.Floor
		if floor == 0 {
			floor = min(1<<30, size/20)
		}
		room := Room{stepOf(free, floor), folder, free, size, floor}
		if i == 0 || room.Step > worst.Step || room.Step == worst.Step && room.Free < worst.Free {
			worst = room
		}
	}
	return worst, nil
}

// space returns ErrNoSpace when there is no room for another recording.
func (r *Recorder) space(urgent bool) error {
	room, err := r.Room()
	if err != nil {
		return err
	}
	if room.Step >= Spent || !urgent && room.Step >= Closed {
		return fmt.Errorf("%w: %s", ErrNoSpace, room)
	}
	return nil
}

// makeRoom ends what must end for want of room.
func (r *Recorder) makeRoom() {
	room, err := r.Room()
	if err != nil || room.Step < Ending {
		return // an error shows when the next one starts
	}
	r.mu.Lock()
	var live []*Recording
	for _, rec := range r.live {
		if !rec.urgent {
			live = append(live, rec)
		}
	}
	r.mu.Unlock()
	for _, rec := range live {
		rec.fail(fmt.Errorf("%w: %s", ErrNoSpace, room))
	}
}
