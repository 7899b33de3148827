//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestSecretsStaySecret uses a server with secrets that can be told apart from
// everything else, and then looks for them where they must not be.
func TestSecretsStaySecret(t *testing.T) {
	x := newSite(t, "", "", 4)
	ctx := t.Context()
	secrets := map[string]string{} // by what it is
	var answers bytes.Buffer
	for _, p := range x.people {
		secrets["the password of "+p.name] = p.password
		secrets["the login of "+p.name] = p.Token
	}
	secrets["the setup token"] = x.setup

	code, err := x.bob.BeginTOTP(ctx, api.TOTPInput{Password: x.bob.password})
	must(t, err)
	otp, err := totp.GenerateCode(code.Secret, time.Now())
	must(t, err)
	must(t, x.bob.ConfirmTOTP(ctx, otp))
	secrets["the secret of an authenticator"] = code.Secret
	if raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(code.Secret); err == nil {
		secrets["the secret of an authenticator, decoded"] = string(raw)
	}
	device, err := x.client("").BeginDeviceLogin(ctx)
	must(t, err)
	secrets["the secret of a device"] = device.Device

	// Mistakes: what was typed must not come back, nor be logged.
	for _, bad := range []api.LoginInput{
		{User: canary("user"), Password: canary("mistyped")}, {User: "alice", Password: canary("mistyped")}, {User: canary("user") + "\n", Password: canary("mistyped")}, {User: "bob", Password: x.bob.password, OTP: "000000"},
	} {
		_, err := x.client("").Login(ctx, bad)
		if err == nil {
			t.Error("a mistake logs in")
		}
		fmt.Fprintf(&answers, "%v %+v\n", err, api.AsProblem(err))
		if bad.User != "bob" {
			secrets["a mistyped password"+bad.User] = bad.Password
		}
	}
	for _, body := range []string{`{"user":"alice","pasword":"%s"}`, `{"user":"alice","password":"%s"`, `{"user":"alice","password":["%s"]}`, `%s`} {
		secret := canary("mistake")
		secrets["a mistake in "+body] = secret
		text := fmt.Sprintf(body, secret)
		_, answer := x.raw("127.0.0.1", "POST /v1/login HTTP/1.1\r\nHost: "+strings.TrimPrefix(x.url, "https://")+"\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "+fmt.Sprint(len(text))+"\r\n\r\n"+text)
		answers.WriteString(answer)
	}
	token := canary("token")
	secrets["a wrong token"] = token
	_, answer := x.raw("127.0.0.1", "GET /v1/me?token="+token+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	answers.WriteString(answer)

	// A session, and what is typed in it.
	reason := "INC-1 " + canary("reason")
	r, err := x.alice.Request(ctx, api.RequestInput{Target: "db01", Account: "acct00", DurationSeconds: 600, Reason: reason})
	must(t, err)
	r, err = x.bob.Approve(ctx, r.ID, api.ApproveInput{Digest: r.Digest, Comment: canary("comment")})
	must(t, err)
	sh, err := x.shell(x.alice, "acct00", "db01")
	must(t, err)
	shown, unseen := canary("shown"), canary("unseen")
	secrets["what was typed unseen"] = unseen
	fmt.Fprint(sh.in, shown+"\r")
	eventually(t, time.Minute, "the echo", func() bool { return strings.Contains(sh.out.String(), shown) })
	x.target.mute.Store(true)
	fmt.Fprint(sh.in, unseen+"\r")
	eventually(t, time.Minute, "what is typed unseen", func() bool {
		data, _ := x.heardBy(r).get()
		return strings.Contains(data, unseen)
	})
	pid := x.pid()
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		must(t, err)
		look(t, "/proc/PID/"+name, b, secrets)
	}
	running := folder(t, x.dir)
	look(t, "the data folder while a session runs", running, secrets)
	look(t, "the data folder while a session runs", running, map[string]string{"what was shown": shown})
	_, err = x.bob.Revoke(ctx, r.ID, canary("why"))
	must(t, err)
	<-sh.done
	eventually(t, time.Minute, "the text of the recording", func() bool {
		found, err := x.carol.Search(ctx, api.SearchFilter{Query: "canary-shown"})
		return err == nil && len(found.Items) > 0
	})
	x.stop()
	if !bytes.Contains(folder(t, x.dir), []byte(shown)) {
		t.Error("the text that is searched stands somewhere else")
	}
	look(t, "the data folder after a session", folder(t, x.dir), secrets)

	// An installation that is not searched does not keep what was shown either.
	config, err := os.ReadFile(x.config)
	must(t, err)
	must(t, os.WriteFile(x.config, bytes.Replace(config, []byte("recordings: {"), []byte("recordings: {search: false, "), 1), 0o600))
	x.start()
	x.stop()
	secrets["what was shown"] = shown

	// The keys of the installation, as only the master key opens them.
	master, err := os.ReadFile(filepath.Join(x.dir, "data", "master.key"))
	must(t, err)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(master)))
	must(t, err)
	forms(secrets, "the master key", raw)
	k, err := keeper.File(filepath.Join(x.dir, "data", "master.key"))
	must(t, err)
	db, err := store.Open(context.Background(), store.Config{URL: "sqlite://" + filepath.Join(x.dir, "data", "drawbolt.db")})
	must(t, err)
	v, err := vault.Open(context.Background(), vault.Config{Backend: db.VaultRecords(), Keeper: k})
	must(t, err)
	ids, err := db.VaultRecords().List(context.Background(), "")
	must(t, err)
	opened := 0
	for _, id := range ids {
		if s, _, err := v.Get(context.Background(), id); err == nil {
			opened++
			forms(secrets, id, s.Expose())
		}
	}
	must(t, db.Close())
	if opened < 7 {
		t.Errorf("only %d of the records %q were opened", opened, ids)
	}
	all := folder(t, x.dir)
	look(t, "the data folder", all, secrets)
	look(t, "an answer", answers.Bytes(), secrets)
	b, err := os.ReadFile(x.log)
	must(t, err)
	look(t, "server.log", b, secrets)
	look(t, "server.log", b, map[string]string{"a reason": reason})
	if !bytes.Contains(b, []byte("session ended")) || !bytes.Contains(all, []byte(reason)) {
		t.Error("this test looks in the wrong place")
	}
}

// forms adds a secret in the ways in which it could be written.
func forms(secrets map[string]string, what string, b []byte) {
	secrets[what] = string(b)
	secrets[what+", base64"] = base64.StdEncoding.EncodeToString(b)
	secrets[what+", base64 of URLs"] = base64.RawURLEncoding.EncodeToString(b)
	secrets[what+", hex"] = hex.EncodeToString(b)
}

func look(t *testing.T, where string, in []byte, secrets map[string]string) {
	t.Helper()
	for what, secret := range secrets {
		if len(secret) < 8 {
			t.Errorf("%s is too short to look for", what)
		} else if bytes.Contains(in, []byte(secret)) {
			t.Errorf("%s stands in %s", what, where)
		}
	}
}

// folder is the content of all files of an installation but the master key.
func folder(t *testing.T, dir string) []byte {
	t.Helper()
	var all bytes.Buffer
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if strings.HasPrefix(path, filepath.Join(dir, "data")) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if e.Name() == "master.key" {
			return nil
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	}))
	return all.Bytes()
}
