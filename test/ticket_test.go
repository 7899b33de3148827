package test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// jira is a fake of Jira: it answers out of the file issues.json, which is read
// for each question, to who asks with the token of the file token.
func (s *story) jira(ts *testscript.TestScript, _ []string) {
	const token = "a token of the house"
	ts.Check(os.WriteFile(filepath.Join(s.work, "token"), []byte(token+"\n"), 0o600))
	var wrong atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, ok := strings.CutPrefix(r.URL.Path, "/rest/api/2/issue/")
		if !ok || r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer "+token {
			wrong.Store(r.Method + " " + r.URL.String())
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		issues := map[string]json.RawMessage{}
		if b, err := os.ReadFile(filepath.Join(s.work, "issues.json")); err != nil || json.Unmarshal(b, &issues) != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		if issues[key] == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"key": key, "fields": issues[key]})
	}))
	s.ended = append(s.ended, func() {
		server.Close()
		if asked := wrong.Load(); asked != nil {
			ts.Logf("the ticket system was asked wrongly: %v", asked)
		}
	})
	ts.Setenv("JIRA", server.URL)
}
