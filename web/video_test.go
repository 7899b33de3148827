package web

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/video"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestFilm: who may replay a session gets its film, with what is missing behind it,
// and that is an event; nobody else does.
func TestFilm(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up 3 days\r\n")
	path := "/v1/sessions/" + x.ID + "/video"
	h.server.c.Film = func(_ context.Context, recording io.ReadSeeker, out io.Writer) (string, error) {
		b, err := io.ReadAll(recording)
		if err != nil || !strings.Contains(string(b), "up 3 days") {
			t.Errorf("the recording is %.100q, %v", b, err)
		}
		_, err = io.WriteString(out, "the film")
		return "a part is missing", err
	}
	resp := h.do(httpCall{method: "GET", path: path, token: h.token("carol")})
	if b := text(resp); resp.StatusCode != 200 || b != "the film" || resp.Header.Get("Content-Type") != "video/mp4" || !strings.Contains(resp.Header.Get("Content-Disposition"), x.ID+".mp4") {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, b)
	}
	if got := resp.Trailer.Get(api.DamageTrailer); got != "a part is missing" {
		t.Errorf("the trailer is %q", got)
	}
	seen := callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?action=session.replay&session="+x.ID, nil, 200)
	if len(seen.Items) != 1 || seen.Items[0].Details["how"] != "export" || seen.Items[0].ActorName != "carol" {
		t.Errorf("the events are %+v", seen.Items)
	}
	h.server.c.Film = func(context.Context, io.ReadSeeker, io.Writer) (string, error) {
		t.Error("a film was made for somebody who may not see it")
		return "", nil
	}
	callJSON[api.Problem](h, "eve", "GET", path, nil, 404)
	callJSON[api.Problem](h, "bob", "GET", path, nil, 403)
	callJSON[api.Problem](h, "carol", "GET", "/v1/sessions/SES-0000000000000000/video", nil, 404)
}

// TestNoFilm: what cannot be made is refused before the answer begins, and says why.
func TestNoFilm(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up 3 days\r\n")
	path := "/v1/sessions/" + x.ID + "/video"
	for want, err := range map[string]error{
		"DB-6120": video.ErrNoEncoder, "DB-6121": &video.Failure{Why: "Unknown encoder 'libx264'\nthe encoder failed"}, "DB-6000": errors.New("a secret of the disk"),
	} {
		h.server.c.Film = func(context.Context, io.ReadSeeker, io.Writer) (string, error) { return "", err }
		status := 503
		if want == "DB-6000" {
			status = 500
		}
		p := callJSON[api.Problem](h, "carol", "GET", path, nil, status)
		if p.Code != want || strings.Contains(p.Detail, "secret") {
			t.Errorf("%v gave %+v", err, p)
		}
	}
	// One that begins late is refused behind the answer.
	h.server.filmWithin = time.Millisecond
	h.server.c.Film = func(context.Context, io.ReadSeeker, io.Writer) (string, error) {
		time.Sleep(50 * time.Millisecond)
		return "", &video.Failure{Why: "Unknown encoder"}
	}
	resp := h.do(httpCall{method: "GET", path: path, token: h.token("carol")})
	if b := text(resp); resp.StatusCode != 200 || b != "" || !strings.Contains(resp.Trailer.Get(api.DamageTrailer), "Unknown encoder") {
		t.Errorf("%d %q %v", resp.StatusCode, b, resp.Trailer)
	}
	h.server.filmWithin = 10 * time.Second
	h.server.c.Film = nil
	if p := callJSON[api.Problem](h, "carol", "GET", path, nil, 503); p.Code != "DB-6120" {
		t.Errorf("without a maker: %+v", p)
	}
}

// TestFilmsAtOnce: a person has one made at a time, and all together a few. The
// places are free again when a film was sent, when its reader has gone, and when
// there is none.
func TestFilmsAtOnce(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up 3 days\r\n")
	in := &ByID{ID: x.ID}
	ended := make(chan error, 9)
	h.server.c.Film = func(ctx context.Context, _ io.ReadSeeker, out io.Writer) (string, error) {
		for {
			if _, err := out.Write(make([]byte, 64<<10)); err != nil {
				ended <- ctx.Err()
				return "", err
			}
		}
	}
	by := h.by("carol")
	first := must(h.server.video(t.Context(), by, in))
	if _, err := h.server.video(t.Context(), by, in); err == nil || !strings.Contains(err.Error(), "being made for you already") {
		t.Errorf("one more: %v", err)
	}
	var leave []func()
	for _, who := range []string{"a", "b", "c"} {
		leave = append(leave, must(h.server.mayFilm(who)))
	}
	if _, err := h.server.mayFilm("d"); err == nil || !strings.Contains(err.Error(), "for others") {
		t.Errorf("one more of another: %v", err)
	}
	for _, l := range leave {
		l()
	}
	full := errors.New("the reader has gone")
	if err := first.write(failing{full}); !errors.Is(err, full) {
		t.Errorf("err %v", err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the film was not told to end")
		}
	case <-time.After(time.Minute):
		t.Fatal("the film is made for nobody")
	}
	for range maxFilms + 1 {
		if _, err := h.server.video(t.Context(), by, &ByID{ID: "SES-0000000000000000"}); err == nil {
			t.Error("a film of nothing")
		}
	}
	again := must(h.server.video(t.Context(), by, in))
	_ = again.write(failing{full})
}
