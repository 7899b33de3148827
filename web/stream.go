package web

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
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
	p := &patient{Writer: w, control: http.NewResponseController(w), within: within}
	defer p.keep()()
	err := c.write(p)
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
	within  time.Duration // that the reader has for each piece
	writing atomic.Bool
}

// keep moves it along too while nothing is written, until stop: who packs a large
// recording is silent for long, and HTTP/2 ends a stream whose deadline passes even
// so. The handler must not return before stop does.
func (p *patient) keep() (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(p.within / 3)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if !p.writing.Load() {
					p.extend()
				}
			}
		}
	}()
	return func() { close(over); <-ended }
}

func (p *patient) extend() { _ = p.control.SetWriteDeadline(time.Now().Add(p.within)) } // a test's recorder has none

func (p *patient) Write(b []byte) (int, error) {
	p.writing.Store(true)
	defer p.writing.Store(false)
	p.extend()
	return p.Writer.Write(b)
}

// Flush sends what was written.
func (p *patient) Flush() {
	p.writing.Store(true)
	defer p.writing.Store(false)
	_ = p.control.Flush() // an error comes again with the next Write
}
