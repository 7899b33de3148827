package cast

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// A Part reads events from the middle of a recording, and verifies nothing: neither
// the chain nor the seal is looked at, and what it gives is as good as where r
// comes from. It is for showing; what counts as evidence goes through a Reader
// from the beginning. It is not safe for concurrent use.
type Part struct{ c *Reader }

// NewPart reads from r, which begins with the first line of an event, to its
// end. The events' At is the time since the event that stands before the first.
func NewPart(r io.Reader) *Part {
	return &Part{&Reader{r: bufio.NewReaderSize(r, 32<<10), all: sha256.New(), chunk: sha256.New(), comment: []byte{}}}
}

// Next returns the next event; its Data is the caller's. It returns io.EOF at
// the end of r and at a seal. Lines that cannot be read are passed over: a
// *DamageError of the kind ErrAltered tells of each, and Next may be called
// again. Any other error is the last.
func (p *Part) Next() (Event, error) {
	c := p.c
	var comment []byte // of the event that must follow
	for {
		line, err := c.next()
		var d *DamageError
		switch {
		case errors.As(err, &d) && d.Kind == ErrCut, err == io.EOF && comment != nil:
			return Event{}, io.ErrUnexpectedEOF
		case err != nil:
			return Event{}, err
		}
		body := line[:len(line)-1]
		switch {
		case bytes.HasPrefix(body, []byte(lineChain)):
			c.chunks++
		case bytes.HasPrefix(body, []byte(lineSeal)):
			return Event{}, io.EOF
		case bytes.HasPrefix(body, []byte(lineEvent)) && comment == nil:
			c.comment = append(c.comment[:0], body[len(lineEvent):]...)
			comment = c.comment
			continue
		default:
			e, err := c.event(body, comment)
			if err != nil {
				return Event{}, c.damage(ErrAltered, err.Error())
			}
			return e, nil
		}
		if comment != nil {
			return Event{}, c.damage(ErrAltered, fmt.Sprintf("an event comment stands before %.20q", line))
		}
	}
}
