package web

import (
	"errors"
	"io"
	"net/http"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	bundles "github.com/drawbolt/drawbolt/policy/pack"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// maxUpload is the longest form with a bundle.
const maxUpload = api.MaxBundle + 64<<10

// bundleForm looks at a policy bundle that a browser sends: it is tested, and
// compared with the one in service. Nothing is put into service: what decides comes
// from the disk of each server, so that who has a browser's login, an administrator's
// too, cannot change it.
func (s *Server) bundleForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	page := ui.Policies{Ask: api.ExplainInput{Action: "request"}}
	b, err := uploaded(r)
	if err == nil {
		page.Bundle, err = s.lookAt(r, by, b)
	}
	s.showPolicies(w, r, by, page, err)
}

// uploaded reads the bundle out of a form.
func uploaded(r *http.Request) (*bundles.Bundle, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, access.Invalid("the form holds no file")
	}
	part, err := form.NextPart()
	if err != nil || part.FormName() != "bundle" {
		return nil, access.Invalid("the form holds no bundle")
	}
	archive, err := io.ReadAll(io.LimitReader(part, api.MaxBundle+1))
	switch {
	case err != nil:
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6003", Text: "the body did not arrive whole"}
	case len(archive) == 0:
		return nil, access.Invalid("choose a bundle: a .tar.gz of its folder")
	case len(archive) > api.MaxBundle:
		return nil, &access.Error{Kind: errLarge, Code: "DB-6340", Text: "the bundle is larger than 4 MiB", Next: "drawbolt policy test FOLDER"}
	}
	return unpack(archive)
}

// lookAt tests a bundle and, when it may be put into service, compares it.
func (s *Server) lookAt(r *http.Request, by access.Caller, b *bundles.Bundle) (*ui.Bundle, error) {
	leave, err := s.mayProve(by)
	if err != nil {
		return nil, err
	}
	defer leave()
	c := broker.Candidate{Files: b.Files}
	if c.Tests, err = testRoles(b); err != nil {
		return nil, err
	}
	v, err := s.c.Broker.TestPolicy(r.Context(), by, c)
	if err != nil {
		return nil, err
	}
	out := &ui.Bundle{Test: APITest(v, b.Digest)}
	if s.c.BundleSigner != nil {
		if out.Signer, err = s.c.BundleSigner(b); err != nil {
			out.Unsigned = audit.Clean(err.Error(), audit.MaxReason)
		}
	}
	if v.Program == nil || len(v.Problems) > 0 {
		return out, nil
	}
	if now, err := s.c.Broker.ShowPolicy(r.Context(), by); err == nil {
		file := func(f policy.File) api.PolicyFile { return api.PolicyFile(f) }
		out.Changes = ui.FileChanges(each(now.Files, file), each(v.Program.Files(), file))
	} else if !errors.Is(err, access.ErrDenied) {
		return nil, err
	}
	d, err := s.c.Broker.DiffPolicy(r.Context(), by, c, s.now().AddDate(0, 0, -30))
	if err != nil {
		return nil, err
	}
	diff := apiDiff(d)
	out.Diff = &diff
	return out, nil
}
