package objects_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/objects"
)

// An archive is a store with storage classes, as far as a Bucket asks: there is
// none for tests that has them.
type archive struct {
	*httptest.Server
	mu       sync.Mutex
	class    map[string]string // of each object
	age      map[string]time.Duration
	content  string
	restored bool
	restores int
	copies   []string
}

func newArchive(t testing.TB) (*archive, *objects.Bucket) {
	t.Helper()
	a := &archive{content: "recording", class: map[string]string{}, age: map[string]time.Duration{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, []byte("secret"), 0o600))
	return a, newBucket(t, objects.BucketConfig{Endpoint: a.URL, Bucket: "bucket", Region: "us-east-1", AccessKeyID: "id", SecretFile: secret, Addressing: "path"})
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	class := a.class[name]
	deep := class == "GLACIER" || class == "DEEP_ARCHIVE"
	switch {
	case r.Method == http.MethodGet && name == "":
		fmt.Fprint(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
		for name, class := range a.class {
			fmt.Fprintf(w, `<Contents><Key>%s</Key><ETag>"e"</ETag><Size>%d</Size><StorageClass>%s</StorageClass><LastModified>%s</LastModified></Contents>`,
				name, len(a.content), class, time.Now().Add(-a.age[name]).UTC().Format(time.RFC3339))
		}
		fmt.Fprint(w, "</ListBucketResult>")
	case class == "":
		refuse(http.StatusNotFound, "NoSuchKey")
	case r.Method == http.MethodHead:
		w.Header().Set("Etag", `"e"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", fmt.Sprint(len(a.content)))
	case r.Method == http.MethodGet && deep && !a.restored:
		refuse(http.StatusForbidden, "InvalidObjectState")
	case r.Method == http.MethodGet:
		w.Header().Set("Etag", `"e"`)
		http.ServeContent(w, r, "", time.Now(), strings.NewReader(a.content))
	case r.Method == http.MethodPost && r.URL.Query().Has("restore"):
		if a.restores++; a.restores > 1 {
			refuse(http.StatusConflict, "RestoreAlreadyInProgress")
			return
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "bucket/"+name && r.Header.Get("X-Amz-Copy-Source-If-Match") == "e":
		if deep {
			refuse(http.StatusForbidden, "InvalidObjectState")
			return
		}
		a.class[name] = r.Header.Get("X-Amz-Storage-Class")
		a.copies = append(a.copies, name)
		fmt.Fprint(w, `<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>`)
	default:
		refuse(http.StatusBadRequest, "InvalidRequest")
	}
}

// An object of an archive is asked for, and says so until it is there.
func TestArchived(t *testing.T) {
	a, b := newArchive(t)
	a.class["SES-1"] = "DEEP_ARCHIVE"
	for range 2 {
		if _, err := b.Open(t.Context(), "SES-1"); !errors.Is(err, recorder.ErrArchived) {
			t.Fatalf("got %v", err)
		}
	}
	if a.restores != 2 {
		t.Errorf("asked for it %d times", a.restores)
	}
	a.mu.Lock()
	a.restored = true
	a.mu.Unlock()
	if got := get(t, b, "SES-1"); string(got) != a.content {
		t.Errorf("got %q", got)
	}
}

// Old objects get the colder class once, and no others.
func TestCool(t *testing.T) {
	a, b := newArchive(t)
	for name, old := range map[string]int{"old": 100, "young": 80, "cold": 100, "deep": 100} {
		a.class[name], a.age[name] = "STANDARD", time.Duration(old)*24*time.Hour
	}
	a.class["cold"], a.class["deep"] = "GLACIER_IR", "DEEP_ARCHIVE"
	for _, want := range []int{1, 0} {
		n, err := b.Cool(t.Context(), time.Now().Add(-90*24*time.Hour), "GLACIER_IR")
		if err != nil || n != want {
			t.Errorf("moved %d, %v, want %d", n, err, want)
		}
	}
	if got := strings.Join(a.copies, " "); got != "old" || a.class["old"] != "GLACIER_IR" || a.class["young"] != "STANDARD" || a.class["deep"] != "DEEP_ARCHIVE" {
		t.Errorf("copied %s: %v", got, a.class)
	}
}
