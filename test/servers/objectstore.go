package servers

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// One server for all tests of a process; its end is the process's.
var startObjectStore = sync.OnceValues(newObjectStore)

// A Bucket is a bucket of an S3-compatible object store.
type Bucket struct {
	Endpoint    string // URL
	Name        string
	AccessKeyID string
	SecretFile  string // holds the secret of the key, which may do everything
	Folder      string // where the store keeps the objects, as files
}

// ObjectStore returns a fresh and empty bucket of versitygw, which is removed at
// the end of the test. The first call starts the server of this test process;
// the first one ever compiles it, which takes minutes.
func ObjectStore(t testing.TB) Bucket {
	t.Helper()
	b, remove, err := NewBucket()
	check(t, err)
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// NewBucket is ObjectStore for who has no test at hand.
func NewBucket() (b Bucket, remove func() error, err error) {
	s, err := startObjectStore()
	if err != nil {
		return Bucket{}, nil, err
	}
	b = s.bucket
	b.Name = "test-" + strings.ToLower(rand.Text()[:12])
	b.Folder = filepath.Join(s.data, b.Name)
	return b, func() error { return os.RemoveAll(b.Folder) }, os.Mkdir(b.Folder, 0o700)
}

type objectStore struct {
	*server // kept for good: its pipe would be closed with it
	bucket  Bucket
	data    string
}

// versitygw is compiled from a module of its own, so that what it needs stays
// out of ours, and is kept by the go command.
func versitygw() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	c := exec.Command("go", "tool", "-n", "-modfile="+filepath.Join(root, ".ci", "objectstore.mod"), "versitygw")
	c.Dir = root
	c.Stderr = os.Stderr
	if out, err = c.Output(); err != nil {
		return "", fmt.Errorf("compile versitygw: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func newObjectStore() (*objectStore, error) {
	program, err := versitygw()
	if err != nil {
		return nil, err
	}
	dir, err := newDir("objects")
	if err != nil {
		return nil, err
	}
	s, err := runObjectStore(dir, program)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	return s, nil
}

func runObjectStore(dir, program string) (*objectStore, error) {
	secret := rand.Text()
	o := &objectStore{data: filepath.Join(dir, "data"), bucket: Bucket{AccessKeyID: "drawbolt", SecretFile: filepath.Join(dir, "secret")}}
	if err := os.WriteFile(o.bucket.SecretFile, []byte(secret+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.Mkdir(o.data, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	o.bucket.Endpoint = "http://" + address
	// The secret comes from the file: other users see the arguments of a process.
	const script = `ROOT_SECRET_KEY=$(cat "$1"); export ROOT_SECRET_KEY; shift; exec "$@"`
	if o.server, err = start(dir, "TERM", "", "/usr/bin/env", "ROOT_ACCESS_KEY="+o.bucket.AccessKeyID,
		"/bin/sh", "-c", script, "versitygw", o.bucket.SecretFile, program, "--port", address, "--quiet", "posix", o.data); err != nil {
		return nil, err
	}
	if err := o.until(func() error {
		answer, err := http.Get(o.bucket.Endpoint)
		if err == nil {
			answer.Body.Close()
			http.DefaultClient.CloseIdleConnections()
		}
		return err
	}); err != nil {
		o.stop()
		return nil, err
	}
	return o, nil
}
