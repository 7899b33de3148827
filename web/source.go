package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded is how many addresses of X-Forwarded-For are looked at.
const maxForwarded = 32

// source returns the address a request comes from: the peer's own, and, when
// the peer is a proxy that we were told to trust, the rightmost address in
// X-Forwarded-For that is not such a proxy. What stands left of it was written
// by whom we do not trust. An entry that is no address ends the search: the
// last proxy that was known is then the source.
func (s *Server) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // no peer is no network: counted together, allowed nothing by a network rule
	}
	at := plain(peer.Addr())
	if !s.trusts(at) {
		return at
	}
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if len(list) > maxForwarded {
		list = list[len(list)-maxForwarded:]
	}
	for _, entry := range slices.Backward(list) {
		a, err := netip.ParseAddr(strings.TrimSpace(entry))
		if err != nil {
			return at
		}
		if at = plain(a); !s.trusts(at) {
			return at
		}
	}
	return at
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (s *Server) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(s.c.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}
