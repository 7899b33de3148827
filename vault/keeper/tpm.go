package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/drawbolt/drawbolt/vault"
)

// TPM says where a TPM 2.0 is, and on what it opens what it wrapped.
type TPM struct {
	Path string // of the device, or of a socket; default /dev/tpmrm0
	PCRs []uint // registers of the SHA-256 bank that must be as they were at wrapping; none: any boot of this machine opens it
}

const (
	standardTPM = "/dev/tpmrm0"
	maxPCR      = 23
	tpmWithin   = 30 * time.Second
	maxTPMPart  = 1 << 10 // bytes of a public or private area
)

// A wrapped blob has behind its header
//
//	registers (4, a bit each) | length (2) public area | length (2) private area
//
// of a sealed object of the TPM under its storage root key (ECC P-256, the TCG's
// reference template), which has the key of what follows. Only this TPM loads it.
type tpmKeeper struct {
	c  TPM
	mu *sync.Mutex // a TPM without a resource manager takes one caller
}

// NewTPM returns a keeper whose key only this machine's TPM gives out. Neither it nor
// the TPM's owner password protects from root on this machine; it protects copies of
// the disk. It is safe for concurrent use.
func NewTPM(c TPM) (vault.Keeper, error) {
	if c.Path == "" {
		c.Path = standardTPM
	}
	for _, n := range c.PCRs {
		if n > maxPCR {
			return nil, fmt.Errorf("a TPM has the registers 0 to %d, not %d", maxPCR, n)
		}
	}
	return tpmKeeper{c, new(sync.Mutex)}, nil
}

// open connects with the TPM; the socket is a software TPM's.
func (k tpmKeeper) open() (io.ReadWriteCloser, error) {
	info, err := os.Stat(k.c.Path)
	if err != nil {
		return nil, fmt.Errorf("open the TPM: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return os.OpenFile(k.c.Path, os.O_RDWR, 0)
	}
	conn, err := net.DialTimeout("unix", k.c.Path, tpmWithin)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(tpmWithin))
	}
	return conn, err
}

// tpmSessions make a session for one command, with what is sealed or unsealed encrypted
// on the bus: in is for a command, out for its answer, policy for an answer that takes
// registers.
type tpmSessions struct {
	in, out tpm2.Session
	policy  func(tpm2.PolicyCallback) tpm2.Session
}

// with calls do with the TPM and its storage root key.
func (k tpmKeeper) with(do func(transport.TPM, tpm2.NamedHandle, tpmSessions) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	rwc, err := k.open()
	if err != nil {
		return err
	}
	defer rwc.Close()
	t := transport.FromReadWriter(rwc)
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return fmt.Errorf("make the TPM's storage root key: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: srk.ObjectHandle}.Execute(t)
	public, err := srk.OutPublic.Contents()
	if err != nil {
		return err
	}
	salted := tpm2.Salted(srk.ObjectHandle, *public)
	in, out := tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.AESEncryption(128, tpm2.EncryptOut)
	return do(t, tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name}, tpmSessions{
		tpm2.HMAC(tpm2.TPMAlgSHA256, 16, salted, in), tpm2.HMAC(tpm2.TPMAlgSHA256, 16, salted, out),
		func(callback tpm2.PolicyCallback) tpm2.Session {
			return tpm2.Policy(tpm2.TPMAlgSHA256, 16, callback, salted, out)
		},
	})
}

func pcrSelection(mask uint32) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{byte(mask), byte(mask >> 8), byte(mask >> 16)},
	}}}
}

// policyOf is what the registers must be for the object to be unsealed: as they are.
func policyOf(t transport.TPM, mask uint32) ([]byte, error) {
	session, end, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: pcrSelection(mask)}).Execute(t); err != nil {
		return nil, err
	}
	digest, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(t)
	if err != nil {
		return nil, err
	}
	return digest.PolicyDigest.Buffer, nil
}

func (k tpmKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	var mask uint32
	for _, n := range k.c.PCRs {
		mask |= 1 << n
	}
	prefix := binary.BigEndian.AppendUint32(header(kindTPM), mask)
	err := k.with(func(t transport.TPM, srk tpm2.NamedHandle, sessions tpmSessions) error {
		public := tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: mask == 0, NoDA: true},
		}
		if mask != 0 {
			policy, err := policyOf(t, mask)
			if err != nil {
				return fmt.Errorf("read the TPM's registers: %w", err)
			}
			public.AuthPolicy = tpm2.TPM2BDigest{Buffer: policy}
		}
		made, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: sessions.in},
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key})}},
			InPublic:     tpm2.New2B(public),
		}.Execute(t)
		if err != nil {
			return fmt.Errorf("seal in the TPM: %w", err)
		}
		for _, part := range [][]byte{made.OutPublic.Bytes(), made.OutPrivate.Buffer} {
			prefix = append(binary.BigEndian.AppendUint16(prefix, uint16(len(part))), part...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return seal(key, prefix, s)
}

func (k tpmKeeper) Unwrap(_ context.Context, wrapped []byte) (vault.Secret, error) {
	body, err := checkHeader(wrapped, kindTPM)
	if err != nil {
		return vault.Secret{}, err
	}
	short := errors.New("wrapped key is cut short")
	if len(body) < 4 {
		return vault.Secret{}, short
	}
	mask := binary.BigEndian.Uint32(body)
	body = body[4:]
	var parts [2][]byte
	for i := range parts {
		if len(body) < 2 {
			return vault.Secret{}, short
		}
		n := int(binary.BigEndian.Uint16(body))
		if body = body[2:]; n > maxTPMPart || n > len(body) {
			return vault.Secret{}, short
		}
		parts[i], body = body[:n], body[n:]
	}
	var key []byte
	err = k.with(func(t transport.TPM, srk tpm2.NamedHandle, sessions tpmSessions) (err error) {
		key, err = unsealKey(t, srk, sessions, mask, parts[0], parts[1])
		return err
	})
	if err != nil {
		return vault.Secret{}, err
	}
	defer clear(key)
	if len(key) != keySize {
		return vault.Secret{}, vault.ErrWrongKey
	}
	return open(key, wrapped[:len(wrapped)-len(body)], body)
}

func unsealKey(t transport.TPM, srk tpm2.NamedHandle, sessions tpmSessions, mask uint32, public, private []byte) ([]byte, error) {
	object, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: bytes.Clone(private)},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](bytes.Clone(public)),
	}.Execute(t)
	if err != nil {
		return nil, tpmRefusal("load what another TPM sealed, or what was changed", err)
	}
	defer tpm2.FlushContext{FlushHandle: object.ObjectHandle}.Execute(t)
	session := sessions.out
	if mask != 0 {
		session = sessions.policy(func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicyPCR{PolicySession: handle, Pcrs: pcrSelection(mask)}.Execute(t)
			return err
		})
	}
	got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: session}}.Execute(t)
	if err != nil {
		return nil, tpmRefusal("give out the key: its registers are not as they were", err)
	}
	return got.OutData.Buffer, nil
}

// tpmRefusal tells a TPM that answers no from one that does not answer.
func tpmRefusal(what string, err error) error {
	if _, answered := errors.AsType[tpm2.TPMRC](err); answered {
		return fmt.Errorf("the TPM does not %s (%w): %w", what, err, vault.ErrWrongKey)
	}
	return fmt.Errorf("ask the TPM: %w", err)
}
