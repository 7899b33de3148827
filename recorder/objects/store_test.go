package objects_test

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/objects"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("OBJECTS_TEST_BRING"); dir != "" {
		bringUntilKilled(dir)
	}
	servers.Leaks(m)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFolder(t testing.TB) objects.Store {
	t.Helper()
	f, err := objects.Folder(t.TempDir())
	check(t, err)
	return f
}

// bucketConfig is of a fresh bucket.
func bucketConfig(t testing.TB) objects.BucketConfig {
	t.Helper()
	b := servers.ObjectStore(t)
	return objects.BucketConfig{Endpoint: b.Endpoint, Bucket: b.Name, Prefix: "gw1/", Region: "us-east-1", AccessKeyID: b.AccessKeyID, SecretFile: b.SecretFile}
}

func newBucket(t testing.TB, cfg objects.BucketConfig) *objects.Bucket {
	t.Helper()
	b, err := objects.NewBucket(cfg)
	check(t, err)
	t.Cleanup(b.Close)
	return b
}

func content(size int) []byte {
	b := make([]byte, size)
	_, _ = crand.Read(b)
	return b
}

func put(t testing.TB, s objects.Store, name string, b []byte) {
	t.Helper()
	check(t, s.Put(t.Context(), name, bytes.NewReader(b), int64(len(b))))
}

// An opener is a Store or a Queue.
type opener interface {
	Open(context.Context, string) (recorder.SinkReader, error)
}

func get(t testing.TB, s opener, name string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	check(t, err)
	defer r.Close()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	check(t, err)
	return b
}

// TestStores: what every Store promises.
func TestStores(t *testing.T) {
	for _, kind := range []struct {
		name string
		make func(testing.TB) objects.Store
	}{
		{"folder", newFolder},
		{"bucket", func(t testing.TB) objects.Store { return newBucket(t, bucketConfig(t)) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			s := kind.make(t)
			want := map[string][]byte{
				"SES-1.cast.zst.age": content(3000),
				"SES-2.cast.zst.age": content(1<<20 + 1),
				"SES-3.1.file.age":   content(1 << 20),
				"empty":              {},
				"large":              content(17<<20 + 5), // in parts
			}
			for name, b := range want {
				put(t, s, name, b)
			}
			for name, b := range want {
				if !bytes.Equal(get(t, s, name), b) {
					t.Errorf("%s: other bytes", name)
				}
				if err := s.Put(t.Context(), name, strings.NewReader("x"), 1); !errors.Is(err, fs.ErrExist) {
					t.Errorf("%s was put twice: %v", name, err)
				}
			}
			// In parts, too, nothing is replaced.
			other := content(17 << 20)
			if err := s.Put(t.Context(), "large", bytes.NewReader(other), int64(len(other))); !errors.Is(err, fs.ErrExist) {
				t.Errorf("the large one was put twice: %v", err)
			}
			names, err := s.List(t.Context())
			check(t, err)
			slices.Sort(names)
			if got, want := strings.Join(names, " "), "SES-1.cast.zst.age SES-2.cast.zst.age SES-3.1.file.age empty large"; got != want {
				t.Errorf("listed %s, want %s", got, want)
			}

			// From anywhere, by several at a time.
			r, err := s.Open(t.Context(), "large")
			check(t, err)
			defer r.Close()
			var readers sync.WaitGroup
			for range 4 {
				readers.Go(func() {
					for range 30 {
						off := rand.Int64N(r.Size())
						p := make([]byte, 1+rand.IntN(200_000))
						n, err := r.ReadAt(p, off)
						if wantN := min(int64(len(p)), r.Size()-off); int64(n) != wantN || (err != nil) != (n < len(p)) {
							t.Errorf("read %d of %d at %d: %v", n, len(p), off, err)
						}
						if !bytes.Equal(p[:n], want["large"][off:off+int64(n)]) {
							t.Errorf("other bytes at %d", off)
						}
					}
				})
			}
			readers.Wait()
			if n, err := r.ReadAt(make([]byte, 1), r.Size()); n != 0 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}

			for range 2 { // once more is no error
				check(t, s.Remove(t.Context(), "SES-1.cast.zst.age"))
			}
			if _, err := s.Open(t.Context(), "SES-1.cast.zst.age"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("opened what was removed: %v", err)
			}
			for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\x00b", `a\b`} {
				_, err := s.Open(t.Context(), name)
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("opened %q: %v", name, err)
				}
				if s.Put(t.Context(), name, strings.NewReader("x"), 1) == nil || s.Remove(t.Context(), name) == nil {
					t.Errorf("%q was taken for a name", name)
				}
			}
		})
	}
}

// Another version in the object's place is not mixed with the one that was opened.
func TestSwappedWhileRead(t *testing.T) {
	b := newBucket(t, bucketConfig(t))
	put(t, b, "SES-1", content(3<<20))
	r, err := b.Open(t.Context(), "SES-1")
	check(t, err)
	defer r.Close()
	check(t, b.Remove(t.Context(), "SES-1"))
	put(t, b, "SES-1", content(3<<20))
	if _, err := r.ReadAt(make([]byte, 10), 2<<20); err == nil {
		t.Error("read of two versions")
	}
}

// The secret is replaced while the server runs.
func TestSecretReplaced(t *testing.T) {
	cfg := bucketConfig(t)
	right, err := os.ReadFile(cfg.SecretFile)
	check(t, err)
	cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
	b := newBucket(t, cfg)
	if err := b.Check(t.Context()); err == nil {
		t.Error("let in without a secret")
	}
	check(t, os.WriteFile(cfg.SecretFile, []byte("wrong"), 0o600))
	err = b.Put(t.Context(), "x", strings.NewReader("x"), 1)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("put with a wrong secret: %v", err)
	}
	if strings.Contains(err.Error(), strings.TrimSpace(string(right))) {
		t.Error("the secret is in the error")
	}
	check(t, os.WriteFile(cfg.SecretFile, right, 0o600))
	check(t, b.Check(t.Context()))
	put(t, b, "x", []byte("x"))
	cfg.Bucket = "no-such-bucket"
	if err := newBucket(t, cfg).Check(t.Context()); err == nil {
		t.Error("a bucket that does not exist is sound")
	}
}

// A locked object is not removed before its time.
func TestLock(t *testing.T) {
	cfg := bucketConfig(t)
	secret, err := os.ReadFile(cfg.SecretFile)
	check(t, err)
	cfg.Bucket = "locked-" + strings.ToLower(crand.Text()[:12])
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	admin, err := minio.New(strings.TrimPrefix(cfg.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKeyID, strings.TrimSpace(string(secret)), ""), Region: cfg.Region, Transport: transport,
	})
	check(t, err)
	check(t, admin.MakeBucket(t.Context(), cfg.Bucket, minio.MakeBucketOptions{ObjectLocking: true}))
	cfg.Lock, cfg.LockFor = "compliance", 24*time.Hour
	b := newBucket(t, cfg)
	large := content(17 << 20)
	put(t, b, "small", []byte("x"))
	put(t, b, "large", large)
	for _, name := range []string{"small", "large"} {
		if err := b.Remove(t.Context(), name); err == nil {
			t.Errorf("%s was removed before its time", name)
		}
	}
	if !bytes.Equal(get(t, b, "large"), large) {
		t.Error("other bytes")
	}
}

// The store refuses what was damaged on the way to it.
func TestDamagedOnTheWay(t *testing.T) {
	cfg := bucketConfig(t)
	direct := newBucket(t, cfg)
	w := newWay(t, cfg.Endpoint, false)
	cfg.Endpoint = w.URL
	b := newBucket(t, cfg)
	w.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			body[len(body)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return false
	})
	for _, size := range []int{1000, 17 << 20} {
		if err := b.Put(t.Context(), "SES-1", bytes.NewReader(content(size)), int64(size)); err == nil {
			t.Errorf("%d damaged bytes were taken", size)
		}
	}
	if names, err := direct.List(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("stored %v, %v", names, err)
	}
}

// TestTLS: with a certificate of an authority that was named, and with no other.
func TestTLS(t *testing.T) {
	cfg := bucketConfig(t)
	w := newWay(t, cfg.Endpoint, true)
	cfg.Endpoint = w.URL
	t.Setenv("SSL_CERT_FILE", "")
	if err := newBucket(t, cfg).Check(t.Context()); err == nil {
		t.Error("a stranger's certificate was taken")
	}
	authority := filepath.Join(t.TempDir(), "authority.pem")
	check(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}), 0o600))
	t.Setenv("SSL_CERT_FILE", authority)
	b := newBucket(t, cfg)
	for name, size := range map[string]int{"small": 1000, "large": 17 << 20} {
		want := content(size)
		put(t, b, name, want)
		if !bytes.Equal(get(t, b, name), want) {
			t.Errorf("%s: other bytes", name)
		}
		if err := b.Put(t.Context(), name, bytes.NewReader(want), int64(size)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s was put twice: %v", name, err)
		}
	}
}

func TestBucketConfig(t *testing.T) {
	good := objects.BucketConfig{Endpoint: "https://s3.example.com:9000", Bucket: "b", AccessKeyID: "id", SecretFile: "/secret"}
	if _, err := objects.NewBucket(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*objects.BucketConfig){
		"no scheme":         func(c *objects.BucketConfig) { c.Endpoint = "s3.example.com" },
		"a path":            func(c *objects.BucketConfig) { c.Endpoint += "/bucket" },
		"a user":            func(c *objects.BucketConfig) { c.Endpoint = "https://id:secret@s3.example.com" },
		"ftp":               func(c *objects.BucketConfig) { c.Endpoint = "ftp://s3.example.com" },
		"no bucket":         func(c *objects.BucketConfig) { c.Bucket = "" },
		"no id":             func(c *objects.BucketConfig) { c.AccessKeyID = "" },
		"no secret":         func(c *objects.BucketConfig) { c.SecretFile = "" },
		"prefix":            func(c *objects.BucketConfig) { c.Prefix = "/a" },
		"prefix with space": func(c *objects.BucketConfig) { c.Prefix = "a b/" },
		"addressing":        func(c *objects.BucketConfig) { c.Addressing = "host" },
		"lock":              func(c *objects.BucketConfig) { c.Lock, c.LockFor = "forever", time.Hour },
		"lock without time": func(c *objects.BucketConfig) { c.Lock = "compliance" },
	} {
		c := good
		change(&c)
		if _, err := objects.NewBucket(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
