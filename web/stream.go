package web

import (
	"io"
	"log/slog"
	"net/http"
	"time"
)

// send writes a content. The reader has a time for each piece of it.
func (s *Server) send(w http.ResponseWriter, r *http.Request, c content) {
	h := w.Header()
	h.Set("Content-Type", c.media)
	if c.file != "" {
		h.Set("Content-Disposition", `attachment; filename="`+c.file+`"`) // of an id that was checked
	}
	within := answerWithin
	if c.within > 0 {
		within = c.within
	}
	if err := c.write(&patient{w, http.NewResponseController(w), within}); err != nil {
		s.report(r, slog.LevelWarn, err)
		panic(http.ErrAbortHandler) // what came is not the whole
	}
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
