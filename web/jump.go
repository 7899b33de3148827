package web

import (
	"context"
	"net/url"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// jumpHits is how many of a kind are found.
const jumpHits = 6

// jump finds what the caller may know of by a part of its name: targets, people,
// and requests among the newest.
func (s *Server) jump(ctx context.Context, by access.Caller, in *struct {
	Q string `query:"q" required:"true" minLength:"1" maxLength:"64"`
}) (api.List[api.Hit], error) {
	out := api.List[api.Hit]{Items: []api.Hit{}}
	b := s.c.Broker
	targets, _, err := b.FindTargets(ctx, by, broker.TargetFilter{Part: in.Q, Limit: jumpHits})
	if err != nil {
		return out, err
	}
	for _, v := range targets {
		out.Items = append(out.Items, api.Hit{Kind: "target", Name: v.Target.Name, Detail: v.Target.Labels.Environment, URL: "/targets/" + url.PathEscape(v.Target.Name)})
	}
	may, err := b.May(ctx, by, policy.ActionUserRead)
	if err != nil {
		return out, err
	}
	if may[policy.ActionUserRead] {
		people, _, err := b.FindUsers(ctx, by, broker.UserFilter{Part: in.Q, Limit: jumpHits})
		if err != nil {
			return out, err
		}
		for _, u := range people {
			out.Items = append(out.Items, api.Hit{Kind: "person", Name: u.Name, Detail: u.Display, URL: "/people/" + url.PathEscape(u.Name)})
		}
	}
	requests, err := b.Requests(ctx, by, broker.Filter{Limit: 50})
	if err != nil {
		return out, err
	}
	q, n := strings.ToLower(in.Q), 0
	for _, c := range requests {
		r := c.Request
		text := strings.Join([]string{r.ID, r.RequesterName, r.Account + "@" + r.TargetName, r.Reason}, " ")
		if n == jumpHits || !strings.Contains(strings.ToLower(text), q) {
			continue
		}
		n++
		out.Items = append(out.Items, api.Hit{
			Kind: "request", Name: r.Account + " on " + r.TargetName, URL: "/r/" + r.ID,
			Detail: r.RequesterName + ", " + ui.Span(seconds(s.now().Sub(r.CreatedAt))) + " ago: " + clip(r.Reason, 80),
		})
	}
	return out, nil
}
