package keeper

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// Transit says where a key of HashiCorp Vault's or OpenBao's transit engine is, which
// never leaves that server.
type Transit struct {
	URL       string // of the server, https; http on loopback only
	Mount     string // of the engine; default transit
	Key       string // its name
	TokenFile string // read at each use, as agents replace it
	Namespace string // "" : none
	TLS       *tls.Config
}

const (
	transitWithin = 15 * time.Second
	maxTransit    = 256 << 10 // bytes of an answer
)

var transitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}){0,3}$`)

type transitKeeper struct {
	c      Transit
	client *http.Client
}

// NewTransit returns a keeper that has the server wrap and unwrap. It is safe for
// concurrent use, and follows no redirect.
func NewTransit(c Transit) (vault.Keeper, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("transit: the address of the server is an https:// URL")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("transit: without TLS only a server on this machine is asked")
	}
	if c.Mount == "" {
		c.Mount = "transit"
	}
	if !transitName.MatchString(c.Mount) || !transitName.MatchString(c.Key) || strings.Contains(c.Key, "/") {
		return nil, errors.New("transit: name the key, and the engine's mount")
	}
	if c.TokenFile == "" {
		return nil, errors.New("transit: a file with the token is needed")
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	return transitKeeper{c, &http.Client{
		Timeout:       transitWithin,
		Transport:     &http.Transport{TLSClientConfig: c.TLS, ForceAttemptHTTP2: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (k transitKeeper) Wrap(ctx context.Context, s vault.Secret) ([]byte, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	err := k.ask(ctx, "encrypt", map[string]string{"plaintext": base64.StdEncoding.EncodeToString(s.Expose())}, &out)
	if err != nil {
		return nil, err
	}
	if out.Ciphertext == "" || len(out.Ciphertext) > maxWrapped {
		return nil, errors.New("transit: the server gave no ciphertext")
	}
	return append(header(kindTransit), out.Ciphertext...), nil
}

func (k transitKeeper) Unwrap(ctx context.Context, wrapped []byte) (vault.Secret, error) {
	text, err := checkHeader(wrapped, kindTransit)
	if err != nil {
		return vault.Secret{}, err
	}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	if err := k.ask(ctx, "decrypt", map[string]string{"ciphertext": string(text)}, &out); err != nil {
		return vault.Secret{}, err
	}
	defer clear(out.Plaintext)
	return vault.NewSecret(out.Plaintext), nil
}

// ask sends what stands in the transit engine's API: POST /v1/MOUNT/VERB/KEY.
func (k transitKeeper) ask(ctx context.Context, verb string, in map[string]string, out any) error {
	token, err := readToken(k.c.TokenFile)
	if err != nil {
		return fmt.Errorf("transit: read the token: %w", err)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.c.URL+"/v1/"+k.c.Mount+"/"+verb+"/"+k.c.Key, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	if k.c.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", k.c.Namespace)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("transit: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxTransit))
	if err != nil {
		return fmt.Errorf("transit: %w", err)
	}
	defer clear(answer)
	switch {
	case resp.StatusCode == http.StatusBadRequest && verb == "decrypt":
		return fmt.Errorf("transit: the server cannot decrypt it: %w", vault.ErrWrongKey)
	case resp.StatusCode == http.StatusForbidden:
		return errors.New("transit: the token may not use this key")
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("transit: the server answers %d", resp.StatusCode) // what it says may quote what it was sent
	}
	if json.Unmarshal(answer, &struct {
		Data any `json:"data"`
	}{out}) != nil {
		return errors.New("transit: the server's answer is not what its API says")
	}
	return nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 8<<10))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", errors.New("it is not one line of text")
	}
	return token, nil
}
