package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// The kinds of error that only HTTP knows.
var (
	errMethod = errors.New("method not allowed")
	errLarge  = errors.New("too large")
	errMedia  = errors.New("unsupported media type")
	errRate   = errors.New("too many requests")
)

// statuses is where kinds become answers. The first that matches counts: a
// token that does not hold may have an error of any kind as its cause.
var statuses = []struct {
	kind   error
	status int
	code   string
	text   string // where the error has no sentence of its own
}{
	{access.ErrUnauthenticated, http.StatusUnauthorized, "DB-4001", "you are not logged in"},
	{access.ErrNotFound, http.StatusNotFound, "DB-6001", "there is no such thing, or you may not know that it exists"},
	{access.ErrDenied, http.StatusForbidden, "DB-6002", "this is not allowed"},
	{access.ErrConflict, http.StatusConflict, "DB-6004", "it has changed meanwhile: look at it again"},
	{access.ErrInvalid, http.StatusUnprocessableEntity, "DB-1001", "the request is not valid"},
	{access.ErrUnavailable, http.StatusServiceUnavailable, "DB-6005", "a part that is needed does not work now: nothing was changed, try again"},
	{errMethod, http.StatusMethodNotAllowed, "DB-6006", "this address does not do that"},
	{errLarge, http.StatusRequestEntityTooLarge, "DB-6007", "the body is larger than 64 KiB"},
	{errMedia, http.StatusUnsupportedMediaType, "DB-6008", "the body is not of the type that is wanted here"},
	{errRate, http.StatusTooManyRequests, "DB-6009", "too many requests: wait a little"},
}

// problem turns an error into what the caller is told. Whatever is of no known
// kind reads "internal error", with the id under which the whole of it is in
// the server's log.
func (s *Server) problem(r *http.Request, err error) *problem {
	said, _ := errors.AsType[*access.Error](err)
	for _, known := range statuses {
		if said != nil && said.Kind != known.kind || said == nil && !errors.Is(err, known.kind) {
			continue
		}
		p := &problem{api.Problem{Title: http.StatusText(known.status), Status: known.status, Code: known.code, Detail: known.text}}
		if said != nil {
			p.Detail, p.Rule, p.Next = said.Text, said.Rule, said.Next
			if said.Code != "" {
				p.Code = said.Code
			}
		}
		if known.kind == access.ErrUnavailable {
			p.ID = s.report(r, slog.LevelWarn, err)
		}
		return p
	}
	p := &problem{api.Problem{
		Title: http.StatusText(http.StatusInternalServerError), Status: http.StatusInternalServerError, Code: "DB-6000",
		Detail: "internal error",
	}}
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelDebug // the caller hung up
	}
	p.ID = s.report(r, level, err)
	return p
}

// report logs an error whole and returns the id of the entry.
func (s *Server) report(r *http.Request, level slog.Level, err error) string {
	id := access.NewID("ERR")
	// The path only: a query may hold what is for the caller alone.
	s.c.Log.Log(r.Context(), level, "request failed", "id", id, "method", r.Method, "path", r.URL.Path, "error", err)
	return id
}

// A problem is an api.Problem that huma can write.
type problem struct{ api.Problem }

func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return api.ProblemType }

func (s *Server) writeProblem(w http.ResponseWriter, p *problem) {
	h := w.Header()
	h.Set("Content-Type", api.ProblemType)
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="drawbolt"`)
	case http.StatusTooManyRequests:
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// rewrite makes ours of the errors that huma finds by itself. They hold the
// values that were sent, which may be a password with a typing error in the key
// before it: only places and rules are passed on.
func rewrite(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problem{api.Problem{Title: http.StatusText(e.Status), Status: e.Status, Code: "DB-1001", Detail: e.Detail}}
	var wrong []string
	for i, d := range e.Errors {
		if i == 8 {
			wrong = append(wrong, "and more")
			break
		}
		wrong = append(wrong, strings.TrimPrefix(d.Location+": ", ": ")+d.Message)
	}
	if len(wrong) > 0 {
		p.Detail = strings.Join(wrong, "; ")
	}
	return p, nil
}
