package discovery

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Control is what Active Directory says of an account in userAccountControl (MS-ADTS
// 2.2.16).
type Control uint32

// Bits of Control.
const (
	AccountDisabled   Control = 0x2
	passwordNotNeeded Control = 0x20
	passwordReadable  Control = 0x80
	serverTrust       Control = 0x2000 // a domain controller
	NeverExpires      Control = 0x10000
	delegatesAny      Control = 0x80000 // TRUSTED_FOR_DELEGATION
	desOnly           Control = 0x200000
	noPreauth         Control = 0x400000
	anyProtocol       Control = 0x1000000 // TRUSTED_TO_AUTH_FOR_DELEGATION
	readOnlyServer    Control = 0x4000000 // PARTIAL_SECRETS_ACCOUNT
)

func (c Control) controller() bool { return c&(serverTrust|readOnlyServer) != 0 }

// weaknesses says what makes its password easy to find out. Passwords of machines and
// those that the domain changes cannot be guessed.
func (e *Entry) weaknesses(a *Account) {
	for _, x := range []struct {
		is   bool
		text string
	}{
		{e.Control&noPreauth != 0, "whoever asks gets something that its password has encrypted, and may guess it elsewhere (AS-REP roasting: DONT_REQ_PREAUTH)"},
		{len(e.Services) > 0 && !e.Machine && !e.OwnPassword, "whoever is in the domain gets something that its password has encrypted, and may guess it elsewhere (Kerberoasting: servicePrincipalName)"},
		{e.Control&passwordNotNeeded != 0 && !e.Machine, "an empty password is allowed (PASSWD_NOTREQD)"},
		{e.Control&passwordReadable != 0, "its password is kept so that it can be read (ENCRYPTED_TEXT_PWD_ALLOWED)"},
		{e.Control&desOnly != 0, "its tickets are encrypted with DES (USE_DES_KEY_ONLY)"},
	} {
		if x.is {
			a.Weak = append(a.Weak, x.text)
		}
	}
}

// delegation is whom it may put itself in the place of. Domain controllers may anyway.
func (e *Entry) delegation() (list []Right) {
	if e.Control.controller() {
		return nil
	}
	if e.Control&delegatesAny != 0 {
		list = append(list, Right{Text: "acts as anybody who logs in to it, everywhere (unconstrained delegation)", Full: true, Source: "userAccountControl"})
	}
	if len(e.DelegatesTo) > 0 {
		who := "who logs in to it"
		if e.Control&anyProtocol != 0 {
			who = "it names"
		}
		list = append(list, Right{Text: clean("acts as anybody " + who + ", towards " + strings.Join(e.DelegatesTo[:min(len(e.DelegatesTo), 3)], ", ")), Source: "msDS-AllowedToDelegateTo"})
	}
	return list
}

// mightySID says of a group by its number whether it may do much, and whether everything
// (MS-DTYP 2.4.2.4). Names of groups are others in other languages, and can be changed.
func mightySID(sid, last string) (full, mighty bool) {
	everything, much := []string{"512", "516", "518", "519", "521", "526", "527", "498"}, []string{"517", "520"}
	if strings.HasPrefix(sid, "S-1-5-32-") { // of the domain's own servers
		everything, much = []string{"544", "548", "549", "550", "551"}, []string{"552"}
	} else if !strings.HasPrefix(sid, "S-1-5-21-") {
		return false, false
	}
	full = slices.Contains(everything, last)
	return full, full || slices.Contains(much, last)
}

// domainSID is a SID without its last number.
func domainSID(sid string) string { return sid[:max(strings.LastIndexByte(sid, '-'), 0)] }

// SID writes a security identifier as people do; empty: it is none (MS-DTYP 2.4.2.2).
func SID(b []byte) string {
	if len(b) < 8 || b[0] != 1 || b[1] > 15 || len(b) != 8+4*int(b[1]) {
		return ""
	}
	authority := binary.BigEndian.Uint64(append([]byte{0, 0}, b[2:8]...))
	s := fmt.Sprintf("S-1-%d", authority)
	for part := range slices.Chunk(b[8:], 4) {
		s += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(part))
	}
	return s
}
