package ticket

import (
	"net/netip"
	"testing"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker/access"
)

func TestMayDial(t *testing.T) {
	listed := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
	for address, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.20.1.1": true,
		"10.21.1.1": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "fe80::1": false, "fd00::1": false, "192.168.0.1": false,
		"0.0.0.0": false, "::": false, "100.64.0.1": false, "224.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::1": false,
	} {
		if got := mayDial(netip.MustParseAddr(address), listed); got != want {
			t.Errorf("%s: got %t", address, got)
		}
	}
}

// What is shown to people may be shown to people, and a name that is mentioned is
// in the text.
func FuzzText(f *testing.F) {
	f.Add("disk full on db01.", "db01")
	f.Add("\u202e\x1b[2J\xff", "a")
	f.Add("db01.db01.", "db01")
	f.Fuzz(func(t *testing.T, text, name string) {
		s := cleanText(text)
		if err := access.CheckText("", s, maxText); err != nil || !utf8.ValidString(s) {
			t.Errorf("%q: %v", s, err)
		}
		if access.CheckTargetName(name) == nil && mentions([]string{name}, name) == false {
			t.Errorf("%q does not mention itself", name)
		}
		mentions([]string{text}, name)
	})
}
