package notify_test

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/notify/webhook"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/test/servers"
)

func percentiles(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	at := func(p float64) float64 { return float64(times[int(p*float64(len(times)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(.5), "p50-ms")
	b.ReportMetric(at(.95), "p95-ms")
	b.ReportMetric(0, "ns/op")
}

// How long it takes from the moment at which a request is made until a receiver of
// webhooks, over TLS, has it.
func BenchmarkRequestToWebhook(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": servers.Postgres} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, url(b))
			came := make(chan string, 1)
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var e struct{ Subject string }
				body, _ := io.ReadAll(r.Body)
				_ = json.Unmarshal(body, &e)
				came <- e.Subject
			}))
			defer s.Close()
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			out := outbound.New(outbound.Config{Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Roots: roots})
			defer out.Close()
			secret := filepath.Join(b.TempDir(), "secret")
			ok(b, os.WriteFile(secret, []byte(signingSecret), 0o600))
			c, err := webhook.New(webhook.Config{Name: "hooks", Address: notify.Address{URL: s.URL}, SecretFile: secret, Base: base, Out: out})
			ok(b, err)
			defer h.dispatch([]notify.Route{{Channel: c, Type: "webhook", Kinds: []notify.Kind{notify.Asked}}})()
			var times []time.Duration
			for b.Loop() {
				begin := time.Now()
				r := h.ask("alice", "root", "db01")
				if got := <-came; got != r.Request.ID {
					b.Fatalf("the webhook is about %s", got)
				}
				times = append(times, time.Since(begin))
				_, err := h.Cancel(b.Context(), h.as("alice"), r.Request.ID)
				ok(b, err)
			}
			percentiles(b, times)
		})
	}
}

// How long it takes from the approval until whoever waits for it, as a held ssh and
// drawbolt request do, knows.
func BenchmarkApprovalToWaiting(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": servers.Postgres} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, url(b))
			var times []time.Duration
			for b.Loop() {
				r := h.ask("alice", "root", "db01")
				heard := make(chan time.Time, 1)
				waits := make(chan struct{})
				go func() {
					close(waits)
					c, err := h.Await(b.Context(), h.as("alice"), r.Request.ID, r.Version())
					if err != nil || c.Grant == nil {
						b.Errorf("%+v %v", c, err)
					}
					heard <- time.Now()
				}()
				<-waits
				time.Sleep(5 * time.Millisecond) // so that it waits
				begin := time.Now()
				c, err := h.Approve(b.Context(), h.as("bob"), r.Request.ID, r.Request.Digest(), broker.Answer{})
				ok(b, err)
				times = append(times, (<-heard).Sub(begin))
				_, err = h.Release(b.Context(), h.as("alice"), c.Grant.ID)
				ok(b, err)
			}
			percentiles(b, times)
		})
	}
}
