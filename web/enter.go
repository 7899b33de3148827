package web

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// enter turns the connection into one of SSH, for the target in the path
// (RFC 9110, section 7.8). The login of the caller is the first hop; what a
// browser may send is refused, whatever it bears.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, by access.Caller) {
	if s.c.Enter == nil {
		s.fail(w, r, by, &access.Error{Kind: access.ErrNotFound, Code: "DB-6001", Text: "this server has no SSH over HTTPS"})
		return
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		s.fail(w, r, by, &access.Error{Kind: access.ErrDenied, Code: "DB-6010", Text: "a page has sent this request, and no page speaks SSH"})
		return
	}
	if !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || !asksFor(r.Header, api.UpgradeSSH) {
		w.Header().Set("Upgrade", api.UpgradeSSH)
		w.Header().Set("Connection", "Upgrade")
		s.fail(w, r, by, &access.Error{Kind: access.ErrInvalid, Code: "DB-6013", Text: "this address speaks SSH inside HTTP/1.1, after an upgrade to " + api.UpgradeSSH, Next: "drawbolt ssh-config --transport https"})
		return
	}
	carry, err := s.c.Enter(r.Context(), by, r.PathValue("name"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	// From here on there is no HTTP. The deadlines were those of a request; who
	// carries the connection has its own.
	_ = nc.SetDeadline(time.Now().Add(headerWithin))
	_, err = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + api.UpgradeSSH + "\r\n\r\n"))
	if err != nil {
		nc.Close()
		return
	}
	_ = nc.SetDeadline(time.Time{})
	if rw.Reader.Buffered() > 0 {
		nc = &ahead{nc, rw.Reader}
	}
	carry(nc)
}

// asksFor reports whether the headers ask for an upgrade to protocol, and to
// nothing else.
func asksFor(h http.Header, protocol string) bool {
	upgrade := h.Values("Upgrade")
	if len(upgrade) != 1 || !strings.EqualFold(upgrade[0], protocol) {
		return false
	}
	for _, line := range h.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}

// ahead is a connection whose first bytes have been read with the request.
type ahead struct {
	net.Conn
	r *bufio.Reader // nil once it is empty
}

func (a *ahead) Read(p []byte) (int, error) {
	if a.r == nil {
		return a.Conn.Read(p)
	}
	n, err := a.r.Read(p[:min(len(p), a.r.Buffered())])
	if a.r.Buffered() == 0 {
		a.r = nil
	}
	return n, err
}
