package sshproxy

import (
	"context"
	"errors"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// A deafConn never answers the opening of a channel.
type deafConn struct {
	gossh.Conn
	over chan struct{}
}

func (c deafConn) OpenChannel(string, []byte) (gossh.Channel, <-chan *gossh.Request, error) {
	<-c.over
	return nil, nil, errors.New("over")
}

// A target that never answers holds no session.
func TestOpenSessionGivesUp(t *testing.T) {
	c := deafConn{over: make(chan struct{})}
	defer close(c.over)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := openChannel(ctx, c, "session", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
