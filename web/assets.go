package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/ui"
)

// assets are the static files, compressed once. Their address has a hash of all
// of them in it, so they may be kept for good.
type assets struct {
	version string
	files   map[string]asset
}

type asset struct {
	media  string
	plain  []byte
	packed func() []byte // with gzip, when somebody first takes it so
}

var mediaTypes = map[string]string{
	"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml", "txt": "text/plain; charset=utf-8",
}

func loadAssets() (assets, error) {
	a := assets{files: map[string]asset{}}
	sum := sha256.New()
	list, err := fs.ReadDir(ui.Static, "static")
	if err != nil {
		return a, fmt.Errorf("read the static files: %w", err)
	}
	for _, e := range list {
		plain, err := fs.ReadFile(ui.Static, "static/"+e.Name())
		if err != nil {
			return a, fmt.Errorf("read the static files: %w", err)
		}
		media, ok := mediaTypes[e.Name()[strings.LastIndexByte(e.Name(), '.')+1:]]
		if !ok {
			return a, fmt.Errorf("the static file %s is of no known type", e.Name())
		}
		a.files[e.Name()] = asset{media, plain, sync.OnceValue(func() []byte { return pack(plain, gzip.BestCompression) })}
		fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(plain), plain)
	}
	a.version = hex.EncodeToString(sum.Sum(nil)[:8])
	return a, nil
}

func pack(plain []byte, level int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, level) // the level is a valid one
	z.Write(plain)                         // a bytes.Buffer takes all
	z.Close()
	return b.Bytes()
}

func takesGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.TrimSpace(quality) != "q=0" {
			return true
		}
	}
	return false
}

// path is where pages find the files.
func (a assets) path() string { return "/static/" + a.version + "/" }

func (s *Server) staticFile(w http.ResponseWriter, r *http.Request, by access.Caller) {
	f, ok := s.assets.files[r.PathValue("file")]
	if !ok || r.PathValue("version") != s.assets.version {
		s.fail(w, r, by, &access.Error{Kind: access.ErrNotFound, Code: "DB-6001", Text: "there is no such file"})
		return
	}
	h, body := w.Header(), f.plain
	h.Set("Content-Type", f.media)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.packed()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}
