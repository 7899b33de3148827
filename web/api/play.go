package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Playback is what a player needs of a recording beside its picture. Moments
// are seconds since the start of the recording.
type Playback struct {
	Session  string        `json:"session"`
	Started  time.Time     `json:"started"`
	Duration float64       `json:"duration"`
	Segments []PlaySegment `json:"segments"`
	Input    []int64       `json:"input"`  // bytes typed in each of the equal spans of the duration
	Output   []int64       `json:"output"` // bytes shown
	Idle     [][2]float64  `json:"idle"`   // pauses of 30 s and longer: from, to
	Texts    []PlayText    `json:"texts"`  // what was run, typed, carried and remarked
	More     bool          `json:"more"`   // there are more texts than are given here; a search finds them
	Cut      string        `json:"cut,omitempty"`
}

// A PlaySegment is a span of a recording that is fetched by itself.
type PlaySegment struct {
	At float64 `json:"at"`
	// Saved is how much earlier it begins with pauses cut to 2 s and to 0.5 s.
	Saved [2]float64 `json:"saved"`
}

// A PlayText is one line of plain text.
type PlayText struct {
	At   float64 `json:"at"`
	In   string  `json:"in"` // output, keys, command, file or mark
	Text string  `json:"text"`
}

// A PlayIndex is an index of asciinema-player's segmented recordings.
type PlayIndex struct {
	Version  int                `json:"version"`
	Duration float64            `json:"duration"`
	Term     PlayTerm           `json:"term"`
	Segments []PlayIndexSegment `json:"segments"`
	Markers  [][]any            `json:"markers"` // moment and label
}

// A PlayTerm is the size of a terminal.
type PlayTerm struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

// A PlayIndexSegment says where a segment is.
type PlayIndexSegment struct {
	Start float64 `json:"start"`
	URL   string  `json:"url"` // relative to that of the index
}

// A PlayPart is one segment for asciinema-player.
type PlayPart struct {
	Snapshot PlaySnapshot `json:"snapshot"`
	Events   [][]any      `json:"events"` // moment, code, text
	// Pauses are where time was left out: the moment in this index at which the
	// pause is over, and how many seconds were left out. The player passes it over.
	Pauses [][2]float64 `json:"pauses"`
}

// A PlaySnapshot is the screen at the beginning of a segment.
type PlaySnapshot struct {
	PlayTerm
	Init string `json:"init"` // paints it on a terminal that was reset
}

// A PlayScreen is the screen at the beginning of a segment as plain text.
type PlayScreen struct {
	At float64 `json:"at"`
	PlayTerm
	Lines []string `json:"lines"`
}

// PlayHits are what a search in one recording found.
type PlayHits struct {
	Hits []PlayText `json:"hits"`
	More bool       `json:"more"` // there are more
}

// Playback returns what a player shows of a recording. That it is looked at is an
// audit event.
func (c *Client) Playback(ctx context.Context, id string) (Playback, error) {
	return call[Playback](ctx, c, http.MethodGet, path("sessions", id, "play"), nil, nil)
}

// FindInRecording returns the lines of one recording that contain a text, however
// its letters are cased. in picks sources; none: all.
func (c *Client) FindInRecording(ctx context.Context, id, text string, in ...string) (PlayHits, error) {
	q := url.Values{"q": {text}}
	set(q, "in", strings.Join(in, ","))
	return call[PlayHits](ctx, c, http.MethodGet, path("sessions", id, "play")+"/find", q, nil)
}

// A RecordingCheck is what the server found when it verified a recording. It is
// the server's word; drawbolt verify needs none.
type RecordingCheck struct {
	At      *time.Time `json:"at,omitempty"` // absent: never
	By      string     `json:"by,omitempty"`
	Whole   bool       `json:"whole"`
	Finding string     `json:"finding,omitempty"` // what is wrong, when it is not whole
}

// CheckRecording has the server verify a recording: the sealed file's hash, the
// chain and the seal inside, and that the audit log says the same.
func (c *Client) CheckRecording(ctx context.Context, id string) (RecordingCheck, error) {
	return call[RecordingCheck](ctx, c, http.MethodPost, path("sessions", id, "check"), nil, Empty{})
}
