package recorder

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"
)

// ViewSuffix ends the names of what is derived from recordings: the session's id
// stands before it.
const ViewSuffix = ".view.zst.age"

// NewSealedWriter returns a writer of what OpenSealed opens: compressed as seekable
// zstd, and encrypted to the recipients. Its Close makes it whole and leaves w open.
// It is not safe for concurrent use.
func NewSealedWriter(w io.Writer, recipients ...age.Recipient) (io.WriteCloser, error) {
	encrypted, err := age.Encrypt(w, recipients...)
	if err != nil {
		return nil, fmt.Errorf("write sealed: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(frameSize), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("write sealed: %w", err)
	}
	compressed, err := seekable.NewWriter(encrypted, &frameEncoder{enc: enc})
	if err != nil {
		return nil, fmt.Errorf("write sealed: %w", err)
	}
	return &sealedWriter{bufio.NewWriterSize(compressed, frameSize), compressed, encrypted}, nil
}

type sealedWriter struct {
	*bufio.Writer
	compressed, encrypted io.Closer
}

func (w *sealedWriter) Close() error {
	if err := errors.Join(w.Flush(), w.compressed.Close(), w.encrypted.Close()); err != nil {
		return fmt.Errorf("write sealed: %w", err)
	}
	return nil
}
