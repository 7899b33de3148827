package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Each target that was scanned has its figures, over all pages; what was never found
// out has none, and what a target claims of itself is a number or nothing.
func TestTargetMetrics(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	scans := []access.TargetScan{
		{TargetName: "db01", At: at, Score: 73, WayCount: 2, Accounts: 9, Drift: []string{"a setting"}, Settings: map[string]string{
			"fact.pending-updates": "12", "fact.firewall": "yes", "fact.disk-encryption": "no", "fact.failed-logins": "-1", "fact.reboot-needed": "NaN",
		}},
		{TargetName: "db02", At: at, Score: -1},
		{TargetName: "db03", Problem: "refused"},
	}
	var failing error
	m := newTargetMetrics(func(_ context.Context, after string) ([]access.TargetScan, error) {
		i := slices.IndexFunc(scans, func(s access.TargetScan) bool { return s.TargetName > after })
		if i < 0 {
			return nil, failing
		}
		return scans[i : i+1], nil
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	gathered := func() string {
		families, err := registry.Gather()
		if err != nil {
			return err.Error()
		}
		var lines []string
		for _, f := range families {
			for _, g := range f.Metric {
				line := strings.TrimPrefix(f.GetName(), "drawbolt_target_")
				for _, l := range g.Label {
					line += " " + l.GetValue()
				}
				lines = append(lines, line+" "+strconv.FormatFloat(g.Gauge.GetValue(), 'f', -1, 64))
			}
		}
		return strings.Join(lines, "\n")
	}
	const want = `accounts db01 9
accounts db02 0
drift db01 1
drift db02 0
fact disk-encryption db01 0
fact firewall db01 1
fact pending-updates db01 12
scan_failed db01 0
scan_failed db02 0
scan_failed db03 1
scan_timestamp_seconds db01 1800000000
scan_timestamp_seconds db02 1800000000
scan_timestamp_seconds db03 0
score db01 73
ways db01 2
ways db02 0`
	if got := gathered(); got != want {
		t.Errorf("got\n%s", got)
	}
	failing = errors.New("the database has gone")
	if got := gathered(); !strings.Contains(got, "the database has gone") {
		t.Errorf("some targets look like all: %s", got)
	}
}
