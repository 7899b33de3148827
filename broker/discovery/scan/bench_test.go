package scan_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
)

// generated is what a machine of forty accounts says, ten of which matter.
func generated(n int) string {
	var b strings.Builder
	b.WriteString("drawbolt\t1\nnow\t1795945816\nuid\t0\nos\tDebian GNU/Linux 13\nknown\tlogins\npasswd\troot\t0\t0\tshadow\t/root\t/bin/bash\t\nshadow\troot\tlocked\t20000\t99999\t\n")
	for i := range 40 {
		state := "locked"
		if i%4 == 0 {
			state = "set"
		}
		fmt.Fprintf(&b, "passwd\tu%d-%d\t%d\t%d\tshadow\t/people/u\t/bin/bash\tPerson\nshadow\tu%d-%d\t%s\t20000\t99999\t\nlogin\tu%d-%d\t1795000000\n", n, i, 1000+i, 1000+i, n, i, state, n, i)
	}
	fmt.Fprintf(&b, "group\tsudo\t27\tu%d-0\nsudoers\t/etc/sudoers\t%%sudo ALL=(ALL:ALL) ALL\n", n)
	for i := range 100 {
		fmt.Fprintf(&b, "sshd\tsetting%d\tvalue\n", i)
	}
	b.WriteString("sshd\tpasswordauthentication\tyes\nsshd\tpermitrootlogin\tno\nfact\tsecurity-updates\t3\nfact\tfirewall\tyes\nlisten\t00000000:0016\nend\tof the scan\n")
	return b.String()
}

// BenchmarkThousandTargets is the work of the server for the scans of a thousand
// targets, without the way to them: what they say is read, classified, compared and
// kept, with the audit log. The second round finds all as it was.
func BenchmarkThousandTargets(b *testing.B) {
	ctx := b.Context()
	config := brokertest.Config(b, "one", storetest.SQLite(b))
	config.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	config.Policy = brokertest.Policy(b, rego.Bundle)
	h, err := broker.New(ctx, config)
	ok(b, err)
	const many = 1000
	var ids []string
	said := map[string]string{}
	for chunk := range many / 100 {
		ok(b, config.Store.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			for i := range 100 {
				t := access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("t%04d", chunk*100+i), Address: "192.0.2.1:22", Provisioner: "root", CreatedAt: tx.Now(), Version: 1}
				ids, said[t.ID] = append(ids, t.ID), generated(chunk*100+i)
				ok(b, tx.AddTarget(ctx, &t))
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
	}
	s, err := scan.New(scan.Config{Broker: h, Run: func(_ context.Context, d broker.Discovery, _ string, _ []byte, _ int64) ([]byte, error) {
		return []byte(said[d.Target.ID]), nil
	}})
	ok(b, err)
	round := func() time.Duration {
		began := time.Now()
		for _, id := range ids {
			ok(b, s.ScanDue(ctx, id))
		}
		return time.Since(began)
	}
	for b.Loop() {
		b.ReportMetric(round().Seconds(), "s/first")
		b.ReportMetric(round().Seconds(), "s/again")
	}
	totals, err := h.ScanTotals(ctx)
	if err != nil || totals.Scanned != many {
		b.Errorf("%+v, %v", totals, err)
	}
}
