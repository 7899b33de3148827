package sshca

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// The format of OpenSSH's key revocation lists, as PROTOCOL.krl of OpenSSH
// describes it.
const (
	krlMagic        = "SSHKRL\n\x00"
	krlFormat       = 1
	krlCertificates = 1    // section: certificates of one authority
	krlSerialList   = 0x20 // in that section: serials
	krlKeyIDs       = 0x23 // in that section: key ids
)

// MaxRevoked is how many serials and how many key ids a list may have for one
// authority. At eight bytes a serial that is 8 MiB, half of what OpenSSH reads.
const MaxRevoked = 1 << 20

// A Revocation says which certificates of an authority count no more.
type Revocation struct {
	Authority ssh.PublicKey
	Serials   []uint64 // none is zero
	KeyIDs    []string // as in Certificate.KeyID
}

// A KRL is a key revocation list for sshd's RevokedKeys. One without revocations
// is valid and revokes nothing: a target must have it from the start, because
// sshd lets nobody in while the file that RevokedKeys names is missing.
type KRL struct {
	Number    uint64    // grows with each list; sshd only shows it
	Generated time.Time // cut to seconds
	Comment   string
	Revoked   []Revocation
}

// Marshal encodes the list. The same revocations in any order give the same
// bytes. The list is not signed: OpenSSH does not look for signatures any more,
// so it must come over a way that is trusted.
func (k KRL) Marshal() ([]byte, error) {
	if k.Generated.Unix() < 0 {
		return nil, errors.New("marshal KRL: generated before 1970")
	}
	b := []byte(krlMagic)
	b = binary.BigEndian.AppendUint32(b, krlFormat)
	b = binary.BigEndian.AppendUint64(b, k.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Generated.Unix()))
	b = binary.BigEndian.AppendUint64(b, 0) // flags
	b = appendString(b, "")                 // reserved
	b = appendString(b, k.Comment)
	for _, r := range k.Revoked {
		section, err := r.marshal()
		if err != nil {
			return nil, fmt.Errorf("marshal KRL: %w", err)
		}
		b = append(b, krlCertificates)
		b = appendString(b, section)
	}
	return b, nil
}

func (r Revocation) marshal() ([]byte, error) {
	if r.Authority == nil {
		return nil, errors.New("no authority")
	}
	if len(r.Serials) > MaxRevoked || len(r.KeyIDs) > MaxRevoked {
		return nil, fmt.Errorf("%d serials and %d key ids, at most %d of each", len(r.Serials), len(r.KeyIDs), MaxRevoked)
	}
	b := appendString(nil, r.Authority.Marshal())
	b = appendString(b, "") // reserved
	if serials := sorted(r.Serials); len(serials) > 0 {
		if serials[0] == 0 {
			return nil, errors.New("serial 0 cannot be revoked")
		}
		list := make([]byte, 0, 8*len(serials))
		for _, n := range serials {
			list = binary.BigEndian.AppendUint64(list, n)
		}
		b = append(b, krlSerialList)
		b = appendString(b, list)
	}
	if ids := sorted(r.KeyIDs); len(ids) > 0 {
		var list []byte
		for _, id := range ids {
			if err := checkKeyID(id); err != nil {
				return nil, err
			}
			list = appendString(list, id)
		}
		b = append(b, krlKeyIDs)
		b = appendString(b, list)
	}
	return b, nil
}

func sorted[T uint64 | string](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// appendString appends s with its length; RFC 4251, section 5.
func appendString[S []byte | string](b []byte, s S) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
