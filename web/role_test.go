package web

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// The roles to start from are taken as they are, and come back as they were.
func TestReadyRoles(t *testing.T) {
	h := newHouse(t)
	callJSON[api.Network](h, "root", "PUT", "/v1/networks/tier-0-workstations", api.Network{Name: "tier-0-workstations", Ranges: []string{"10.20.0.0/24"}}, 200)
	files, err := filepath.Glob("../docs/roles/*.json")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	files = append([]string{"../docs/roles/tier-1.json"}, files...) // another one excludes it
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r api.Role
		if err := api.Unmarshal(b, &r); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if resp := h.do(httpCall{method: "GET", path: "/v1/roles/" + r.Name, token: h.token("root")}); resp.StatusCode == 200 {
			continue
		}
		set := callJSON[api.Role](h, "root", "PUT", "/v1/roles/"+r.Name, r, 200)
		set.Version = 0
		got, _ := json.Marshal(set)
		want, _ := json.Marshal(r)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
		}
	}
}
