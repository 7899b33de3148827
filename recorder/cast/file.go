package cast

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A FileEvent says something about a file that is carried, or about one that is
// asked about, changed or removed by the way. The content itself stands in no
// recording.
type FileEvent struct {
	// What happens: "open" before the first byte passes, "part" now and then
	// while bytes pass, "close" after the last one, "refuse"; or the request,
	// such as "list", "stat", "remove", "rename".
	What      string
	Number    int    // tells the files of a recording apart, from 1; 0: no file
	Direction string // "upload" or "download"; empty when neither
	Path      string // as the target understands it
	To        string // the other path, of a rename or a link
	Size      int64  // bytes that passed
	// SHA256 is of these bytes, in hex; empty when they did not pass one after
	// the other from the beginning, or when there are none yet.
	SHA256 string
	Result string // "ok", "refused", "failed", "cut"; empty while it is not known
	Why    string // of a result that is not ok
	// Kept is the name of the sealed copy, and KeptSHA256 that of the copy as
	// it is kept.
	Kept, KeptSHA256 string
}

// wireFile is a FileEvent as JSON. Texts that are not UTF-8 are Go string
// literals in the fields that end in _quoted.
type wireFile struct {
	What       string `json:"what"`
	Number     int    `json:"file,omitempty"`
	Direction  string `json:"direction,omitempty"`
	Path       string `json:"path,omitempty"`
	PathQuoted string `json:"path_quoted,omitempty"`
	To         string `json:"to,omitempty"`
	ToQuoted   string `json:"to_quoted,omitempty"`
	Size       int64  `json:"size,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Result     string `json:"result,omitempty"`
	Why        string `json:"why,omitempty"`
	Kept       string `json:"kept,omitempty"`
	KeptSHA256 string `json:"kept_sha256,omitempty"`
}

// MarshalText returns the data of an event of the stream File. It fails when
// that would be longer than an event may be.
func (e FileEvent) MarshalText() ([]byte, error) {
	w := wireFile{What: e.What, Number: e.Number, Direction: e.Direction, Size: e.Size, SHA256: e.SHA256,
		Result: e.Result, Why: e.Why, Kept: e.Kept, KeptSHA256: e.KeptSHA256}
	w.Path, w.PathQuoted = quoteInvalid(e.Path)
	w.To, w.ToQuoted = quoteInvalid(e.To)
	data, err := json.Marshal(w)
	if err == nil && len(data) > maxData {
		err = errors.New("the event is too large")
	}
	return data, err
}

func quoteInvalid(s string) (plain, quoted string) {
	if utf8.ValidString(s) {
		return s, ""
	}
	return "", strconv.QuoteToASCII(s)
}

// ParseFileEvent reads what MarshalText wrote. Other bytes give an event that
// shows them, so that nothing in a recording is passed over.
func ParseFileEvent(data []byte) FileEvent {
	var w wireFile
	if err := json.Unmarshal(data, &w); err != nil {
		return FileEvent{What: "unreadable", Why: string(data)}
	}
	e := FileEvent{What: w.What, Number: w.Number, Direction: w.Direction, Path: w.Path, To: w.To, Size: w.Size, SHA256: w.SHA256,
		Result: w.Result, Why: w.Why, Kept: w.Kept, KeptSHA256: w.KeptSHA256}
	if s, err := strconv.Unquote(w.PathQuoted); err == nil {
		e.Path = s
	}
	if s, err := strconv.Unquote(w.ToQuoted); err == nil {
		e.To = s
	}
	return e
}

// String returns one line for people. It holds nothing that acts on a terminal.
func (e FileEvent) String() string {
	var b strings.Builder
	b.WriteString(visibleString(e.What))
	say := func(text string) {
		b.WriteByte(' ')
		b.WriteString(text)
	}
	if e.Number != 0 {
		say("#" + strconv.Itoa(e.Number))
	}
	if e.Direction != "" {
		say(visibleString(e.Direction))
	}
	if e.Path != "" {
		say(strconv.Quote(e.Path))
	}
	if e.To != "" {
		say("to " + strconv.Quote(e.To))
	}
	if e.Size != 0 || e.What == "close" {
		say(fmt.Sprintf("%d bytes", e.Size))
		if e.SHA256 == "" {
			say("partial")
		}
	}
	if e.SHA256 != "" {
		say("sha256 " + visibleString(e.SHA256))
	}
	if e.Result != "" {
		say(visibleString(e.Result))
	}
	if e.Why != "" {
		say("(" + visibleString(e.Why) + ")")
	}
	if e.Kept != "" {
		say("kept as " + visibleString(e.Kept) + " sha256 " + visibleString(e.KeptSHA256))
	}
	return b.String()
}
