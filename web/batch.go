package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/ui"
)

// findBatch returns what the caller may see of the requests that were made
// together, in the order of their targets.
func (s *Server) findBatch(r *http.Request, by access.Caller) (ui.Batch, error) {
	id := r.PathValue("id")
	b := ui.Batch{ID: id}
	if !access.ValidID(access.BatchPrefix, id) {
		return b, noBatch(id)
	}
	list, err := s.c.Broker.Requests(r.Context(), by, broker.Filter{Batch: id, Limit: broker.MaxBatch})
	if err != nil {
		return b, err
	}
	if len(list) == 0 {
		return b, noBatch(id)
	}
	b.Items = s.viewRequests(by, list)
	slices.SortFunc(b.Items, func(x, y ui.Request) int { return cmp.Compare(x.Target, y.Target) })
	b.Key = s.keyOf(by, b.Items)
	return b, nil
}

func noBatch(id string) error {
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-2102", Text: "there is no batch " + id + " that you may know of"}
}

func (s *Server) batchPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	b, err := s.findBatch(r, by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	if unchanged(w, r, b.Key) {
		return
	}
	s.showBatch(w, r, by, b, nil)
}

func (s *Server) showBatch(w http.ResponseWriter, r *http.Request, by access.Caller, b ui.Batch, err error) {
	p := s.page(by, b.Items[0].Account+" on "+strconv.Itoa(len(b.Items))+" targets", "/inbox")
	status := s.with(&p, r, err)
	s.show(w, r, status, ui.BatchPage(p, b))
}

// batchForm decides the requests that the form names, each by the digest of what
// was shown. What is refused is told above the batch as it is now; what was done
// before it stays done.
func (s *Server) batchForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	d, err := decision(r)
	if err == nil && d.Seconds == 0 && r.PostFormValue("action") == "approve" {
		err = access.Invalid("choose for how long")
	}
	if err == nil {
		err = s.decideTogether(r, by, r.PathValue("id"), d)
	}
	if err != nil {
		b, findErr := s.findBatch(r, by)
		if findErr != nil {
			s.fail(w, r, by, err) // what was wrong first
			return
		}
		b.Typed = d
		s.showBatch(w, r, by, b, err)
		return
	}
	http.Redirect(w, r, "/batch/"+url.PathEscape(r.PathValue("id")), http.StatusSeeOther)
}

// decision reads a form that decides several requests. A duration that is none is
// refused and never taken for all of what was asked.
func decision(r *http.Request) (ui.Decision, error) {
	d := ui.Decision{Note: r.PostFormValue("note"), Without: r.PostForm["without"], FourEyes: r.PostFormValue("four_eyes") != "", Each: map[string]int64{}}
	wrong := access.Invalid("a duration in the form is none")
	var err error
	if text := r.PostForm.Get("seconds"); text != "" {
		if d.Seconds, err = strconv.ParseInt(text, 10, 64); err != nil || d.Seconds < 0 {
			d.Seconds = 0
			return d, wrong
		}
	}
	for _, v := range r.PostForm["vote"] {
		id, _, _ := strings.Cut(v, " ")
		text := r.PostForm.Get(ui.SecondsField + id)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return d, wrong
		}
		d.Each[id] = n
	}
	return d, nil
}

// decideTogether decides the requests that the form names, of a batch or ("") of
// any, each by the digest of what was shown. The duration for all cuts what is
// longer; one that stands beside a request is for it alone. What is refused does not
// keep the others from being decided.
func (s *Server) decideTogether(r *http.Request, by access.Caller, batch string, d ui.Decision) error {
	action, votes := r.PostFormValue("action"), r.PostForm["vote"]
	switch {
	case len(votes) == 0 || len(votes) > broker.MaxBatch:
		return access.Invalid("nothing that can be decided was sent: pick at least one request, and at most %d", broker.MaxBatch)
	case action != "approve" && action != "deny":
		return access.Invalid("there is no such decision")
	}
	var wrong []error
	for _, v := range votes {
		id, digest, _ := strings.Cut(v, " ")
		c, err := s.c.Broker.FindRequest(r.Context(), by, id)
		switch {
		case err != nil:
		case batch != "" && c.Request.Batch != batch:
			err = noBatch(batch) // a form of ours names none of another
		case action == "approve":
			length := duration(d.Each[id])
			if length == 0 {
				length = min(duration(d.Seconds), c.Request.Duration) // 0: as asked
			}
			_, err = s.c.Broker.Approve(r.Context(), by, id, digest, broker.Answer{Duration: length, Narrowing: narrowing(r), Comment: d.Note})
		default:
			_, err = s.c.Broker.Deny(r.Context(), by, id, digest, d.Note)
		}
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}
