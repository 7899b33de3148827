package test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drawbolt/drawbolt/broker/identity/mfa/mfatest"
	"github.com/drawbolt/drawbolt/web/api"
)

// passkey does what the script of a page does, and leaves the answer in a file.
func (s *story) passkey(ts *testscript.TestScript, args []string) {
	if len(args) != 2 || s.browsers[args[0]] == nil {
		ts.Fatalf("usage: passkey PERSON add|sign-in|vote:DIGEST, after web")
	}
	what, digest, _ := strings.Cut(args[1], ":")
	path, in := "/v1/me/passkeys/prompt", []byte("{}")
	if what == "sign-in" {
		path = "/v1/login/passkey"
	} else {
		var err error
		in, err = json.Marshal(api.PasskeyAsk{For: what, Digest: digest})
		ts.Check(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.url+path, bytes.NewReader(in))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", s.url)
	resp, err := s.browsers[args[0]].http.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	var prompt api.PasskeyPrompt
	ts.Check(json.Unmarshal([]byte(s.answer(ts, resp, http.StatusOK)), &prompt))
	challenge, err := base64.RawURLEncoding.DecodeString(prompt.Challenge)
	ts.Check(err)
	var answer []byte
	if what == api.PasskeyAdd {
		key := mfatest.New(prompt.RelyingParty, s.url, prompt.UserID)
		answer = key.Made(challenge)
		key.Count++
		s.passkeys[args[0]] = key
	} else {
		answer = s.passkeys[args[0]].Signed(challenge)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), answer, 0o600))
}
