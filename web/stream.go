package web

import (
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// send writes a content. The reader has answerWithin for each piece of it.
func (s *Server) send(w http.ResponseWriter, r *http.Request, c content) {
	h := w.Header()
	h.Set("Content-Type", c.media)
	h.Set("Content-Disposition", `attachment; filename="`+c.file+`"`) // of an id that was checked
	p := &patient{Writer: w, control: http.NewResponseController(w), within: answerWithin}
	defer p.keep()()
	if err := c.write(p); err != nil {
		s.report(r, slog.LevelWarn, err)
		panic(http.ErrAbortHandler) // what came is not the whole
	}
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
