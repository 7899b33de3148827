package web

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/web/api"
)

// send writes a content. The reader has a time for each piece of it.
func (s *Server) send(w http.ResponseWriter, r *http.Request, c content) {
	h := w.Header()
	h.Set("Content-Type", c.media)
	h.Set("Trailer", api.DamageTrailer) // before the content, or a short one gets none
	if c.file != "" {
		h.Set("Content-Disposition", `attachment; filename="`+c.file+`"`) // of an id that was checked
	}
	within := answerWithin
	if c.within > 0 {
		within = c.within
	}
	err := c.write(&patient{w, http.NewResponseController(w), within})
	if d, whole := wholeButDamaged(err); whole {
		s.report(r, slog.LevelWarn, err)
		// Told behind the content, as it is known only then; in one line, of ASCII.
		h.Set(api.DamageTrailer, strings.Trim(strconv.QuoteToASCII(d), `"`))
		return
	}
	if err != nil {
		s.report(r, slog.LevelWarn, err)
		panic(http.ErrAbortHandler) // what came is not the whole
	}
}

// wholeButDamaged tells a content of which a part could not be read from one that
// was cut off.
func wholeButDamaged(err error) (string, bool) {
	if d, ok := errors.AsType[*damaged](err); ok {
		return d.Error(), true
	}
	if d, ok := errors.AsType[*cast.DamageError](err); ok {
		return d.Error(), true
	}
	return "", false
}

// patient moves the deadline along as long as the reader reads.
type patient struct {
	io.Writer
	control *http.ResponseController
	within  time.Duration
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.within)) // a test's recorder has none
	return p.Writer.Write(b)
}

// Flush sends what was written.
func (p *patient) Flush() { _ = p.control.Flush() } // an error comes again with the next Write
