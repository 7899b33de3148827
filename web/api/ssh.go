package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// UpgradeSSH is the protocol that a connection is upgraded to in order to carry
// SSH (RFC 9110, section 7.8).
const UpgradeSSH = "drawbolt-ssh"

// SSH opens a connection that carries SSH to a target, over the HTTPS port. The
// login takes the place of the jump host: the SSH on it is that of the target
// hop. It ends with Close, or with ctx.
func (c *Client) SSH(ctx context.Context, target string) (io.ReadWriteCloser, error) {
	server, err := CheckServer(c.Server)
	if err != nil {
		return nil, err
	}
	client, err := c.http1()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.timeout(), func() { cancel(context.DeadlineExceeded) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v1/ssh/"+url.PathEscape(target), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", UpgradeSSH)
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("User-Agent", c.Agent)
	resp, err := client.Do(req)
	if !late.Stop() && err == nil {
		resp.Body.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("reach %s: %w", c.Server, cause(err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		p := problem(resp) // closes the body
		cancel(nil)
		return nil, p
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.Header.Get("Upgrade") != UpgradeSSH {
		resp.Body.Close()
		cancel(nil)
		return nil, errors.New("something between here and the server does not let an HTTP upgrade through")
	}
	// The transport has let go of the connection, and with it of ctx.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return upgraded{conn, func() { stop(); cancel(nil) }}, nil
}

// http1 is the client without HTTP/2, which has no upgrades.
func (c *Client) http1() (*http.Client, error) {
	if c.HTTP == nil {
		return nil, errors.New("api.Client has no HTTP")
	}
	t, ok := c.HTTP.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("api.Client has no HTTP transport that can be upgraded")
	}
	t = t.Clone()
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = []string{"http/1.1"} // the clone offers what the original does
	}
	client := *c.HTTP
	client.Transport = t
	return &client, nil
}

type upgraded struct {
	io.ReadWriteCloser
	release func()
}

func (u upgraded) Close() error {
	u.release()
	return u.ReadWriteCloser.Close()
}
