package oncall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/outbound"
)

// A pagerDuty is a schedule there, read with GET /oncalls of its REST API, version 2.
type pagerDuty struct {
	out             *outbound.Client
	base, id, token string
}

const pagerDutyURL = "https://api.pagerduty.com"

func newPagerDuty(out *outbound.Client, e scheduleEntry) (source, error) {
	p := pagerDuty{out, pagerDutyURL, e.PagerDuty, e.TokenFile}
	if e.URL != "" {
		p.base = strings.TrimSuffix(e.URL, "/")
	}
	if e.TokenFile == "" {
		return nil, errors.New("pagerduty: token_file is missing")
	}
	if err := outbound.CheckURL(p.base); err != nil {
		return nil, fmt.Errorf("pagerduty: url: %w", err)
	}
	return p, nil
}

// onCalls is what is looked at in the answer.
type onCalls struct {
	OnCalls []struct {
		User struct {
			Email   string `json:"email"`
			Summary string `json:"summary"`
		} `json:"user"`
		Schedule struct {
			ID string `json:"id"`
		} `json:"schedule"`
		Start *time.Time `json:"start"` // null: always
		End   *time.Time `json:"end"`
	} `json:"oncalls"`
	More bool `json:"more"`
}

func (p pagerDuty) read(ctx context.Context, from, until time.Time) ([]shift, error) {
	token, err := outbound.ReadSecret(p.token)
	if err != nil {
		return nil, err
	}
	q := url.Values{
		"schedule_ids[]": {p.id}, "include[]": {"users"}, "limit": {"100"},
		"since": {from.UTC().Format(time.RFC3339)}, "until": {until.UTC().Format(time.RFC3339)},
	}
	b, err := get(ctx, p.out, p.base+"/oncalls?"+q.Encode(), http.Header{
		"Authorization": {"Token token=" + string(token.Expose())}, "Accept": {"application/vnd.pagerduty+json;version=2"},
	})
	if err != nil {
		return nil, fmt.Errorf("pagerduty: %w", err)
	}
	var a onCalls
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, errors.New("pagerduty: the answer is none of who is on call")
	}
	if a.More {
		return nil, errors.New("pagerduty: the answer is not whole")
	}
	var out []shift
	for _, x := range a.OnCalls {
		if x.Schedule.ID != p.id {
			continue
		}
		s := shift{x.User.Email, from, until}
		if s.person == "" {
			s.person = x.User.Summary
		}
		if x.Start != nil {
			s.from = *x.Start
		}
		if x.End != nil {
			s.until = *x.End
		}
		out = append(out, s)
	}
	return out, nil
}
