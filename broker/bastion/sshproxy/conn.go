package sshproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/bastion"
)

var errLoginTime = errors.New("nobody was proven in time")

// A conn is what each SSH connection of ours runs over: the TCP connection of a
// user, the one to a target, and the channel of a hop in which a user's second
// connection is nested.
//
// It closes itself when the login takes too long, tells everybody who works for
// it when the peer is gone, and counts. Deadlines set from outside are ignored:
// gliderlabs/ssh clears them at each read and write, and the ones that matter
// are kept here.
type conn struct {
	net.Conn
	source netip.Addr // the peer's address; of the outer connection when nested

	ctx    context.Context // ends when the connection does
	cancel context.CancelCauseFunc
	timer  *time.Timer // closes the connection; see limit

	head    []byte // read ahead by peekVersion
	quick   func() // asks the kernel to acknowledge at once; nil: not TCP
	reads   int    // only of the one reader
	in, out atomic.Int64

	closing sync.Once
	onClose func() // called once
}

// quickReads is for how many reads acknowledgements are sent at once. OpenSSH
// handshakes with Nagle's algorithm on, so that each delayed acknowledgement of
// ours would cost it 40 ms.
const quickReads = 200

// newConn wraps c. The connection ends with ctx, and unless unlimited is called
// in time, after limit.
func newConn(ctx context.Context, c net.Conn, limit time.Duration) *conn {
	w := &conn{Conn: c, source: address(c.RemoteAddr()), quick: quickAck(c)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(limit, func() { w.shut(errLoginTime) })
	return w
}

func address(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// limit says how long the connection may go on from now; after that it is
// closed.
func (c *conn) limit(d time.Duration) { c.timer.Reset(d) }

// unlimited takes the limit away.
func (c *conn) unlimited() { c.timer.Stop() }

// shut closes the connection for a cause. It is safe to call more than once;
// the first cause counts.
func (c *conn) shut(cause error) error {
	err := net.ErrClosed
	c.closing.Do(func() {
		c.cancel(cause)
		c.timer.Stop()
		err = c.Conn.Close()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return err
}

// Close closes the connection.
func (c *conn) Close() error { return c.shut(bastion.ErrGone) }

// Read reads what peekVersion left, then from the connection. An error means
// that the peer is gone.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	if c.reads < quickReads && c.quick != nil {
		c.reads++
		c.quick()
	}
	if err != nil {
		c.cancel(fmt.Errorf("%w: %w", bastion.ErrGone, err))
	}
	return n, err
}

// Write writes p to the connection.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	if err != nil {
		c.cancel(fmt.Errorf("%w: %w", bastion.ErrGone, err))
	}
	return n, err
}

// SetDeadline and its like do nothing; see conn.
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

const maxVersion = 255 // bytes of the version line; RFC 4253, section 4.2

// peekVersion reads the client's version line without taking it, waiting at
// most wait for it. It returns what there is: a client may wait for our line
// first, and then gets an answer that suits any client.
func (c *conn) peekVersion(wait time.Duration) string {
	c.Conn.SetReadDeadline(time.Now().Add(wait))
	defer c.Conn.SetReadDeadline(time.Time{})
	buf := make([]byte, 0, maxVersion)
	for len(buf) < maxVersion && !bytes.Contains(buf, []byte("\n")) {
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		c.in.Add(int64(n))
		if err != nil {
			break // a deadline, or an end that the next read finds again
		}
	}
	c.head = buf
	version, _, _ := bytes.Cut(buf, []byte("\n"))
	return string(bytes.TrimSuffix(version, []byte("\r")))
}

// A channelConn is a net.Conn over a channel, for an SSH connection nested in
// another. Its addresses are those of the outer connection.
type channelConn struct {
	ssh.Channel
	outer ssh.Conn
}

// Close does nothing: to close the channel means to write, for which a peer that
// does not read could wait for ever. Whoever nested the connection closes it
// within a time, see link.closeWithin.
func (c channelConn) Close() error { return nil }

func (c channelConn) LocalAddr() net.Addr              { return c.outer.LocalAddr() }
func (c channelConn) RemoteAddr() net.Addr             { return c.outer.RemoteAddr() }
func (c channelConn) SetDeadline(time.Time) error      { return nil }
func (c channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c channelConn) SetWriteDeadline(time.Time) error { return nil }
