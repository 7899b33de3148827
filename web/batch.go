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
	seconds, err := strconv.ParseInt(r.PostFormValue("seconds"), 10, 64)
	if err != nil || seconds < 0 {
		seconds = 0
	}
	note := r.PostFormValue("note")
	if seconds == 0 && r.PostFormValue("action") == "approve" {
		err = access.Invalid("choose for how long")
	} else {
		err = s.decideTogether(r, by, r.PathValue("id"), seconds, note)
	}
	if err != nil {
		b, findErr := s.findBatch(r, by)
		if findErr != nil {
			s.fail(w, r, by, err) // what was wrong first
			return
		}
		b.Typed = ui.Decision{Seconds: seconds, Note: note}
		s.showBatch(w, r, by, b, err)
		return
	}
	http.Redirect(w, r, "/batch/"+url.PathEscape(r.PathValue("id")), http.StatusSeeOther)
}

// decideTogether decides the requests that the form names, of a batch or ("") of
// any, each by the digest of what was shown, for seconds or (0) as long as each
// asks for. What is refused does not keep the others from being decided.
func (s *Server) decideTogether(r *http.Request, by access.Caller, batch string, seconds int64, note string) error {
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
			_, err = s.c.Broker.Approve(r.Context(), by, id, digest, broker.Answer{Duration: duration(seconds), Comment: note})
		default:
			_, err = s.c.Broker.Deny(r.Context(), by, id, digest, note)
		}
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}
