package objects

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/drawbolt/drawbolt/recorder"
)

// A BucketConfig says where a bucket is and how to get in. Endpoint, Bucket,
// AccessKeyID and SecretFile are needed.
type BucketConfig struct {
	Endpoint    string // https://host:port, or http:// where the way is trusted
	Bucket      string
	Prefix      string // before each name, such as "drawbolt/"
	Region      string // default: asked of the store
	AccessKeyID string
	SecretFile  string // holds the secret access key; read for each request, so that it can be replaced
	// Addressing says where the bucket's name stands: "path", "dns", or "auto",
	// which is also the default: as the endpoint is known to want it.
	Addressing string
	// Class is the storage class of what is put. Default: the bucket's.
	Class string
	// Lock keeps each object from being removed or replaced for LockFor:
	// "governance" or "compliance". Default: as the bucket says.
	Lock    string
	LockFor time.Duration
	// Timeout bounds a request, without the time that its bytes take. Default: 1 min.
	Timeout time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// A Bucket is a Store in an S3-compatible object store. It is safe for
// concurrent use.
type Bucket struct {
	cfg       BucketConfig
	core      minio.Core
	transport *http.Transport
}

const (
	// partSize is from where on an object is put in parts, and their least size.
	partSize = 16 << 20
	// maxParts is a little less than a store takes.
	maxParts = 9000
	// blockSize is what is read of an object at once.
	blockSize = 1 << 20
	// slowest is how many bytes a second an upload must make.
	slowest = 64 << 10
	// restoreDays is how long an object stays that was brought back.
	restoreDays = 7
)

// NewBucket checks the BucketConfig. It asks nobody.
func NewBucket(cfg BucketConfig) (*Bucket, error) {
	u, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return nil, fmt.Errorf("configure bucket: the endpoint must be https://host or https://host:port, not %q", cfg.Endpoint)
	case cfg.Bucket == "":
		return nil, errors.New("configure bucket: its name is missing")
	case strings.HasPrefix(cfg.Prefix, "/") || strings.Contains(cfg.Prefix, "//") || strings.ContainsFunc(cfg.Prefix, unfitForPrefix):
		return nil, fmt.Errorf("configure bucket: the prefix %q may hold letters, digits and ._-/ only, and begins with none of these", cfg.Prefix)
	case cfg.AccessKeyID == "" || cfg.SecretFile == "":
		return nil, errors.New("configure bucket: an access key id and a file with its secret are needed")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	lookup, ok := map[string]minio.BucketLookupType{"": minio.BucketLookupAuto, "auto": minio.BucketLookupAuto, "path": minio.BucketLookupPath, "dns": minio.BucketLookupDNS}[cfg.Addressing]
	if !ok {
		return nil, fmt.Errorf("configure bucket: addressing is auto, path or dns, not %q", cfg.Addressing)
	}
	switch cfg.Lock {
	case "":
	case "governance", "compliance":
		if cfg.LockFor <= 0 {
			return nil, errors.New("configure bucket: a lock needs a time")
		}
	default:
		return nil, fmt.Errorf("configure bucket: a lock is governance or compliance, not %q", cfg.Lock)
	}
	transport, err := minio.DefaultTransport(u.Scheme == "https")
	if err != nil {
		return nil, fmt.Errorf("configure bucket: %w", err)
	}
	transport.ResponseHeaderTimeout = cfg.Timeout
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.New(secretFile{cfg.AccessKeyID, cfg.SecretFile}), Secure: u.Scheme == "https", Region: cfg.Region, BucketLookup: lookup,
		Transport:  transport,
		MaxRetries: 1, // the Queue has patience
	})
	if err != nil {
		return nil, fmt.Errorf("configure bucket: %w", err)
	}
	return &Bucket{cfg: cfg, core: *core, transport: transport}, nil
}

func unfitForPrefix(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r)
}

// A secretFile is where minio finds the credentials. It says that they are
// always old, so that the file is read again.
type secretFile struct{ id, path string }

// maxSecret bounds the file, in bytes.
const maxSecret = 4 << 10

func (s secretFile) Retrieve() (credentials.Value, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return credentials.Value{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret))
	secret := strings.TrimSpace(string(b))
	if err == nil && secret == "" {
		err = fmt.Errorf("%s is empty", s.path)
	}
	return credentials.Value{AccessKeyID: s.id, SecretAccessKey: secret, SignerType: credentials.SignatureV4}, err
}

func (s secretFile) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return s.Retrieve()
}

func (secretFile) IsExpired() bool { return true }

// Close lets go of the connections that nobody uses.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }

// String names the place.
func (b *Bucket) String() string { return b.cfg.Endpoint + "/" + b.cfg.Bucket + "/" + b.cfg.Prefix }

// Check asks whether the bucket is there and lets us in.
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	there, err := b.core.BucketExists(ctx, b.cfg.Bucket)
	if err == nil && !there {
		err = errors.New("there is no such bucket")
	}
	if err != nil {
		return fmt.Errorf("ask for %s: %w", b, err)
	}
	return nil
}

// key is the object's name in the bucket.
func (b *Bucket) key(name string) (string, error) {
	if name == "" || name[0] == '.' || len(name) > 255 || strings.ContainsAny(name, "/\\\x00") || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not a name of an object", name)
	}
	return b.cfg.Prefix + name, nil
}

// Put implements Store. The store compares what it gets with its SHA-256, which is
// signed, and of an object in one piece keeps it.
func (b *Bucket) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout+time.Duration(size/slowest)*time.Second)
	defer cancel()
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", StorageClass: b.cfg.Class, DisableContentSha256: true}
	if b.cfg.Lock != "" {
		o.Mode, o.RetainUntilDate = minio.RetentionMode(strings.ToUpper(b.cfg.Lock)), b.cfg.Now().Add(b.cfg.LockFor)
	}
	if size <= partSize {
		err = b.putWhole(ctx, key, io.NewSectionReader(content, 0, size), o)
	} else {
		err = b.putParts(ctx, key, content, size, o)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, told(err))
	}
	return nil
}

const checksumHeader = "X-Amz-Checksum-Sha256"

func (b *Bucket) putWhole(ctx context.Context, key string, r *io.SectionReader, o minio.PutObjectOptions) error {
	sum, err := rewound(r)
	if err != nil {
		return err
	}
	o.UserMetadata = map[string]string{checksumHeader: base64.StdEncoding.EncodeToString(sum)}
	o.SetMatchETagExcept("*") // only where there is none
	_, err = b.core.PutObject(ctx, b.cfg.Bucket, key, r, r.Size(), "", hex.EncodeToString(sum), o)
	return err
}

// putParts puts a large object. minio's own way of doing so forgets, at the end,
// that nothing is to be replaced.
func (b *Bucket) putParts(ctx context.Context, key string, content io.ReaderAt, size int64, o minio.PutObjectOptions) (err error) {
	o.UserMetadata = map[string]string{"X-Amz-Checksum-Algorithm": "SHA256"}
	upload, err := b.core.NewMultipartUpload(ctx, b.cfg.Bucket, key, o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.Timeout)
			defer cancel()
			// What stays after an error is removed by a rule of the bucket.
			_ = b.core.AbortMultipartUpload(ctx, b.cfg.Bucket, key, upload)
		}
	}()
	var parts []minio.CompletePart
	step := max(partSize, size/maxParts+1)
	for begin := int64(0); begin < size; begin += step {
		r := io.NewSectionReader(content, begin, min(step, size-begin))
		sum, err := rewound(r)
		if err != nil {
			return err
		}
		checksum := base64.StdEncoding.EncodeToString(sum)
		part, err := b.core.PutObjectPart(ctx, b.cfg.Bucket, key, upload, len(parts)+1, r, r.Size(), minio.PutObjectPartOptions{
			Sha256Hex: hex.EncodeToString(sum), DisableContentSha256: true, CustomHeader: http.Header{checksumHeader: {checksum}},
		})
		if err != nil {
			return err
		}
		parts = append(parts, minio.CompletePart{PartNumber: part.PartNumber, ETag: part.ETag, ChecksumSHA256: checksum})
	}
	var end minio.PutObjectOptions
	end.SetMatchETagExcept("*")
	_, err = b.core.CompleteMultipartUpload(ctx, b.cfg.Bucket, key, upload, parts, end)
	return err
}

// rewound hashes r and goes back to its beginning.
func rewound(r *io.SectionReader) ([]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	_, err := r.Seek(0, io.SeekStart)
	return h.Sum(nil), err
}

// told gives the store's answers the names that the house has for them.
func told(err error) error {
	switch answer := minio.ToErrorResponse(err); {
	case answer.Code == minio.PreconditionFailed || answer.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	case answer.Code == minio.NoSuchKey:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case answer.Code == minio.InvalidObjectState:
		return fmt.Errorf("%w: %w", recorder.ErrArchived, err)
	}
	return err
}

// Open implements Store. ctx is also for what is read later.
func (b *Bucket) Open(ctx context.Context, name string) (recorder.SinkReader, error) {
	key, err := b.key(name)
	if err != nil {
		return nil, err
	}
	asked, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	info, err := b.core.Client.StatObject(asked, b.cfg.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, told(err))
	}
	r := &bucketReader{ctx: ctx, b: b, key: key, etag: info.ETag, size: info.Size}
	if r.size > 0 {
		// Whoever opens an object reads its beginning. That it is in an archive
		// shows only then.
		if _, err = r.block(0); errors.Is(err, recorder.ErrArchived) {
			err = errors.Join(err, b.bringBack(asked, key))
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
	}
	return r, nil
}

// bringBack asks for an object of an archive, for some days, which takes hours.
func (b *Bucket) bringBack(ctx context.Context, key string) error {
	var request minio.RestoreRequest
	request.SetDays(restoreDays)
	request.SetGlacierJobParameters(minio.GlacierJobParameters{Tier: minio.TierStandard})
	err := b.core.Client.RestoreObject(ctx, b.cfg.Bucket, key, "", request)
	if minio.ToErrorResponse(err).Code == "RestoreAlreadyInProgress" {
		return nil
	}
	return err
}

// List implements Store.
func (b *Bucket) List(ctx context.Context) ([]string, error) {
	var names []string
	err := b.each(ctx, func(o minio.ObjectInfo) error {
		names = append(names, strings.TrimPrefix(o.Key, b.cfg.Prefix))
		return nil
	})
	return names, err
}

// each calls f for the objects of the bucket whose names are names of ours.
func (b *Bucket) each(ctx context.Context, f func(minio.ObjectInfo) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for o := range b.core.Client.ListObjects(ctx, b.cfg.Bucket, minio.ListObjectsOptions{Prefix: b.cfg.Prefix}) {
		if o.Err != nil {
			return fmt.Errorf("list %s: %w", b, o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.cfg.Prefix)
		if _, err := b.key(name); err != nil {
			continue
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

// Remove implements Store. Where the bucket keeps versions, an older one may
// stay; where it is locked, the object does, and the error says so.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	if err := told(b.core.Client.RemoveObject(ctx, b.cfg.Bucket, key, minio.RemoveObjectOptions{})); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// largestCopy is what a store copies at once.
const largestCopy = 5 << 30

// Cool puts the objects that were stored before that time into the storage
// class, by a copy inside the store, and returns how many. Who reads one meanwhile
// may have to open it again.
func (b *Bucket) Cool(ctx context.Context, before time.Time, class string) (int, error) {
	n := 0
	err := b.each(ctx, func(o minio.ObjectInfo) error {
		if !o.LastModified.Before(before) || o.StorageClass == class || o.Size > largestCopy {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 10*b.cfg.Timeout)
		defer cancel()
		_, err := b.core.CopyObject(ctx, b.cfg.Bucket, o.Key, b.cfg.Bucket, o.Key,
			map[string]string{"x-amz-storage-class": class, "x-amz-metadata-directive": "COPY", "x-amz-copy-source-if-match": o.ETag},
			minio.CopySrcOptions{}, minio.PutObjectOptions{})
		if answer := minio.ToErrorResponse(err); answer.Code == minio.InvalidObjectState {
			return nil // in another archive already
		}
		if err != nil {
			return fmt.Errorf("put %s into class %s: %w", o.Key, class, err)
		}
		n++
		return nil
	})
	return n, err
}

// blocksHeld is how many blocks a reader holds: a recording is read at its end,
// where the table of its frames is, and then on from somewhere.
const blocksHeld = 4

// A bucketReader reads an object by blocks. All of them are of the version that
// was there at the beginning.
type bucketReader struct {
	ctx  context.Context
	b    *Bucket
	key  string
	etag string
	size int64

	mu     sync.Mutex
	blocks []block // the one that was used last stands last
}

type block struct {
	number int64
	data   []byte
}

func (r *bucketReader) Size() int64  { return r.size }
func (r *bucketReader) Close() error { return nil }

func (r *bucketReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the beginning of an object")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= r.size {
			return n, io.EOF
		}
		data, err := r.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%blockSize:])
	}
	return n, nil
}

// block returns a block of the object; mu is held, or nobody else has r.
func (r *bucketReader) block(number int64) ([]byte, error) {
	for i, b := range r.blocks {
		if b.number == number {
			r.blocks = append(append(r.blocks[:i:i], r.blocks[i+1:]...), b)
			return b.data, nil
		}
	}
	begin := number * blockSize
	data := make([]byte, min(blockSize, r.size-begin))
	ctx, cancel := context.WithTimeout(r.ctx, r.b.cfg.Timeout)
	defer cancel()
	var o minio.GetObjectOptions
	if err := errors.Join(o.SetRange(begin, begin+int64(len(data))-1), o.SetMatchETag(r.etag)); err != nil {
		return nil, err
	}
	body, _, header, err := r.b.core.GetObject(ctx, r.b.cfg.Bucket, r.key, o)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.key, told(err))
	}
	defer body.Close()
	if got, want := header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", begin, begin+int64(len(data))-1, r.size); got != want {
		return nil, fmt.Errorf("read %s: the store answers %.64q where %q was asked for", r.key, got, want)
	}
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.key, err)
	}
	if len(r.blocks) == blocksHeld {
		r.blocks = append(r.blocks[:0:0], r.blocks[1:]...)
	}
	r.blocks = append(r.blocks, block{number, data})
	return data, nil
}
