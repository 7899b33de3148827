package discovery

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
)

var now = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)

// keyOf is the public key that comes of a seed, and its fingerprint.
func keyOf(seed string) (line, fingerprint string) {
	private := ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%-32.32s", seed)))
	key, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), ssh.FingerprintSHA256(key)
}

func scanned(t testing.TB, lines ...string) Scan {
	t.Helper()
	text := "drawbolt\t1\nnow\t" + fmt.Sprint(now.Unix()) + "\nuid\t0\nknown\tlogins\n" + strings.Join(lines, "\n") + "\nend\tof the scan\n"
	s, err := ParseLinux([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func days(n int) string { return fmt.Sprint(now.AddDate(0, 0, -n).Unix()) }

// planted is a machine with an account of every class, and with furniture.
func planted(t testing.TB) (Scan, Known) {
	own, ownKey := keyOf("own")
	alice, aliceKey := keyOf("alice")
	gone, goneKey := keyOf("gone")
	bob, bobKey := keyOf("bob")
	stray, _ := keyOf("stray")
	s := scanned(t,
		"passwd\troot\t0\t0\tshadow\t/root\t/bin/bash\troot", "shadow\troot\tlocked\t20000\t99999\t",
		"passwd\tdaemon\t1\t1\tshadow\t/usr/sbin\t/usr/sbin/nologin\tdaemon", "shadow\tdaemon\tlocked\t20000\t99999\t",
		"passwd\tdeploy\t1000\t1000\tshadow\t/people/deploy\t/bin/bash\t", "shadow\tdeploy\tlocked\t20000\t99999\t",
		"passwd\talice\t1001\t1001\tshadow\t/people/alice\t/bin/bash\tAlice", "shadow\talice\tset\t20700\t99999\t",
		"passwd\tgone\t1002\t1002\tshadow\t/people/gone\t/bin/bash\t", "shadow\tgone\tlocked\t20000\t99999\t",
		"passwd\told\t1003\t1003\tshadow\t/people/old\t/bin/bash\t", "shadow\told\tset\t20000\t90\t",
		"passwd\tteam\t1004\t1004\tshadow\t/people/team\t/bin/bash\t", "shadow\tteam\tlocked\t20000\t99999\t",
		"passwd\tbackup2\t900\t900\tshadow\t/var/backup\t/bin/sh\t", "shadow\tbackup2\tlocked\t20000\t99999\t",
		"passwd\tbreakglass\t1005\t1005\tshadow\t/people/b\t/bin/bash\t", "shadow\tbreakglass\tset\t20000\t99999\t",
		"passwd\tshut\t1006\t1006\tshadow\t/people/s\t/bin/bash\t", "shadow\tshut\tset\t20000\t99999\t20001",
		"group\tsudo\t27\tgone,alice", "group\tdocker\t99\tteam", "group\tteam\t1004\t",
		"sudoers\t/etc/sudoers\tDefaults\tenv_reset", "sudoers\t/etc/sudoers\troot\tALL=(ALL:ALL) ALL",
		"sudoers\t/etc/sudoers\t%sudo\tALL=(ALL:ALL) ALL", "sudoers\t/etc/sudoers.d/backup\tbackup2 ALL=(root) NOPASSWD: /usr/bin/rsync --server *, /usr/bin/id",
		"sshd\tpasswordauthentication\tyes", "sshd\tpermitrootlogin\tyes", "sshd\tauthorizedkeysfile\t.ssh/authorized_keys",
		"key\tdeploy\t"+own+" own", "key\tgone\t"+gone+" gone@laptop", "key\tteam\t"+alice+" alice@laptop", "key\tteam\t"+bob+" bob@laptop",
		"key\tbackup2\tfrom=\"192.0.2.1\",environment=\"PASSWORD=hunter2\" "+stray+" backup@nas",
		"login\talice\t"+days(2), "login\told\t"+days(200), "login\tteam\t"+days(1), "login\tgone\t"+days(3), "login\tbreakglass\t"+days(400),
		"listen\t0100007F:0016", "listen\t00000000:1F90", "listen\t00000000000000000000000000000000:0016",
	)
	return s, Known{
		Now: now, Managed: map[string]bool{"deploy": true},
		People:  map[string]Person{"alice": {Name: "alice"}, "gone": {Name: "gone", Left: true}, "bob": {Name: "bob"}},
		Keys:    map[string]Person{aliceKey: {Name: "alice"}, goneKey: {Name: "gone", Left: true}, bobKey: {Name: "bob"}},
		OwnKeys: map[string][]string{"deploy": {ownKey}},
	}
}

// Accounts of every class are found, and nothing else.
func TestClasses(t *testing.T) {
	s, known := planted(t)
	findings, ways := Classify(&s, known)
	want := map[string]struct {
		class Class
		risk  Risk
	}{
		"root": {Unmanaged, Medium}, "deploy": {Managed, Low}, "alice": {Unmanaged, High}, "gone": {Orphaned, Critical}, "old": {Dormant, High},
		"team": {Shared, High}, "backup2": {Service, High}, "breakglass": {Emergency, Medium},
	}
	for _, f := range findings {
		w, ok := want[f.Name]
		if !ok {
			t.Errorf("%s is found: %+v", f.Name, f)
			continue
		}
		if f.Class != w.class || f.Risk != w.risk || len(f.Reasons) == 0 {
			t.Errorf("%s is %s, %s: %q; want %s, %s", f.Name, f.Class, f.Risk, f.Reasons, w.class, w.risk)
		}
		delete(want, f.Name)
	}
	for name := range want {
		t.Errorf("%s is not found", name)
	}
	var texts []string
	for _, w := range ways {
		texts = append(texts, w.Account+" "+w.Kind)
		if w.Command == "" || w.Text == "" {
			t.Errorf("%+v", w)
		}
	}
	if want := []string{"alice password", "alice sudo", "gone key", "gone sudo", "old password", "team key", "team key", "team sudo", "backup2 key", "backup2 sudo", "breakglass password"}; !slices.Equal(texts, want) {
		t.Errorf("ways %q, want %q", texts, want)
	}
	for _, f := range findings {
		if strings.Contains(fmt.Sprint(f), "hunter2") {
			t.Errorf("a secret of an environment is kept: %+v", f)
		}
	}
	if got := s.Settings["fact.listening"]; got != "22 8080" {
		t.Errorf("ports %q", got)
	}
}

func TestSudoers(t *testing.T) {
	for _, test := range []struct {
		lines string
		want  string // accounts with everything, then those with something
	}{
		{"alice ALL=(ALL) ALL", "alice;"},
		{"alice ALL = NOPASSWD: ALL", "alice;"},
		{"alice ALL=(postgres) ALL", ";alice"},
		{"alice ALL=(postgres) NOPASSWD: /usr/bin/psql", ";alice"},
		{"#1001 ALL=(root) /bin/bash", "alice;"},
		{"%ops ALL=/usr/bin/vim", "bob;"},
		{"%ops, alice web1, db1 = (root : adm) ALL", "alice bob;"},
		{"User_Alias ADMINS = alice, %ops|Cmnd_Alias SHELLS = /bin/sh, /bin/bash|ADMINS ALL = SHELLS", "alice bob;"},
		{"User_Alias A = B|User_Alias B = A|A ALL = ALL", "alice bob;"}, // they go in circles: to be looked at
		{"ALL, !bob ALL=(ALL) ALL", "alice;"},
		{`alice ALL=(root) /usr/bin/id a\,b`, ";alice"},
		{"alice ALL=(root) /usr/sbin/", "alice;"},
		{"Runas_Alias BIG = root|alice ALL=(BIG) ALL", "alice;"},
		{"Host_Alias H = a, b|alice H=/usr/bin/id # ALL", ";alice"},
		{"Defaults:alice !authenticate", ";"},
		{"carol ALL=ALL", ";"},
	} {
		t.Run(test.lines, func(t *testing.T) {
			lines := []string{"passwd\talice\t1001\t1\tlocked\t/\t/bin/sh\t", "passwd\tbob\t1002\t1\tlocked\t/\t/bin/sh\t", "group\tops\t50\tbob"}
			for l := range strings.SplitSeq(test.lines, "|") {
				lines = append(lines, "sudoers\t/etc/sudoers\t"+l)
			}
			s := scanned(t, lines...)
			var full, some []string
			for _, a := range s.Accounts {
				if a.Full() {
					full = append(full, a.Name)
				} else if len(a.Rights) > 0 {
					some = append(some, a.Name)
				}
			}
			if got := strings.Join(full, " ") + ";" + strings.Join(some, " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// What is broken off is no scan.
func TestNotWhole(t *testing.T) {
	for _, text := range []string{"", "end\tof the scan\n", "drawbolt\t1\npasswd\troot\t0\t0\tshadow\t/root\t/bin/sh\t\n", "drawbolt\t1\nuid\t0\nend\tof the scan\n", strings.Repeat("x", MaxOutput+1)} {
		if _, err := ParseLinux([]byte(text)); !errors.Is(err, ErrUnread) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestDiff(t *testing.T) {
	s, known := planted(t)
	before, _ := Classify(&s, known)
	stray, _ := keyOf("another")
	s2, _ := planted(t)
	r := linuxReader{scan: &s2, byName: map[string]int{}}
	for i, a := range s2.Accounts {
		r.byName[a.Name] = i
	}
	r.key("gone", stray)
	s2.Accounts = slices.DeleteFunc(s2.Accounts, func(a Account) bool { return a.Name == "old" })
	s2.Accounts = append(s2.Accounts, Account{Name: "toor", Password: PasswordSet, Rights: []Right{{"is root", true, "/etc/passwd"}}})
	after, _ := Classify(&s2, known)
	var got []string
	for _, c := range Diff(before, after) {
		got = append(got, fmt.Sprint(c.What, " ", c.Account, " ", c.Grave))
	}
	if want := []string{"changed gone true", "new toor true", "gone old false"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if d := Diff(before, before); len(d) > 0 {
		t.Errorf("the same scan differs: %+v", d)
	}
}

func TestPosture(t *testing.T) {
	p, err := DefaultProfile()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Kernel()) < 8 {
		t.Errorf("the profile looks at %q", p.Kernel())
	}
	none := p.Assess(nil)
	if none.Score != -1 || len(none.Faults) > 0 || len(none.Unknown) != len(p) {
		t.Errorf("of nothing: %+v", none)
	}
	settings := map[string]string{"sshd.permitrootlogin": "yes", "sshd.passwordauthentication": "no", "sshd.maxauthtries": "many", "fact.security-updates": "0"}
	got := p.Assess(settings)
	if got.Score != 62 || len(got.Faults) != 2 || got.Faults[0].ID != "ssh-root-login" || got.Faults[0].Mend == "" {
		t.Errorf("%+v", got)
	}
	if d := Drift(settings, map[string]string{"sshd.permitrootlogin": "no", "sshd.passwordauthentication": "no", "sshd.maxauthtries": "many", "fact.failed-logins": "7"}); !slices.Equal(d, []string{"fact.security-updates: 0 -> (unknown)", "sshd.permitrootlogin: yes -> no"}) && !slices.Equal(d, []string{"sshd.permitrootlogin: yes -> no"}) {
		t.Errorf("%q", d)
	}
	mine, err := ReadProfile(fstest.MapFS{
		"a.json": {Data: []byte(`[{"id":"a","title":"A","key":"sshd.x","one_of":["no"],"weight":1,"mend":"true"},{"id":"b","title":"B","key":"sshd.y","at_most":3,"weight":1,"mend":"true"}]`)},
		"b.json": {Data: []byte(`[{"id":"a","weight":0}]`)},
	})
	if err != nil || len(mine) != 1 || mine[0].ID != "b" {
		t.Errorf("%+v, %v", mine, err)
	}
	for name, bad := range map[string]string{
		"key": `[{"id":"a","title":"A","key":"../etc","one_of":["no"],"weight":1,"mend":"true"}]`, "nothing wanted": `[{"id":"a","title":"A","key":"sshd.x","weight":1,"mend":"true"}]`,
		"unknown": `[{"id":"a","colour":"red"}]`, "weight": `[{"id":"a","title":"A","key":"sshd.x","one_of":[],"weight":99,"mend":"true"}]`, "script": `[{"id":"a","title":"A","key":"sysctl.x;id","one_of":["1"],"weight":1,"mend":"true"}]`,
	} {
		if _, err := ReadProfile(fstest.MapFS{"a.json": {Data: []byte(bad)}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Aliases that name one another many times make no work without end.
func TestSudoersWork(t *testing.T) {
	var lines []string
	for i := range 50 {
		lines = append(lines, fmt.Sprintf("sudoers\tx\tUser_Alias A%d = %s", i, strings.Repeat(fmt.Sprintf("A%d, ", (i+1)%50), 50)+"x"))
	}
	lines = append(lines, "sudoers\tx\tA0 ALL=ALL")
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("passwd\tu%d\t%d\t1\tlocked\t/\t/bin/sh\t", i, 1000+i))
	}
	s := scanned(t, lines...)
	if !slices.Contains(s.Incomplete, "rules of sudo that are not understood") {
		t.Errorf("%q", s.Incomplete)
	}
}

// Whatever a system says: what is kept is bounded and can be shown on one line, and
// what is found of it comes out of it.
func FuzzParseLinux(f *testing.F) {
	key, _ := keyOf("x")
	f.Add("passwd\troot\t0\t0\tshadow\t/root\t/bin/bash\troot\nshadow\troot\tset\t20000\t99999\t\nkey\troot\t" + key + " c\nsudoers\tf\troot ALL=(ALL) ALL\ngroup\tsudo\t27\troot,x")
	f.Add("passwd\ta\x1b[2J\t0\t0\tnone\t/\t/\t\u202e\nlisten\t0100007F:0016\nsetuid\t/tmp/x\nfact\tfirewall\tno\nsshd\tx\ty\nsysctl\ta\tb\ncut\tkeys")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseLinux([]byte("drawbolt\t1\n" + text + "\nend\tof the scan\n"))
		if err != nil {
			return
		}
		bad := func(what, text string, most int) {
			if len(text) > most || strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsFunc(text, func(r rune) bool { return r == 0x202e || r == 0x2028 }) {
				t.Errorf("%s: %q", what, text)
			}
		}
		findings, ways := Classify(&s, Known{Now: now})
		if len(s.Accounts) > maxAccounts || len(s.Settings) > maxSettings+2 || len(s.Setuid) > maxListed || len(findings) > len(s.Accounts) {
			t.Error("there is no end of it")
		}
		for _, x := range findings {
			bad("name", x.Name, 64)
			bad("shell", x.Shell, maxText)
			bad("comment", x.Comment, maxText)
			if len(x.Keys) > maxKeys || len(x.Rights) > 2*maxRights || x.Class == "" || x.Risk < Critical || x.Risk > Low {
				t.Errorf("%+v", x)
			}
			for _, r := range append(x.Rights, Right{}) {
				bad("right", r.Text, maxText)
			}
			for _, r := range x.Reasons {
				bad("reason", r, maxText)
			}
		}
		for _, w := range ways {
			bad("way", w.Text, maxText)
			bad("command", w.Command, 2000)
		}
		for name, value := range s.Settings {
			bad("setting", name, 80)
			bad("setting", value, maxText)
		}
		for name, value := range Facts(&s, Posture{}) {
			bad("fact", name+value, 128)
		}
	})
}
