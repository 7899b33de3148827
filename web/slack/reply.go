package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	sdk "github.com/slack-go/slack"
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
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("Slack has not taken the answer: %s", resp.Status)
	}
	return nil
}
