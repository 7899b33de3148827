package sshproxy

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// hostName is what a resolver may be asked for: RFC 1123, section 2.1, and the
// underscore that is seen in practice.
var hostName = regexp.MustCompile(`\A[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\z`)

// addresses gives where a host may be. localhost is the target's own, and is not
// looked up. Any other name is looked up once, by us, and only when the rules
// could allow some answer: asked says so. What it finds is what the target is
// told to connect to, so that nobody can answer differently later.
func (l *link) addresses(rules access.SessionRules, host string, port uint16) (list []netip.Addr, asked bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return nil, false
		}
		return []netip.Addr{a.Unmap()}, false
	}
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{loopback4, loopback6}, false
	}
	if !hostName.MatchString(host) || !bastion.ResolveForward(rules, host, port) {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(l.conn.ctx, l.limits.Resolve)
	defer cancel()
	found, err := l.cfg.Resolve(ctx, host)
	if err != nil {
		l.log.InfoContext(ctx, "the host of a forward was not found", "host", host, "error", err)
	}
	for _, a := range found {
		list = append(list, a.Unmap().WithZone(""))
	}
	return list, true
}

// bindings gives the addresses that the name of a place to listen at stands for
// (RFC 4254, section 7.1); none when it is another name.
func bindings(host string) []netip.Addr {
	switch {
	case host == "" || host == "*":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	case strings.EqualFold(host, "localhost"):
		return []netip.Addr{loopback4, loopback6}
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return []netip.Addr{a.Unmap()}
	}
	return nil
}

// own are the addresses of this machine, and the one at which the user reached
// it: a forward back to the bastion must be named.
func (l *link) own() []netip.Addr {
	list := l.cfg.Own()
	if a := address(l.conn.LocalAddr()); a.IsValid() {
		list = append(list, a)
	}
	return list
}

// ownAddresses are those of the interfaces of this machine.
func ownAddresses() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, n := range nets {
		if p, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(p.IP); ok {
				list = append(list, a.Unmap())
			}
		}
	}
	return list
}
