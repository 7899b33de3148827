package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	sdk "github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"

	"github.com/drawbolt/drawbolt/broker/access"
)

// ServeHTTP takes what Slack sends, with HTTPMode. Before anything of the body is
// read as more than bytes, its signature has been checked with the secret that
// only Slack and we have; it is no older than five minutes, and counts once, on
// all servers and over a restart
// (https://docs.slack.dev/authentication/verifying-requests-from-slack).
func (s *Slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		http.Error(w, "the body is too large, or did not arrive whole", http.StatusRequestEntityTooLarge)
		return
	}
	if err := s.verify(r.Header, body); err != nil {
		s.unbelieved(w, r, err)
		return
	}
	done, ok := s.begin()
	if !ok {
		http.Error(w, errTooMany.Text, http.StatusServiceUnavailable)
		return
	}
	in, challenge, err := parse(r.Header.Get("Content-Type"), body)
	if err != nil {
		done()
		http.Error(w, "it is nothing that is known here", http.StatusBadRequest)
		return
	}
	if challenge != "" {
		done()
		answerJSON(w, map[string]string{"challenge": challenge})
		return
	}
	// What is sent again proves nobody: it is not counted as done by whom it names,
	// who could do nothing any more while others repeat it.
	hash := hashOf(r.Header, body)
	used, err := s.c.Store.Used(r.Context(), hash)
	if err == nil && used {
		err = errReplay
	}
	if err != nil {
		done()
		s.unbelieved(w, r, err)
		return
	}
	answer, after, err := s.take(r.Context(), in)
	if err != nil {
		done()
		http.Error(w, errTooMany.Text, http.StatusTooManyRequests)
		return
	}
	// Not earlier: it is a row in the database, which a flood must not fill.
	if err := s.first(r.Context(), hash); err != nil {
		done()
		s.unbelieved(w, r, err)
		return
	}
	if answer != nil {
		answerJSON(w, answer)
	}
	go func() { // not waited for here: Slack wants its answer first; Run waits
		defer done()
		defer s.recovered()
		if after != nil {
			s.finish(after)
		}
	}()
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v) // whoever hangs up has hung up
}

var (
	errForged = &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6195", Text: "this is not signed by Slack, or was signed more than five minutes ago"}
	errReplay = &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6195", Text: "this has been sent before, and counts once"}
)

// unbelieved answers what is not taken for Slack's.
func (s *Slack) unbelieved(w http.ResponseWriter, r *http.Request, err error) {
	if s.doubts.AllowN(s.c.Now(), 1) {
		s.c.Log.WarnContext(r.Context(), "what claims to be Slack was refused", "path", r.URL.Path, "error", err)
	}
	if said, is := errors.AsType[*access.Error](err); is {
		http.Error(w, said.Text+" ("+said.Code+")", http.StatusUnauthorized)
		return
	}
	http.Error(w, "it cannot be checked now", http.StatusServiceUnavailable)
}

// verify checks the signature, and that it is fresh.
func (s *Slack) verify(header http.Header, body []byte) error {
	secret := string(s.c.SigningSecret.Expose())
	if s.c.Mode != HTTPMode || secret == "" {
		return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6197", Text: "this server takes nothing from Slack by HTTP"}
	}
	if len(header.Values("X-Slack-Signature")) != 1 || len(header.Values("X-Slack-Request-Timestamp")) != 1 {
		return errForged
	}
	v, err := sdk.NewSecretsVerifier(header, secret)
	if err == nil {
		_, err = v.Write(body)
	}
	if err == nil {
		err = v.Ensure()
	}
	if err != nil {
		return errForged
	}
	return nil
}

// hashOf is by what a request is known again: what is signed, and not the signature,
// which can be written in several ways.
func hashOf(header http.Header, body []byte) string {
	sum := sha256.Sum256(append([]byte("slack request\n"+header.Get("X-Slack-Request-Timestamp")+"\n"), body...))
	return hex.EncodeToString(sum[:])
}

// first refuses what was there before, and remembers what was not.
func (s *Slack) first(ctx context.Context, hash string) error {
	first, err := s.c.Store.Once(ctx, hash, s.c.Now().Add(rememberFor))
	if err != nil {
		return err
	}
	if !first {
		return errReplay
	}
	return nil
}

// parse reads what has been verified: a form with a payload, a form of a
// command, or the JSON of an event.
func parse(contentType string, body []byte) (in any, challenge string, err error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, "", err
	}
	if media == "application/json" {
		var outer struct {
			Type      string `json:"type"`
			Challenge string `json:"challenge"`
		}
		if err := json.Unmarshal(body, &outer); err != nil {
			return nil, "", err
		}
		if outer.Type == slackevents.URLVerification {
			return nil, cut(outer.Challenge, maxValue), nil
		}
		e, err := slackevents.ParseEvent(json.RawMessage(body), slackevents.OptionNoVerifyToken())
		return e, "", err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, "", err
	}
	if payload := form.Get("payload"); payload != "" {
		var c sdk.InteractionCallback
		err := json.Unmarshal([]byte(payload), &c)
		return c, "", err
	}
	if form.Get("command") == "" {
		return nil, "", errors.New("neither a payload nor a command")
	}
	return sdk.SlashCommand{
		TeamID: form.Get("team_id"), UserID: form.Get("user_id"), UserName: form.Get("user_name"), ChannelID: form.Get("channel_id"),
		Command: form.Get("command"), Text: form.Get("text"), ResponseURL: form.Get("response_url"), TriggerID: form.Get("trigger_id"),
	}, "", nil
}
