package slacktest

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// A socket is one connection of Socket Mode: WebSocket (RFC 6455) with a JSON
// object in each text frame. Its peer is a client that sends no fragments.
type socket struct {
	nc net.Conn

	mu      sync.Mutex // guards the writing, and acks
	number  int
	acks    map[string]chan json.RawMessage
	stopped chan struct{}
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		http.Error(w, "no WebSocket", http.StatusBadRequest)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	c := &socket{nc: nc, acks: map[string]chan json.RawMessage{}, stopped: make(chan struct{})}
	if c.write(1, []byte(`{"type":"hello","num_connections":1}`)) != nil {
		nc.Close()
		return
	}
	s.change(func() { s.sockets = append(s.sockets, c) })
	c.read(rw.Reader)
	close(c.stopped)
	nc.Close()
	s.change(func() { s.sockets = slices.DeleteFunc(s.sockets, func(o *socket) bool { return o == c }) })
}

// Sockets is how many are open.
func (s *Server) Sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

// DropSockets breaks every connection off.
func (s *Server) DropSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sockets {
		c.nc.Close()
	}
	s.sockets = nil
}

// write sends one frame that is not masked (RFC 6455, section 5.1).
func (c *socket) write(kind byte, payload []byte) error {
	head := []byte{0x80 | kind}
	switch n := len(payload); {
	case n < 126:
		head = append(head, byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.nc.Write(append(head, payload...))
	return err
}

func (c *socket) read(r *bufio.Reader) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		n := int(head[1] & 0x7f)
		var long [8]byte
		switch n {
		case 126:
			if _, err := io.ReadFull(r, long[:2]); err != nil {
				return
			}
			n = int(binary.BigEndian.Uint16(long[:2]))
		case 127:
			return // Slack takes no answer as long as that
		}
		var mask [4]byte
		payload := make([]byte, n)
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return
		}
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		switch head[0] & 0x0f {
		case 1:
			c.acked(payload)
		case 8:
			return
		}
	}
}

func (c *socket) acked(payload []byte) {
	var ack struct {
		ID      string          `json:"envelope_id"`
		Payload json.RawMessage `json:"payload"`
	}
	if json.Unmarshal(payload, &ack) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if waits := c.acks[ack.ID]; waits != nil {
		waits <- ack.Payload
		delete(c.acks, ack.ID)
	}
}

// deliver sends an envelope and waits for its acknowledgement.
func (c *socket) deliver(ctx context.Context, d Deed) (json.RawMessage, error) {
	waits := make(chan json.RawMessage, 1)
	c.mu.Lock()
	c.number++
	id := strconv.Itoa(c.number)
	c.acks[id] = waits
	c.mu.Unlock()
	b, err := json.Marshal(map[string]any{"type": d.Kind, "envelope_id": id, "payload": d.Payload, "accepts_response_payload": true})
	if err != nil {
		return nil, err
	}
	if err := c.write(1, b); err != nil {
		return nil, err
	}
	select {
	case answer := <-waits:
		return answer, nil
	case <-c.stopped:
		return nil, errors.New("the socket was closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
