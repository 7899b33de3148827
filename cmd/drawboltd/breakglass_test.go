package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// TestAlarms: break-glass is to be had when as many ways as the house wants would tell
// of it, which are the log and the channels that are given it; the doctor says so.
func TestAlarms(t *testing.T) {
	for _, c := range []struct {
		name, channels, state string
		required              int
		ways                  []string
		refused               bool
	}{
		{"the log alone is enough", "[]", "warning", 1, []string{"log"}, false},
		{"the log alone is not", "[]", "error", 2, []string{"log"}, true},
		{"a channel that is told of something else", `[{name: security, type: mail, server: smtps://mail.example.com, from: drawbolt@example.com, kinds: [review.due]}]`, "error", 2, []string{"log"}, true},
		{"a channel that is told", `[{name: security, type: mail, server: smtps://mail.example.com, from: drawbolt@example.com, kinds: [breakglass]}]`, "ok", 2, []string{"log", "security"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := t.TempDir()
			if err := keeper.CreateFile(filepath.Join(data, "master.key")); err != nil {
				t.Fatal(err)
			}
			config, err := loadConfig(writeConfig(t, least+fmt.Sprintf("data: %s\nbreakglass:\n  require_alarms: %d\nnotifications:\n  channels: %s\n", data, c.required, c.channels)), nil)
			if err != nil {
				t.Fatal(err)
			}
			config.Recordings.Folder = filepath.Join(data, "recordings")
			ctx := t.Context()
			a, err := NewApp(ctx, config, slog.New(slog.DiscardHandler), true)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if ways := a.alarms(); !slices.Equal(ways, c.ways) {
				t.Errorf("alarms %q, want %q", ways, c.ways)
			}
			told := a.examineGlass(ctx)[0]
			if told.State != c.state || !strings.Contains(told.Text, strings.Join(c.ways, ", ")) {
				t.Errorf("the doctor says %+v", told)
			}
			by := a.glassHouse(t)
			_, err = a.broker.Request(ctx, by, broker.Ask{Target: "db01", Account: "root", Reason: "INC-1 everything burns", BreakGlass: true})
			refusal, is := errors.AsType[*access.Error](err)
			if refused := is && refusal.Code == "DB-6258"; refused != c.refused || err != nil && !refused {
				t.Errorf("break-glass: %v", err)
			}
		})
	}
}

// glassHouse makes a target, a role that lists break_glass for it and an engineer who
// has that, and returns the engineer.
func (a *App) glassHouse(t *testing.T) access.Caller {
	t.Helper()
	ctx := t.Context()
	by := access.Caller{Source: netip.MustParseAddr("198.51.100.7"), Via: "cli"}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	by.User = access.User{ID: access.NewID(access.UserPrefix), Name: "erin", Version: 1}
	target := access.Target{ID: access.NewID(access.TargetPrefix), Name: "db01", Address: "192.0.2.1:22", Version: 1,
		Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}}
	role := access.Role{Name: "engineers", Users: []string{by.User.ID}, Version: 1, Rules: []access.Rule{
		{ID: "fire", Actions: []string{"break_glass"}, Accounts: []string{"root"}, MaxDuration: time.Hour, Session: access.SessionRules{Shell: true}},
	}}
	if err := a.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, errors.Join(tx.AddUser(ctx, &by.User), tx.AddTarget(ctx, &target), tx.AddRole(ctx, &role))
	}); err != nil {
		t.Fatal(err)
	}
	return by
}
