package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/outbound"
)

// mayReply reports whether an address for an answer is one of Slack's, or of the
// proxy in front of it. It comes with a deed that Slack vouches for; all the same
// nothing is sent into our own network for it.
func (s *Slack) mayReply(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return false
	}
	api, err := url.Parse(s.c.APIURL)
	if err == nil && s.c.APIURL != sdk.APIURL && u.Scheme == api.Scheme && u.Host == api.Host {
		return true
	}
	return u.Scheme == "https" && (u.Host == "hooks.slack.com" || strings.HasSuffix(u.Host, ".slack.com") || u.Host == "hooks.slack-gov.com")
}

// respond answers a deed so that only who did it sees it.
func (s *Slack) respond(ctx context.Context, address string, m message) error {
	body, err := json.Marshal(struct {
		Type    string      `json:"response_type"`
		Replace bool        `json:"replace_original"`
		Text    string      `json:"text"`
		Blocks  []sdk.Block `json:"blocks,omitempty"`
	}{"ephemeral", false, m.Text, m.Blocks})
	if err != nil {
		return err
	}
	a, err := s.c.Out.Do(ctx, outbound.Call{URL: address, Body: body, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}})
	if err == nil && !a.OK() {
		err = fmt.Errorf("the answer was not taken: %d", a.Status)
	}
	return err
}
