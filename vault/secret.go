package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

var errMarshal = errors.New("vault: a Secret cannot be marshaled")

// A Secret holds bytes that must not reach a log, an error or a wire. It
// cannot be printed, logged or marshaled; [Secret.Expose] is the only door, so
// every use can be found by name. The zero Secret is empty and safe.
//
// The bytes are held in a func because fmt cannot call methods on unexported
// fields: a plain slice inside another struct would be printed whole.
type Secret struct{ expose func() []byte }

// NewSecret returns a Secret that holds a copy of b.
func NewSecret(b []byte) Secret {
	b = bytes.Clone(b)
	return Secret{func() []byte { return b }}
}

// Expose returns the bytes, which must not be changed. Copy them into nothing
// that lives longer than the use.
func (s Secret) Expose() []byte {
	if s.expose == nil {
		return nil
	}
	return s.expose()
}

// Wipe overwrites the bytes, also for who holds a copy of s. Copies of the bytes
// that the runtime or a library has made are out of its reach.
func (s Secret) Wipe() { clear(s.Expose()) }

// Clone returns a copy, which is wiped by itself.
func (s Secret) Clone() Secret { return NewSecret(s.Expose()) }

// Format prints "[secret]" whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText refuses.
func (Secret) MarshalText() ([]byte, error) { return nil, errMarshal }

// MarshalJSON refuses.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// GobEncode refuses.
func (Secret) GobEncode() ([]byte, error) { return nil, errMarshal }
