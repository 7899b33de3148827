// Package mail tells people by e-mail: those who may decide on a request, each by
// themselves, its requester how it ended, and fixed addresses of everything that
// the channel is given. A mail leads to a page of the server and decides nothing:
// to open its link changes nothing, and so mail programs that open links may.
//
// It trusts the notices, and for the address of a person the attribute "email",
// which administrators and sources of identity set, and not the person themselves.
// It trusts nothing that people typed: headers are encoded, HTML is escaped. The
// connection to the mail server is encrypted and its certificate verified, unless
// that server is this machine.
package mail

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Config is what a Channel needs.
type Config struct {
	Name string
	// Server is smtp://host:587, with STARTTLS, or smtps://host:465. Without
	// encryption only to an address of loopback, such as smtp://127.0.0.1:25.
	Server       string
	User         string // to log in with; default: no login
	PasswordFile string
	From         string   // drawbolt <drawbolt@example.com>
	To           []string // who gets everything that the channel is given
	People       bool     // those whom a notice concerns get it
	Base         string   // of the server's pages
	Out          *outbound.Client
	Now          func() time.Time // default time.Now
}

// A Channel is safe for concurrent use.
type Channel struct {
	c      Config
	from   *netmail.Address
	domain string // of From; what ids of mails end with
	host   string
	port   int
	secure bool // from the first byte on
	plain  bool // to this machine

	// What was taken of the notice that failed last, so that its next try mails
	// nobody twice.
	mu       sync.Mutex
	position int64
	taken    map[string]bool
}

// New checks the configuration.
func New(c Config) (*Channel, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	o := &Channel{c: c}
	u, err := url.Parse(c.Server)
	if err != nil || (u.Scheme != "smtp" && u.Scheme != "smtps") || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("configure mail: the server must be smtps://mail.example.com or smtp://mail.example.com:587")
	}
	o.host, o.secure = u.Hostname(), u.Scheme == "smtps"
	port := cmp.Or(u.Port(), map[bool]string{true: "465", false: "587"}[o.secure])
	if o.port, err = strconv.Atoi(port); err != nil || o.port < 1 || o.port > 65535 {
		return nil, fmt.Errorf("configure mail: %.16q is no port", port)
	}
	if a, err := netip.ParseAddr(o.host); err == nil && a.IsLoopback() && !o.secure {
		o.plain = true
	}
	if (c.User == "") != (c.PasswordFile == "") {
		return nil, errors.New("configure mail: user and password_file go together")
	}
	if o.from, err = netmail.ParseAddress(c.From); err != nil {
		return nil, fmt.Errorf("configure mail: from must be an address such as drawbolt <drawbolt@example.com>: %w", err)
	}
	o.domain = o.from.Address[strings.LastIndexByte(o.from.Address, '@')+1:]
	for _, to := range c.To {
		if err := access.CheckEmail(to); err != nil {
			return nil, fmt.Errorf("configure mail: %w", err)
		}
	}
	if len(c.To) == 0 && !c.People {
		return nil, errors.New("configure mail: nobody would get a mail: name addresses in to, or set people")
	}
	return o, nil
}

// Kinds are those that a channel is given when nobody says which.
func Kinds() []notify.Kind {
	return []notify.Kind{
		notify.Asked, notify.Edited, notify.Questioned, notify.Replied, notify.HandedOver, notify.Escalated, notify.Approved, notify.Denied, notify.Expired, notify.Revoked,
		notify.BreakGlass, notify.ReviewReminder, notify.Unusual, notify.Acknowledged, notify.Expected, notify.CampaignDue, notify.Tampered, notify.PasswordTrouble, notify.AccountFound,
		notify.SignInChanged, notify.SignInReset, notify.PasskeyCopied,
	}
}

// Name implements notify.Channel.
func (c *Channel) Name() string { return c.c.Name }

// recipients are the addresses that get a notice, each once.
func (c *Channel) recipients(n notify.Notice) (list []string) {
	seen := map[string]bool{}
	add := func(address string) {
		if key := strings.ToLower(address); address != "" && !seen[key] {
			seen[key] = true
			list = append(list, address)
		}
	}
	for _, to := range c.c.To {
		add(to)
	}
	if !c.c.People {
		return list
	}
	switch n.Kind {
	case notify.Asked, notify.Edited, notify.Escalated, notify.CampaignDue: // who can do something
		for _, u := range n.Deciders {
			add(u.Email())
		}
	case notify.Questioned, notify.Replied, notify.HandedOver, notify.SignInChanged, notify.SignInReset, notify.PasskeyCopied:
		if n.For != nil {
			add(n.For.Email())
		}
	case notify.Approved, notify.Denied, notify.Expired, notify.Revoked, notify.Ended, notify.Extended, notify.Reviewed: // how it ended
		if u := n.Requester; u != nil && !u.Locked && u.Name != n.Actor {
			add(u.Email())
		}
	}
	return list
}

// Notify implements notify.Channel. A mail that its server refuses for good, as to
// an address that is none, keeps no other; the notice is refused when all are.
func (c *Channel) Notify(ctx context.Context, n notify.Notice) error {
	var messages []*gomail.Msg
	var addresses []string
	for _, to := range c.recipients(n) {
		if c.wasTaken(n.Position, to) {
			continue
		}
		m, err := c.message(n, to)
		if err != nil {
			return fmt.Errorf("%w: %w", notify.ErrRefused, err)
		}
		messages, addresses = append(messages, m), append(addresses, to)
	}
	if len(messages) == 0 {
		return nil
	}
	client, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = client.Send(messages...)
	_ = client.Close() // what was taken was taken
	refused, failed := 0, error(nil)
	for i, m := range messages {
		switch {
		case m.IsDelivered():
			c.take(n.Position, addresses[i])
		case m.HasSendError() && !m.SendErrorIsTemp() && isReply(m.SendError()):
			c.take(n.Position, addresses[i]) // nor will it be the next time
			refused, err = refused+1, m.SendError()
		default:
			failed = cmp.Or(m.SendError(), err, errors.New("the mail was not sent"))
		}
	}
	if failed != nil {
		return brief(failed)
	}
	c.forget()
	if refused == len(messages) {
		return fmt.Errorf("%w: %w", notify.ErrRefused, brief(err))
	}
	return nil
}

// isReply reports whether the server has said no, instead of being gone.
func isReply(err error) bool {
	e, ok := errors.AsType[*gomail.SendError](err)
	return ok && e.ErrorCode() >= 500
}

// brief keeps the subject and the text of a mail out of an error.
func brief(err error) error {
	return errors.New(audit.Clean(err.Error(), 300))
}

func (c *Channel) wasTaken(position int64, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position == position && c.taken[to]
}

func (c *Channel) take(position int64, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.position != position || c.taken == nil {
		c.position, c.taken = position, map[string]bool{}
	}
	c.taken[to] = true
}

// forget: the notice is not tried again by itself. If somebody wants that, all are
// to get it.
func (c *Channel) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = nil
}

// connect opens a connection for one notice, which ends with ctx.
func (c *Channel) connect(ctx context.Context) (*gomail.Client, error) {
	options := []gomail.Option{
		gomail.WithPort(c.port), gomail.WithHELO(c.domain), gomail.WithTimeout(10 * time.Second), gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(dial context.Context, network, address string) (net.Conn, error) {
			conn, err := c.c.Out.Dial(dial, network, address)
			if err != nil {
				return nil, err
			}
			if c.secure {
				conn = tls.Client(conn, c.c.Out.TLS(c.host))
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			return conn, nil
		}),
	}
	switch {
	case c.secure:
		options = append(options, gomail.WithSSL())
	case c.plain:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithTLSConfig(c.c.Out.TLS(c.host)))
	}
	if c.c.User != "" {
		password, err := outbound.ReadSecret(c.c.PasswordFile)
		if err != nil {
			return nil, err
		}
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthPlain), gomail.WithUsername(c.c.User), gomail.WithPassword(string(password.Expose())))
	}
	client, err := gomail.NewClient(c.host, options...)
	if err != nil {
		return nil, err
	}
	return client, client.DialWithContext(ctx)
}

// message writes the mail of a notice to one address. It has the same id each time,
// and refers to the request, so that mail programs show what belongs together.
func (c *Channel) message(n notify.Notice, to string) (*gomail.Msg, error) {
	m := notify.Say(n, c.c.Base)
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(c.from)
	if err := msg.To(to); err != nil {
		return nil, err
	}
	msg.Subject("[drawbolt] " + m.Title)
	msg.SetDateWithValue(n.At)
	person := sha256.Sum256([]byte(strings.ToLower(to)))
	msg.SetMessageIDWithValue(fmt.Sprintf("%d.%s@%s", n.Position, hex.EncodeToString(person[:8]), c.domain))
	if n.Case != nil {
		thread := fmt.Sprintf("<%s@%s>", n.Case.Request.ID, c.domain)
		msg.SetGenHeader(gomail.HeaderInReplyTo, thread)
		msg.SetGenHeader(gomail.HeaderReferences, thread)
	}
	// RFC 3834, section 5: nobody's absence is answered.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetBodyString(gomail.TypeTextPlain, plain(m))
	var b strings.Builder
	if err := page.Execute(&b, m); err != nil {
		return nil, err
	}
	msg.AddAlternativeString(gomail.TypeTextHTML, b.String())
	return msg, nil
}

const closing = "To open the page changes nothing. Whoever decides signs in there."

func plain(m notify.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", m.Title)
	for _, f := range m.Quotes {
		fmt.Fprintf(&b, "%s:\n  %s\n\n", f.Name, f.Value)
	}
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "%-11s %s\n", f.Name+":", f.Value)
	}
	fmt.Fprintf(&b, "\n%s:\n%s\n\n%s\n", m.Action, m.URL, closing)
	return b.String()
}

var page = template.Must(template.New("mail").Funcs(template.FuncMap{"closing": func() string { return closing }}).Parse(`<!doctype html>
<html lang="en"><body style="font-family:sans-serif;font-size:16px;line-height:1.4;color:#1b1b1b">
<p style="font-size:18px"><strong>{{.Title}}</strong></p>
{{range .Quotes}}<p>{{.Name}}:<br><em>“{{.Value}}”</em></p>
{{end}}<table cellpadding="2">
{{range .Facts}}<tr><td style="color:#555">{{.Name}}</td><td>{{.Value}}</td></tr>
{{end}}</table>
<p><a href="{{.URL}}" style="display:inline-block;padding:10px 16px;background:#1f4e79;color:#ffffff;text-decoration:none;border-radius:6px">{{.Action}}</a></p>
<p style="color:#555;font-size:14px">{{closing}}</p>
</body></html>
`))
