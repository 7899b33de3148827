package main

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// TestAlarms: break-glass is to be had when as many ways as the house wants would tell
// of it, which are the log and the channels that are given it; the doctor says so.
func TestAlarms(t *testing.T) {
	data := t.TempDir()
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
			config, err := loadConfig(writeConfig(t, least+"data: "+data+"\nbreakglass:\n  require_alarms: "+string(rune('0'+c.required))+"\nnotifications:\n  channels: "+c.channels+"\n"), nil)
			if err != nil {
				t.Fatal(err)
			}
			config.Recordings.Folder = filepath.Join(data, "recordings")
			ctx := t.Context()
			a, err := NewApp(ctx, config, slog.New(slog.NewTextHandler(io.Discard, nil)), true)
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
