package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
)

// openScanner makes what finds out which accounts targets have.
func (a *App) openScanner() (err error) {
	c := scan.Config{Broker: a.broker, Run: sshproxy.Machines{Broker: a.broker}.Explore, Scheduled: a.config.Discovery.Daily, AtOnce: a.config.Discovery.AtOnce, Log: a.log}
	if c.Profile, err = a.config.profile(); err != nil {
		return err
	}
	a.scanner, err = scan.New(c)
	return err
}

// profile is what settings of targets are held against.
func (c *Config) profile() (discovery.Profile, error) {
	if c.Discovery.Profile == "" {
		return discovery.DefaultProfile()
	}
	p, err := discovery.ReadProfile(os.DirFS(c.Discovery.Profile))
	if err != nil {
		return nil, fmt.Errorf("read discovery.profile: %w", err)
	}
	return p, nil
}

// scanMetrics are figures of what scans have found. Their labels are those of the
// classes and risks there are, never names of targets or accounts.
type scanMetrics struct {
	broker                               *broker.Broker
	targets, classes, risks, ways, score *prometheus.Desc
}

func newScanMetrics(b *broker.Broker) scanMetrics {
	of := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return scanMetrics{
		broker:  b,
		targets: of("drawbolt_scan_targets", "Targets by how their last scan went.", "state"),
		classes: of("drawbolt_scan_accounts", "Accounts that scans have found, by class.", "class"),
		risks:   of("drawbolt_scan_risk", "Accounts that scans have found, by risk.", "risk"),
		ways:    of("drawbolt_scan_ways", "Ways into targets past the bastion."),
		score:   of("drawbolt_scan_score", "Posture of targets in percent: the worst, and the mean; -1: none is known.", "of"),
	}
}

// Describe implements prometheus.Collector.
func (m scanMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.targets, m.classes, m.risks, m.ways, m.score} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Without the database there are no figures.
func (m scanMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	t, err := m.broker.ScanTotals(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.targets, float64(t.Scanned), "scanned")
	gauge(m.targets, float64(t.Failed), "failed")
	for _, c := range discovery.Classes() {
		gauge(m.classes, float64(t.ByClass[string(c)]), string(c))
	}
	for r := discovery.Critical; r <= discovery.Low; r++ {
		gauge(m.risks, float64(t.ByRisk[int64(r)]), r.String())
	}
	gauge(m.ways, float64(t.Ways))
	gauge(m.score, float64(t.WorstScore), "worst")
	gauge(m.score, t.MeanScore, "mean")
}
