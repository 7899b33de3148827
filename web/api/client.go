package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxResponse is the longest JSON answer that is read, in bytes. Streams have no
// limit; who reads them sets one.
const MaxResponse = 64 << 20

// DefaultTimeout is how long one request may take when Client.Timeout is zero.
const DefaultTimeout = 30 * time.Second

// A Client calls one server. Its fields are not changed while it is in use; it
// is then safe for concurrent use.
type Client struct {
	Server  string        // https://host:port, without a path
	Token   string        // of a login; "" for the routes that need none
	HTTP    *http.Client  // from NewHTTP
	Timeout time.Duration // of one request, from dialling to the last byte; streams: to the first
	Agent   string        // User-Agent
}

// CheckServer returns the server's address without a trailing slash, or says
// what is wrong with it: https only, except on the loopback of this machine, and
// neither user, path, query nor fragment.
func CheckServer(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return "", fmt.Errorf("the server %q is not an address like https://gw.example.com", server)
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fmt.Errorf("the server %q must be scheme, host and port only", server)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", fmt.Errorf("the server %q must be https: a token is sent to it", server)
	}
	return u.Scheme + "://" + u.Host, nil
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

// call sends in (nil: no body) and decodes the answer.
func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (T, error) {
	var out T
	err := c.do(ctx, method, path, query, in, &out)
	return out, err
}

// attempts is how often a GET is sent when the network or a proxy fails. Nothing
// else is sent twice: the client cannot know whether the first one worked.
const attempts = 3

func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	resp, err := c.send(ctx, method, path, query, in, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := read(resp.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.Server, err)
	}
	if out == nil {
		return nil
	}
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t != "application/json" {
		return fmt.Errorf("%s answered %q instead of JSON: is it a drawbolt server?", c.Server, t)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode the answer of %s to %s %s: %w", c.Server, method, path, err)
	}
	return nil
}

// stream opens an answer of any length.
func (c *Client) stream(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.timeout(), func() { cancel(context.DeadlineExceeded) })
	resp, err := c.send(ctx, http.MethodGet, path, query, nil, "*/*")
	if !late.Stop() && err == nil {
		resp.Body.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return streamBody{resp.Body, cancel, resp}, nil
}

type streamBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	resp   *http.Response
}

// DamageTrailer is the trailer of an answer that has all that can be read of
// something damaged.
const DamageTrailer = "Drawbolt-Damage"

// A Damaged ends a reader that has given all that can be read.
type Damaged struct{ Text string }

func (d *Damaged) Error() string { return d.Text }

func (s streamBody) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if text := s.resp.Trailer.Get(DamageTrailer); err == io.EOF && text != "" {
		err = &Damaged{text}
	}
	return n, err
}

func (s streamBody) Close() error {
	err := s.ReadCloser.Close()
	s.cancel(nil)
	return err
}

// send returns an answer of the 2xx kind, or a *Problem.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any, accept string) (*http.Response, error) {
	server, err := CheckServer(c.Server)
	if err != nil {
		return nil, err
	}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
	}
	target := server + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	for attempt := 1; ; attempt++ {
		resp, err := c.once(ctx, method, target, body, accept)
		if err == nil && resp.StatusCode >= 200 && resp.StatusCode < 300 {
			return resp, nil
		}
		again := method == http.MethodGet && attempt < attempts && ctx.Err() == nil
		if err != nil {
			if !again || !transient(err) {
				return nil, fmt.Errorf("reach %s: %w", c.Server, cause(err))
			}
		} else {
			p := problem(resp)
			if !again || !gateway(resp.StatusCode) {
				return nil, p
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach %s: %w", c.Server, context.Cause(ctx))
		case <-time.After(time.Duration(attempt) * 250 * time.Millisecond):
		}
	}
}

func (c *Client) once(ctx context.Context, method, target string, body []byte, accept string) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	agent := c.Agent
	if agent == "" {
		agent = "drawbolt"
	}
	req.Header.Set("User-Agent", agent)
	if c.HTTP == nil {
		return nil, errors.New("api.Client has no HTTP")
	}
	return c.HTTP.Do(req)
}

// problem makes an error of an answer that is none of ours, too.
func problem(resp *http.Response) *Problem {
	defer resp.Body.Close()
	p := &Problem{}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && t == ProblemType {
		if json.Unmarshal(b, p) != nil {
			p = &Problem{}
		}
	}
	p.Status = resp.StatusCode // what was said on the wire counts
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	if p.Detail == "" && p.Code == "" {
		p.Detail = "the server answered " + resp.Status
	}
	return p
}

func read(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxResponse+1))
	if err == nil && len(b) > MaxResponse {
		err = fmt.Errorf("it is longer than %d MiB", MaxResponse>>20)
	}
	return b, err
}

func gateway(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// transient reports whether another try may help: anything but a refusal to
// trust the server.
func transient(err error) bool { return !Untrusted(err) }

// cause drops the method and the URL that net/http puts before the cause.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func path(noun, name, verb string) string {
	p := "/v1/" + noun + "/" + url.PathEscape(name)
	if verb != "" {
		p += "/" + verb
	}
	return p
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func setTrue(q url.Values, key string, value bool) {
	if value {
		q.Set(key, "true")
	}
}

func setInt(q url.Values, key string, value int64) {
	if value != 0 {
		q.Set(key, strconv.FormatInt(value, 10))
	}
}

func setTime(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, t.UTC().Format(time.RFC3339))
	}
}
