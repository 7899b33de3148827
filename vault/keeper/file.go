package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/drawbolt/drawbolt/vault"
)

type fileKeeper struct{ key vault.Secret }

// File reads a key file as [CreateFile] writes it: one line, the base64 of 32
// bytes. It refuses a symbolic link, anything but a regular file, another
// owner than the user this process runs as, and any permission for group or
// others. The file is read once; the keeper is safe for concurrent use.
func File(path string) (vault.Keeper, error) {
	key, err := readKey(path)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	return fileKeeper{key}, nil
}

func readKey(path string) (vault.Secret, error) {
	// O_NONBLOCK: a FIFO in the file's place must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return vault.Secret{}, errors.New("it is a symbolic link")
	}
	if err != nil {
		return vault.Secret{}, err
	}
	defer f.Close()
	// Ask the open file, not the name, so that it cannot be exchanged between.
	info, err := f.Stat()
	if err != nil {
		return vault.Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return vault.Secret{}, errors.New("it is not a regular file")
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return vault.Secret{}, fmt.Errorf("its mode is %#o; nobody but the owner may have access: chmod 600", perm)
	}
	if err := checkOwner(info, os.Geteuid()); err != nil {
		return vault.Secret{}, err
	}
	const line = 44 // base64 of 32 bytes
	text, err := io.ReadAll(io.LimitReader(f, line+2))
	if err != nil {
		return vault.Secret{}, err
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	// The line may come from a shell or an editor; its content is never
	// quoted in an error.
	key := make([]byte, keySize+3)
	n, err := base64.StdEncoding.Strict().Decode(key, text[:min(len(text), line)])
	if err != nil || n != keySize || len(text) != line {
		return vault.Secret{}, fmt.Errorf("want one line, the base64 of %d bytes", keySize)
	}
	return vault.NewSecret(key[:n]), nil
}

func checkOwner(info os.FileInfo, uid int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("its owner cannot be determined")
	}
	if int(st.Uid) != uid {
		return fmt.Errorf("it belongs to user %d, want %d", st.Uid, uid)
	}
	return nil
}

// CreateFile writes a new random key to path with mode 0600. It never
// overwrites: losing a root key loses every secret under it. The file is
// durable when CreateFile returns.
func CreateFile(path string) (err error) {
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(path)
			err = fmt.Errorf("write key file %s: %w", path, err)
		}
	}()
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (k fileKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	return seal(k.key.Expose(), header(kindFile), s)
}

func (k fileKeeper) Unwrap(_ context.Context, wrapped []byte) (vault.Secret, error) {
	sealed, err := checkHeader(wrapped, kindFile)
	if err != nil {
		return vault.Secret{}, err
	}
	return open(k.key.Expose(), wrapped[:headerSize], sealed)
}
