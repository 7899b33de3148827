package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker/access"
)

// maxMeasured is how many targets have figures of their own, in the order of their
// names.
const maxMeasured = 20_000

// targetMetrics are figures of each target that was scanned. They stand at an address of
// their own, because a house may have ten thousand targets and what collects its figures
// every few seconds need not have all of theirs.
type targetMetrics struct {
	scans                                           func(ctx context.Context, after string) ([]access.TargetScan, error)
	failed, at, score, ways, accounts, drift, facts *prometheus.Desc
}

// targetFacts are the settings of a scan that are figures, by the name of the fact.
var targetFacts = []string{"pending-updates", "security-updates", "failed-logins", "reboot-needed", "firewall", "disk-encryption"}

func newTargetMetrics(scans func(ctx context.Context, after string) ([]access.TargetScan, error)) targetMetrics {
	of := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("drawbolt_target_"+name, help, append([]string{"target"}, labels...), nil)
	}
	return targetMetrics{
		scans:    scans,
		failed:   of("scan_failed", "1: the last scan of the target did not go well."),
		at:       of("scan_timestamp_seconds", "When a scan of the target went well last; 0: none has."),
		score:    of("score", "Posture of the target in percent."),
		ways:     of("ways", "Ways into the target past the bastion."),
		accounts: of("accounts", "Accounts that were found on the target."),
		drift:    of("drift", "Settings that changed between the last two scans of the target."),
		facts:    of("fact", "What the last scan found out: a number, or 1 for yes and 0 for no.", "fact"),
	}
}

// Describe implements prometheus.Collector.
func (m targetMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.failed, m.at, m.score, m.ways, m.accounts, m.drift, m.facts} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Without the database there are no figures:
// some of the targets would look like all.
func (m targetMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var found []prometheus.Metric
	after := ""
	for n := 0; n < maxMeasured; {
		page, err := m.scans(ctx, after)
		if err != nil {
			to <- prometheus.NewInvalidMetric(m.at, err)
			return
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			found = append(found, m.of(&page[i])...)
		}
		n += len(page)
		after = page[len(page)-1].TargetName
	}
	for _, f := range found {
		to <- f
	}
}

func (m targetMetrics) of(s *access.TargetScan) (list []prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		list = append(list, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.TargetName}, labels...)...))
	}
	failed, at := 0.0, 0.0
	if s.Problem != "" {
		failed = 1
	}
	if !s.At.IsZero() {
		at = float64(s.At.Unix())
	}
	gauge(m.failed, failed)
	gauge(m.at, at)
	if at == 0 {
		return list
	}
	if s.Score >= 0 {
		gauge(m.score, float64(s.Score))
	}
	gauge(m.ways, float64(s.WayCount))
	gauge(m.accounts, float64(s.Accounts))
	gauge(m.drift, float64(len(s.Drift)))
	for _, name := range targetFacts {
		switch v := s.Settings["fact."+name]; v {
		case "yes":
			gauge(m.facts, 1, name)
		case "no":
			gauge(m.facts, 0, name)
		default:
			// What a target says of itself is a whole number that can be, or nothing.
			if n, err := strconv.ParseUint(v, 10, 32); err == nil {
				gauge(m.facts, float64(n), name)
			}
		}
	}
	return list
}
