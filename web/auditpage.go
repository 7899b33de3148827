package web

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/web/ui"
)

// auditPage shows the audit log, the newest first, with all that each event says,
// and whether the log still is what was signed.
func (s *Server) auditPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	ctx, q := r.Context(), r.URL.Query()
	// To look through a long log costs some reads of the database.
	done, err := s.mayRead(by.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	defer done()
	state, err := s.c.Broker.LogState(ctx, by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	v := ui.Audit{
		Who: q.Get("who"), Action: q.Get("action"), Object: q.Get("object"), Target: q.Get("target"), Request: q.Get("request"), Session: q.Get("session"),
		Since: q.Get("since"), Until: q.Get("until"), First: q.Get("before") == "", Events: state.Events, Problem: state.Problem,
	}
	if c := state.Checkpoint; c != nil {
		v.Signed = &ui.Signed{Events: c.Size, At: c.Time.UTC(), Root: c.Root.String(), Origin: c.Origin}
	}
	if s.c.CheckLog != nil && v.Problem == "" {
		if err := s.c.CheckLog(ctx); err != nil {
			v.Problem = err.Error()
		}
		v.Outside = true
	}
	if may, err := s.c.Broker.May(ctx, by, policy.ActionAuditExport); err == nil {
		v.MayExport = may[policy.ActionAuditExport]
	}
	err = s.readTrail(r, by, &v)
	p := s.page(by, "Audit log", "/audit")
	s.show(w, r, s.with(&p, r, err), ui.AuditPage(p, v))
}

// readTrail finds what the form asks for.
func (s *Server) readTrail(r *http.Request, by access.Caller, v *ui.Audit) error {
	f := broker.TrailFilter{Actor: v.Who, Action: v.Action, Object: v.Object, Target: v.Target, Request: v.Request, Session: v.Session, Limit: listed}
	var err error
	if f.Since, err = parseMinute(v.Since); err != nil {
		return err
	}
	if f.Until, err = parseMinute(v.Until); err != nil {
		return err
	}
	if text := r.URL.Query().Get("before"); text != "" {
		if f.Before, err = strconv.ParseInt(text, 10, 64); err != nil || f.Before < 1 {
			return access.Invalid("the page does not say which events it begins with")
		}
	}
	trail, err := s.c.Broker.Trail(r.Context(), by, f)
	if err != nil {
		return err
	}
	v.Items, v.Doubtful = each(trail.Events, apiEvent), trail.Doubtful
	if trail.Next > 0 {
		q := url.Values{}
		for name, values := range r.URL.Query() {
			if len(values) > 0 && values[0] != "" {
				q.Set(name, values[0])
			}
		}
		q.Set("before", strconv.FormatInt(trail.Next, 10))
		v.Older = "/audit?" + q.Encode()
		v.Reached = trail.Next
	}
	return nil
}
