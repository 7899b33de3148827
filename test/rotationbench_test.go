//go:build linux

package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// BenchmarkRotations has the real server change the passwords of many accounts at once, at
// a real system of each kind: how many a minute, and how much processor time of the server
// one takes with the request for it, which says how many one core could do.
//
//	go test ./test -run '^$' -bench Rotations -benchtime 5x
func BenchmarkRotations(b *testing.B) {
	for _, kind := range []struct {
		name     string
		make     system
		postgres bool
	}{
		{"machine", onMachine, false}, {"PostgreSQL", onPostgres, false}, {"MariaDB", onMariaDB, false}, {"OpenLDAP", onSlapd, false}, {"ActiveDirectory", onSamba, false},
		{"PostgreSQL-in-PostgreSQL", onPostgres, true},
	} {
		b.Run(kind.name, func(b *testing.B) {
			database := ""
			if kind.postgres {
				database = servers.Postgres(b)
			}
			s := install(b, database, "")
			ctx, admin := b.Context(), s.people["admin"]
			var names []string
			for i := range 40 {
				names = append(names, fmt.Sprintf("app%d", i))
			}
			m := kind.make(b, s, names)
			_, err := admin.AddTarget(ctx, m.target)
			must(b, err)
			for account, password := range m.secrets {
				_, err := admin.SetCredential(ctx, m.target.Name, account, api.CredentialInput{Credential: "password", Secret: []byte(password)})
				must(b, err)
			}
			for _, name := range names {
				_, err = admin.ManageAccount(ctx, m.target.Name, name, api.ManageInput{Managed: api.Managed{Reset: m.reset, Failures: 4}, Secret: []byte(m.first)})
				must(b, err)
			}
			done := func() {
				eventually(b, 5*time.Minute, "all are changed", func() bool {
					time.Sleep(100 * time.Millisecond) // the server limits who asks too often
					list, err := admin.Passwords(ctx, m.target.Name)
					must(b, err)
					for _, p := range list.Items {
						if p.State != "ok" || p.Cause == "demand" || p.Tries > 0 {
							return false
						}
					}
					return len(list.Items) == len(names)
				})
			}
			done()
			b.ResetTimer()
			used, n := time.Duration(0), 0
			for b.Loop() {
				before := s.processor()
				for _, name := range names {
					_, err := admin.RotateAccount(ctx, m.target.Name, name, "INC-1 measured")
					must(b, err)
				}
				done()
				used, n = used+s.processor()-before, n+len(names)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Minutes(), "rotations/min")
			b.ReportMetric(used.Seconds()*1000/float64(n), "cpu-ms/rotation")
		})
	}
}

// processor is the processor time that the server has used.
func (s *server) processor() time.Duration {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
	must(s.t, err)
	f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
	var ticks int64
	for _, field := range f[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(field, 10, 64)
		must(s.t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
