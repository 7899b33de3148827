package slack_test

import (
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/web/slack"
)

// TestSignInTold: what was done to how somebody signs in is said to them once, and
// where alarms go when it was somebody else.
func TestSignInTold(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	bob := h.as("bob").User
	for i, n := range []notify.Notice{
		{Kind: notify.SignInChanged, Actor: "bob", Way: "an authenticator was added"},
		{Kind: notify.SignInReset, Actor: "root", Way: "a passkey was taken away (<!channel> *phone*)", Text: "INC-7 <!here> stolen"},
	} {
		n.Position, n.At, n.For = int64(70+i), h.clock.now(), &bob
		for range 2 { // the second time it comes again, after a crash
			ok(t, h.app.Notify(soon(t), n))
		}
	}
	direct, loud := h.fake.Messages("D"+slackID("bob")), h.fake.Messages(alerts)
	if len(direct) != 2 || len(loud) != 1 {
		t.Fatalf("bob has %d messages, and there are %d alarms; want 2 and 1", len(direct), len(loud))
	}
	for _, m := range append(direct, loud...) {
		if text := m.Text + string(m.Blocks); strings.Contains(text, "<!channel>") || !strings.Contains(text, "How bob signs in") {
			t.Errorf("told: %s", text)
		}
	}
	if text := string(loud[0].Blocks); !strings.Contains(text, "changed by root") || !strings.Contains(text, "INC-7") {
		t.Errorf("the alarm: %s", text)
	}
}
