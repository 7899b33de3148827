package web

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/video"
)

// video is a film of a session. It is sent while it is made, which takes one or two
// processors for as long: one person has one made at a time.
func (s *Server) video(ctx context.Context, by access.Caller, in *ByID) (content, error) {
	leave, err := s.mayFilm(by.User.ID)
	if err != nil {
		return content{}, err
	}
	c, err := s.film(ctx, by, in.ID, leave)
	if err != nil {
		leave()
	}
	return c, err
}

// mayFilm takes one of the places in which films are made.
func (s *Server) mayFilm(who string) (leave func(), err error) {
	mine, ok := s.filming.enter(who)
	if !ok {
		return nil, &access.Error{Kind: errRate, Code: "DB-6122", Text: "a video is being made for you already", Next: "wait for it, then try again"}
	}
	all, ok := s.films.enter("")
	if !ok {
		mine()
		return nil, &access.Error{Kind: errRate, Code: "DB-6123", Text: fmt.Sprintf("%d videos are being made for others at this moment", maxFilms), Next: "wait for one of them, then try again"}
	}
	return func() { all(); mine() }, nil
}

func (s *Server) film(ctx context.Context, by access.Caller, id string, leave func()) (content, error) {
	x, r, err := s.openRecording(ctx, by, id, "export", s.openCast)
	if err != nil {
		return content{}, err
	}
	rs, ok := r.(io.ReadSeeker)
	if s.c.Film == nil || !ok {
		r.Close()
		return content{}, noEncoder(id)
	}
	// The film is made until its reader has gone, with whom the context ends.
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	made := make(chan struct{})
	go func() {
		defer close(made)
		cut, err := s.c.Film(ctx, rs, in)
		// What of the sealed file could not be read says more than what it led to.
		if err = cmp.Or(err, damage(r)); err == nil && cut != "" {
			err = &damaged{errors.New(cut)}
		}
		r.Close()
		in.CloseWithError(err)
	}()
	stop := func() {
		cancel()
		out.Close()
		<-made
	}
	// What cannot be made should fail before the answer has begun. To read a large
	// recording for the first time takes longer than a client waits for that.
	film := bufio.NewReaderSize(out, 64<<10)
	var first error
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		_, first = film.Peek(1)
	}()
	late := time.NewTimer(s.filmWithin)
	defer late.Stop()
	select {
	case <-begun:
		if first != nil {
			stop()
			return content{}, notFilmed(id, first)
		}
	case <-late.C:
	}
	return content{media: "video/mp4", file: x.ID + ".mp4", write: func(w io.Writer) error {
		defer leave()
		defer stop()
		<-begun
		_, err := io.Copy(w, film)
		if f, ok := errors.AsType[*video.Failure](err); ok {
			return &damaged{f}
		}
		return err
	}}, nil
}

// notFilmed says why there is no film.
func notFilmed(id string, err error) error {
	if errors.Is(err, video.ErrNoEncoder) {
		return noEncoder(id)
	}
	if f, ok := errors.AsType[*video.Failure](err); ok {
		why, _, _ := strings.Cut(f.Why, "\n")
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-6121", Text: "no video of " + id + " could be made: " + why, Next: "drawbolt replay " + id}
	}
	return fmt.Errorf("make a video of %s: %w", id, err)
}

func noEncoder(id string) error {
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-6120", Text: "this server makes no videos: it has no ffmpeg with H.264 (Debian's package ffmpeg), which its operator may install", Next: "drawbolt replay " + id}
}
