package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/broker/indexing"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/oncall"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/broker/provision"
	"github.com/drawbolt/drawbolt/broker/push"
	"github.com/drawbolt/drawbolt/broker/rotation"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/objects"
	"github.com/drawbolt/drawbolt/recorder/video"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/web"
	"github.com/drawbolt/drawbolt/web/slack"
)

// An App is a whole server, wired and not yet running. It decides nothing.
type App struct {
	config Config
	since  time.Time // it was made
	log    *slog.Logger
	db     *store.DB
	keys   *Keys
	marks  *vault.Marks
	vaultWork
	bundle   *bundleSource
	broker   *broker.Broker
	onCall   *oncall.Schedules // nil: there are none
	logins   *identity.Logins
	local    *local.Provider
	sink     recorder.Sink // where recordings are
	made     recorder.Sink // where the recorder puts them; on this machine
	objects  recorder.Sink // sink, without the headers
	queue    *objects.Queue
	bucket   *objects.Bucket
	recorder *recorder.Recorder
	accounts *provision.Provisioner
	pusher   *push.Pusher
	scanner  *scan.Scanner
	rotation *rotation.Worker
	worker   view.Worker
	films    video.Maker
	indexer  *indexing.Indexer
	bastion  *bastion.Bastion
	ssh      *sshproxy.Server
	web      *web.Server
	tls      *tls.Config
	outbound *outbound.Client
	routes   []notify.Route
	notices  *notify.Dispatcher
	slack    *slack.Slack // nil: none is configured
	told     *prometheus.CounterVec

	https, sshd, metrics net.Listener
	closers              []func() error // last in, first out
}

// NewApp opens and wires everything, of a vault that takes no people to open. What it
// opened before an error is closed. create makes keys that are missing, which only init
// and demo do.
func NewApp(ctx context.Context, c Config, log *slog.Logger, create bool) (*App, error) {
	return newApp(ctx, c, log, opening{create: create})
}

func newApp(ctx context.Context, c Config, log *slog.Logger, o opening) (_ *App, err error) {
	a := &App{config: c, since: time.Now().UTC(), log: log, vaultWork: newVaultWork()}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, err
	}
	if err := a.openStore(ctx, o); err != nil {
		return nil, err
	}
	if err := a.openBroker(ctx); err != nil {
		return nil, err
	}
	if err := a.openNotices(); err != nil {
		return nil, err
	}
	if err := a.openRecorder(); err != nil {
		return nil, err
	}
	if err := a.openViews(); err != nil {
		return nil, err
	}
	return a, a.openFronts()
}

func (a *App) openStore(ctx context.Context, o opening) (err error) {
	if a.db, err = a.config.openDatabase(ctx); err != nil {
		return err
	}
	a.closers = append(a.closers, a.db.Close, a.recordTampered)
	// Nothing that could be searched stays behind when nothing is to be.
	prepare := a.db.DropText
	if a.config.Recordings.Search {
		prepare = a.db.PrepareText
	}
	if err := prepare(ctx); err != nil {
		return err
	}
	v, err := a.openVault(ctx, o)
	if people := (peopleError{}); errors.As(err, &people) {
		return err
	}
	if err != nil {
		if !o.create {
			return fmt.Errorf("%w (is this installation set up? drawboltd init)", err)
		}
		return err
	}
	if o.create {
		if err := createKeys(ctx, v, origin(a.config)); err != nil {
			return err
		}
	}
	a.keys, err = openKeys(ctx, v)
	return err
}

// origin names the audit log: the host that people know.
func origin(c Config) string {
	u, err := url.Parse(c.Server.ExternalURL)
	if err != nil || u.Hostname() == "" {
		return "drawbolt"
	}
	return "drawbolt/" + u.Hostname()
}

func (a *App) openBroker(ctx context.Context) error {
	inProgram, err := builtIn()
	if err != nil {
		return err
	}
	if a.bundle, err = openBundle(ctx, a.config, a.db, a.log); err != nil {
		return err
	}
	engine, err := policy.NewEngine(a.bundle.program, 0)
	if err != nil {
		return err
	}
	tickets, err := a.config.ticketSystem()
	if err != nil {
		return err
	}
	if err := a.openOnCall(); err != nil {
		return err
	}
	var onCall broker.OnCall // nil, and not a nil in it
	if a.onCall != nil {
		onCall = a.onCall
	}
	a.broker, err = broker.New(ctx, broker.Config{
		Store: a.db, Policy: engine, BuiltIn: inProgram.Digest(), OnCall: onCall,
		UserCA: a.keys.userCA, HostCA: a.keys.hostCA, IdentityCA: a.keys.identityCA, Vault: a.keys.vault,
		Signer: a.keys.signer, Verifier: a.keys.verifier, KeepCheckpoint: a.keepCheckpoint,
		Node:             a.config.Server.Name,
		DecideWithin:     time.Duration(a.config.Requests.DecideWithin),
		ActivationWindow: time.Duration(a.config.Requests.ActivationWindow),
		DefaultDuration:  time.Duration(a.config.Requests.DefaultDuration),
		CertificateTTL:   time.Duration(a.config.SSH.UserCertTTL),
		IdentityTTL:      time.Duration(a.config.Auth.SessionTTL),
		CheckpointEvery:  time.Duration(a.config.Audit.CheckpointEvery),
		KeepDays:         a.config.Recordings.KeepDays,
		SessionIdle:      time.Duration(a.config.SSH.IdleTimeout),
		Sessions: broker.SessionLimits{
			PerPerson: a.config.SSH.Sessions.PerPerson, PerTarget: a.config.SSH.Sessions.PerTarget, PerPersonAndTarget: a.config.SSH.Sessions.PerPersonAndTarget,
		},
		Glass:  a.glassRules(),
		Digest: a.config.digest(),
		Search: a.config.Recordings.Search, Tickets: tickets, Programs: a.config.programs(), Log: a.log,
	})
	if err != nil {
		return err
	}
	if a.logins, err = identity.New(identity.Config{Store: a.db.Identities(), Codes: a.db.Identities(), Key: a.keys.token, Issuer: a.config.Server.ExternalURL, TTL: time.Duration(a.config.Auth.SessionTTL)}); err != nil {
		return err
	}
	// An address at which browsers make no passkeys is no mistake: there are none then.
	party, err := mfa.NewRelyingParty(a.config.Server.ExternalURL)
	if err != nil {
		a.log.Info("there are no passkeys", "why", err)
	}
	a.local, err = local.New(local.Config{
		Store: a.db.Identities(), Sealer: authenticatorKeys{a.keys.vault}, Issuer: strings.TrimPrefix(origin(a.config), "drawbolt/"), RelyingParty: party,
	})
	return err
}

// openOnCall reads which schedules there are.
func (a *App) openOnCall() (err error) {
	if a.config.OnCall.File == "" {
		return nil
	}
	internal, err := prefixes(a.config.OnCall.Internal)
	if err != nil {
		return err
	}
	out := outbound.New(outbound.Config{Internal: internal})
	a.closers = append(a.closers, func() error { out.Close(); return nil })
	a.onCall, err = oncall.New(oncall.Config{File: a.config.OnCall.File, Out: out, Log: a.log})
	return err
}

// keepCheckpoint replaces the file by rename, so that a crash leaves the old
// one or the new one.
func (a *App) keepCheckpoint(message []byte) error {
	return replaceFile(a.config.Audit.CheckpointFile, message)
}

func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (a *App) openRecorder() error {
	recipients, err := parseRecipients(a.config.Recordings.Recipients)
	if err != nil {
		return fmt.Errorf("recordings.recipients: %w", err)
	}
	hidden, err := parseRecipients(a.config.Recordings.Hidden)
	if err != nil {
		return fmt.Errorf("recordings.hidden_recipients: %w", err)
	}
	if len(hidden) == 0 {
		hidden = []age.Recipient{a.keys.hidden.Recipient()}
	}
	floor, err := a.config.minFree()
	if err != nil {
		return err
	}
	if err := a.openSinks(); err != nil {
		return err
	}
	a.recorder, err = recorder.New(recorder.Config{
		Journals: filepath.Join(a.config.Data, "journals"), Sink: a.made,
		Recipients: append(recipients, a.keys.recording.Recipient()), Hidden: hidden,
		Wrapper: journalKeys{a.keys.vault}, Signer: a.keys.signer,
		Floor: floor, Folders: []string{a.config.Recordings.Folder},
	})
	return err
}

func (a *App) openViews() error {
	program, err := ownProgram()
	if err != nil {
		return err
	}
	var index indexing.Index
	if a.config.Recordings.Search {
		index = a.db
	}
	a.worker = view.Worker{Command: []string{program, viewVerb}}
	a.films = video.Maker{Command: []string{program, videoVerb}}
	a.indexer, err = indexing.New(indexing.Config{
		Store: a.db, Make: a.worker.Make, Sink: a.sink, Key: a.keys.recording, Index: index,
		OpenCast: func(ctx context.Context, s access.Session) (io.ReadCloser, error) { return a.openCast(ctx, s) },
		Node:     a.config.Server.Name, Workers: a.config.Recordings.Workers, Log: a.log,
	})
	return err
}

func parseRecipients(texts []string) (list []age.Recipient, err error) {
	for _, s := range texts {
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

func (a *App) openFronts() error {
	var err error
	if a.accounts, err = provision.New(provision.Config{Broker: a.broker, Run: sshproxy.Machines{Broker: a.broker}.Run, Log: a.log}); err != nil {
		return err
	}
	if a.pusher, err = push.New(push.Config{Broker: a.broker, Run: sshproxy.Machines{Broker: a.broker}.Bring, Log: a.log}); err != nil {
		return err
	}
	if err := a.openScanner(); err != nil {
		return err
	}
	if err := a.openRotation(); err != nil {
		return err
	}
	if a.bastion, err = bastion.New(bastion.Config{
		Broker: a.broker, Recorder: a.recorder, Accounts: a.accounts, Idle: time.Duration(a.config.SSH.IdleTimeout), Log: a.log,
		Sessions: a.config.SSH.Sessions.Total,
	}); err != nil {
		return err
	}
	if a.ssh, err = sshproxy.New(sshproxy.Config{
		Broker: a.broker, Bastion: a.bastion, HostKey: a.keys.bastion, Name: hostOf(a.config.SSH.ExternalAddress),
		RequestURL: func(id string) string { return strings.TrimSuffix(a.config.Server.ExternalURL, "/") + "/r/" + id },
		Limits:     sshproxy.Limits{Hold: time.Duration(a.config.SSH.HoldTimeout), Reminder: time.Duration(a.config.SSH.BannerInterval)},
		Log:        a.log,
	}); err != nil {
		return err
	}
	proxies, err := a.config.proxies()
	if err != nil {
		return err
	}
	if a.tls, err = serverTLS(a.config); err != nil {
		return err
	}
	front := web.Config{
		Broker: a.broker, Logins: a.logins, Local: a.local,
		OpenCast: a.openCast, OpenSealed: a.openSealed, OpenView: a.OpenView, Film: a.films.Make, MayFilm: a.films.Works, System: a.system, Follow: a.recorder.Follow, Enter: a.ssh.Enter,
		Check: sshproxy.Machines{Broker: a.broker}.Check, Discover: a.scanner.Scan, PinnedTLS: pinnedTLS(a.tls), CheckLog: a.checkLog, BundleSigner: a.bundle.signer(),
		ExternalURL: a.config.Server.ExternalURL, SSHAddress: a.config.SSH.ExternalAddress,
		TrustedProxies: proxies, Version: version, VerifierKey: a.keys.verifierKey, Ready: a.ready, Log: a.log,
	}
	a.slackFront(&front)
	a.web, err = web.New(front)
	return err
}

// hostOf is the host of an address that the configuration was checked for.
func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return strings.ToLower(host)
}

// ready reports whether this server can do its work.
func (a *App) ready(ctx context.Context) error {
	return a.db.Ping(ctx)
}

func (a *App) openSealed(ctx context.Context, s access.Session) (io.ReadCloser, error) {
	f, err := a.sink.Open(ctx, s.Recording.Name)
	if err != nil {
		return nil, err
	}
	return reading{io.NewSectionReader(f, 0, f.Size()), f}, nil
}

func (a *App) openCast(ctx context.Context, s access.Session) (io.ReadSeekCloser, error) {
	f, err := a.sink.Open(ctx, s.Recording.Name)
	if err != nil {
		return nil, err
	}
	r, err := recorder.OpenDamaged(f, f.Size(), a.keys.recording)
	if err != nil {
		f.Close()
		return nil, err
	}
	return salvaging{r, f}, nil
}

// salvaging can say what of the recording could not be read.
type salvaging struct {
	*recorder.Salvage
	io.Closer
}

// OpenView opens the view of a session's recording for view.Read. The error wraps
// fs.ErrNotExist while there is none.
func (a *App) OpenView(ctx context.Context, s access.Session) (io.ReadSeekCloser, error) {
	return a.indexer.Open(ctx, s)
}

type reading struct {
	io.ReadSeeker
	io.Closer
}

// Listen takes the addresses; after it, Addresses are known.
func (a *App) Listen() error {
	for _, l := range []struct {
		to      *net.Listener
		name    string
		address string
	}{
		{&a.https, "https", a.config.Server.Listen.HTTPS},
		{&a.sshd, "ssh", a.config.Server.Listen.SSH},
		{&a.metrics, "metrics", a.config.Server.Listen.Metrics},
	} {
		if l.address == "" {
			continue
		}
		ln, err := net.Listen("tcp", l.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", l.name, err)
		}
		*l.to = ln
		a.closers = append(a.closers, func() error { ln.Close(); return nil })
	}
	return nil
}

// Run serves until ctx ends, then lets sessions and answers end, and returns
// when everything that it started has. Recordings that a crash left behind are
// sealed before the first new session.
func (a *App) Run(ctx context.Context) error {
	if err := a.checkLog(ctx); errors.Is(err, errNoKept) {
		a.log.WarnContext(ctx, "the audit log cannot be compared", "error", err)
	} else if err != nil {
		return err
	}
	if err := a.recoverSessions(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// The broker and the recorder stop last: ending sessions need both.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	var fronts, services sync.WaitGroup
	start := func(wg *sync.WaitGroup, ctx context.Context, name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	start(&services, base, "broker", a.broker.Run)
	if a.onCall != nil {
		a.onCall.Refresh(ctx) // before anybody is asked who is
		start(&services, base, "on call", func(ctx context.Context) error { a.onCall.Run(ctx); return nil })
	}
	start(&services, base, "recorder", a.recorder.Run)
	start(&services, base, "accounts", a.accounts.Run)
	start(&services, base, "push", a.pusher.Run)
	start(&services, base, "scan", a.scanner.Run)
	start(&services, base, "rotation", a.rotation.Run)
	start(&services, base, "notices", a.notices.Run)
	if a.slack != nil {
		start(&services, base, "slack", a.slack.Run)
	}
	if a.config.Recordings.Views {
		start(&services, base, "views", a.indexer.Run)
	}
	start(&services, base, "policy", func(ctx context.Context) error { return a.bundle.Run(ctx, a.broker) })
	start(&services, base, "housekeeping", a.housekeeping)
	start(&services, base, "vault", a.runVault)
	start(&services, base, "retention", a.retention)
	start(&services, base, "memory", giveBack)
	start(&services, base, "room", a.watchRoom)
	if a.queue != nil {
		start(&services, base, "queue of recordings", a.queue.Run)
	}
	if a.config.Recordings.S3.ColdClass != "" {
		start(&services, base, "cold recordings", a.cool)
	}
	start(&fronts, ctx, "ssh", func(ctx context.Context) error { return a.ssh.Serve(ctx, a.sshd) })
	start(&fronts, ctx, "https", func(ctx context.Context) error {
		return a.web.Serve(ctx, tls.NewListener(a.https, a.tls))
	})
	if a.metrics != nil {
		start(&fronts, ctx, "metrics", a.serveMetrics)
	}
	fronts.Wait()
	stopBase()
	services.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// errNoKept: there were checkpoints, and the one outside the database is gone.
var errNoKept = errors.New("no checkpoint is kept outside the database any more, so a rollback could not be seen")

// checkLog compares the database with the checkpoint that is kept outside it.
func (a *App) checkLog(ctx context.Context) error {
	kept, err := os.ReadFile(a.config.Audit.CheckpointFile)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := a.db.LastCheckpoint(ctx); err == nil {
			return errNoKept
		}
		return nil // nothing was ever signed
	}
	if err == nil {
		err = a.broker.CheckLog(ctx, kept)
	}
	if err != nil {
		return fmt.Errorf("the audit log does not agree with %s: %w", a.config.Audit.CheckpointFile, err)
	}
	return nil
}

// recoverSessions seals what a crash left in the journals and closes the
// sessions that were open then.
func (a *App) recoverSessions(ctx context.Context) error {
	if err := a.recoverRecordings(ctx); err != nil {
		return err
	}
	n, err := a.broker.Abandoned(ctx, func(id string) access.Sealed { return a.sealedBefore(ctx, id) })
	if n > 0 {
		a.log.WarnContext(ctx, "closed sessions that the last stop left open", "sessions", n)
	}
	if err != nil {
		return err
	}
	return errors.Join(a.broker.AbandonSteps(ctx), a.broker.AbandonRotations(ctx))
}

// recoverRecordings seals the journals that nobody writes any more and puts
// their hashes on record. One that cannot be sealed now is tried again.
func (a *App) recoverRecordings(ctx context.Context) error {
	return a.recorder.Recover(ctx, func(s recorder.Sealed, err error) {
		if err == nil {
			err = a.broker.Recovered(ctx, s.ID, sealedOf(s), hex.EncodeToString(s.Head[:]))
		}
		if err != nil {
			a.log.ErrorContext(ctx, "a recording could not be recovered", "session", s.ID, "error", err)
		}
	})
}

func sealedOf(s recorder.Sealed) access.Sealed {
	return access.Sealed{Name: s.Name, SHA256: hex.EncodeToString(s.SHA256[:]), Size: s.Size, Events: s.Events, Aborted: s.Aborted}
}

// sealedBefore finds the recording of a session that was sealed right before
// the crash kept its hash from being saved.
func (a *App) sealedBefore(ctx context.Context, id string) access.Sealed {
	name := id + recorder.Suffix
	f, err := a.sink.Open(ctx, name)
	if err != nil {
		return access.Sealed{}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
		return access.Sealed{}
	}
	return access.Sealed{Name: name, SHA256: hex.EncodeToString(h.Sum(nil)), Size: f.Size()}
}

// housekeeping forgets what has expired (logins, links, counters), tries again
// to seal what could not be sealed, and gives memory back: the stacks on which
// sessions were opened are several times as large as those on which they idle,
// and shrink only at a collection, which a quiet server would put off.
func (a *App) housekeeping(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%60 == 0 {
			if err := errors.Join(a.logins.Prune(ctx), a.local.Prune(ctx), a.db.PruneLinks(ctx, time.Now())); err != nil && ctx.Err() == nil {
				a.log.ErrorContext(ctx, "expired logins were not removed", "error", err)
			}
		}
		if err := a.recoverRecordings(ctx); err != nil && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "the journals could not be looked at", "error", err)
		}
		debug.FreeOSMemory()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *App) serveMetrics(ctx context.Context) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_sessions_active", Help: "Sessions that run on this server."}, func() float64 { return float64(a.bastion.Live()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_audit_events", Help: "Events in the audit log."}, func() float64 {
			n, err := a.db.AuditSize(context.Background())
			if err != nil {
				return -1
			}
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_views_waiting", Help: "Recordings whose view is not made yet, on all servers of the database."}, func() float64 { return a.countViews(false) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "drawbolt_views_failed", Help: "Recordings of which no view could be made, on all servers of the database."}, func() float64 { return a.countViews(true) }),
	)
	registry.MustRegister(a.keepingMetrics()...)
	registry.MustRegister(a.told, a.noticeMetrics())
	registry.MustRegister(a.glassMetrics()...)
	registry.MustRegister(a.vaultMetrics()...)
	registry.MustRegister(newScanMetrics(a.broker))
	targets := prometheus.NewRegistry()
	targets.MustRegister(newTargetMetrics(a.broker.ScansAfter))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics/targets", promhttp.HandlerFor(targets, promhttp.HandlerOpts{MaxRequestsInFlight: 1}))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/", a.web.Ops())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(a.metrics); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (a *App) countViews(failed bool) float64 {
	open, lost, err := a.db.CountViews(context.Background())
	switch {
	case err != nil:
		return -1
	case failed:
		return float64(lost)
	default:
		return float64(open)
	}
}

// Close closes what NewApp and Listen opened.
func (a *App) Close() error {
	var err error
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, a.closers[i]())
	}
	a.closers = nil
	return err
}
