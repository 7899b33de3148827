package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// idle measures what a session holds in which nothing happens: a shell on a
// terminal, some minutes after it was opened, and again after it has printed a
// mebibyte. The clients are Go's, in this process; the rest is the real thing.
func idle(bed *bed, r *report) {
	var rows [][]string
	for _, w := range []way{stock, direct, jump} {
		held := func() (kib, goroutines int64) {
			if w == stock {
				for _, pid := range children(bed.hopPID) {
					kib += pss(bed.b, pid)
				}
				return kib, 0
			}
			return pss(bed.b, bed.server.Process.Pid), bed.metric("go_goroutines")
		}
		if w != stock {
			bed.stop()
			bed.start() // nothing is left of what was measured before
		}
		warm := bed.shell(w)
		warm.close()
		bed.quiet()
		time.Sleep(2 * time.Second)
		kib, goroutines := held()
		var shells []*shell
		for range *idlers {
			shells = append(shells, bed.shell(w))
		}
		time.Sleep(*settle)
		opened, running := held()
		for _, s := range shells {
			s.burst(bed)
		}
		time.Sleep(*settle)
		after, _ := held()
		for _, s := range shells {
			s.close()
		}
		bed.quiet()
		bed.forget()
		each := func(v int64) string { return fmt.Sprintf("%.0f", float64(v)/float64(*idlers)) }
		n := each(running - goroutines)
		if w == stock {
			n = "2 processes"
		}
		rows = append(rows, []string{w.name, each(opened - kib), each(after - kib), n})
	}
	r.table("Memory of an idle session in the middle", []string{"way", "KiB a session (PSS)", "after a burst of 1 MiB", "goroutines a session"}, rows)
}

// metric reads one figure of the server's metrics.
func (bed *bed) metric(name string) int64 {
	resp := must(http.Get("http://" + bed.metrics + "/metrics"))(bed.b)
	defer resp.Body.Close()
	b := must(io.ReadAll(resp.Body))(bed.b)
	for line := range strings.Lines(string(b)) {
		var v float64
		if n, _ := fmt.Sscanf(line, name+" %g", &v); n == 1 {
			return int64(v)
		}
	}
	bed.b.Fatalf("there is no metric %s", name)
	return 0
}

// A shell is an open terminal at the target.
type shell struct {
	clients []*ssh.Client // the outer one first
	in      io.Writer
	out     io.Reader
}

func (s *shell) close() {
	for i := len(s.clients) - 1; i >= 0; i-- {
		s.clients[i].Close()
	}
}

// shell opens a terminal on a way and waits for its prompt.
func (bed *bed) shell(w way) *shell {
	b := bed.b
	b.Helper()
	s := &shell{}
	over := func(conn net.Conn, err error) func(login string, signer ssh.Signer) *ssh.Client {
		check(b, err)
		return func(login string, signer ssh.Signer) *ssh.Client {
			c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
				User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), // loopback, ours
			})
			check(b, err)
			client := ssh.NewClient(c, channels, requests)
			s.clients = append(s.clients, client)
			return client
		}
	}
	account := bed.target.User
	var client *ssh.Client
	switch w {
	case stock:
		hop := over(net.Dial("tcp", bed.hop.Addr))(bed.hop.User, bed.outside)
		client = over(hop.Dial("tcp", bed.target.Addr))(account, bed.outside)
	case direct:
		client = over(net.Dial("tcp", bed.address))(account+"+"+bedTarget, bed.identity)
	case jump:
		gateway := over(net.Dial("tcp", bed.address))("alice", bed.identity)
		client = over(gateway.Dial("tcp", bedTarget+":22"))(account, bed.identity)
	}
	session := must(client.NewSession())(b)
	s.in, s.out = must(session.StdinPipe())(b), must(session.StdoutPipe())(b)
	check(b, session.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}))
	check(b, session.Shell())
	s.until(bed, "$ ")
	return s
}

// burst has a mebibyte printed.
func (s *shell) burst(bed *bed) {
	bed.b.Helper()
	const size = 1 << 20
	fmt.Fprintf(s.in, "head -c %d /dev/zero; echo; echo 'the''end'\n", size)
	s.until(bed, "theend\r\n$ ")
}

// until reads up to a text.
func (s *shell) until(bed *bed, text string) {
	bed.b.Helper()
	var tail []byte
	buf := make([]byte, 32<<10)
	for !bytes.Contains(tail, []byte(text)) {
		n, err := s.out.Read(buf)
		if err != nil {
			bed.b.Fatalf("no %q: %v", text, err)
		}
		tail = append(tail[max(0, len(tail)-len(text)):], buf[:n]...)
	}
}
