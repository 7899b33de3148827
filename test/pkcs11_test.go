//go:build linux && pkcs11

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestPKCS11Server runs a server whose root key is in a token (SoftHSM): it starts by itself, keeps
// a secret, is sealed and unsealed, and opens it again after a crash. Without the right
// PIN it does not open, and says why.
func TestPKCS11Server(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "drawboltd")
	build := exec.Command("go", "build", "-tags", "pkcs11", "-o", program, "./cmd/drawboltd")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	must(t, os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	must(t, os.WriteFile(pin, []byte("1234\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "drawbolt", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found, err := filepath.Glob("/usr/lib/*/softhsm/libsofthsm2.so")
	must(t, err)
	module := append(found, "/usr/lib/softhsm/libsofthsm2.so")[0]

	s := prepare(t, t.TempDir(), "", fmt.Sprintf("vault: {master_key: \"pkcs11:root\", pkcs11: {module: %q, token: drawbolt, pin_file: %q}}\n", module, pin))
	s.program = program
	s.init()
	if _, err := os.Stat(filepath.Join(s.dir, "data", "master.key")); !os.IsNotExist(err) {
		t.Errorf("there is a key file as well: %v", err)
	}
	_, err = s.people["admin"].AddTarget(t.Context(), api.TargetInput{Name: "pg01", Kind: "postgres", Address: "127.0.0.1:1", Accounts: []api.AccountInput{{Name: "app"}}})
	must(t, err)
	_, err = s.people["admin"].SetCredential(t.Context(), "pg01", "app", api.CredentialInput{Credential: "password", Secret: []byte(canary("kept"))})
	must(t, err)
	verb := func(args ...string) (string, error) {
		out, err := exec.Command(program, append(args, "--config", s.config)...).CombinedOutput()
		return string(out), err
	}
	for _, what := range [][]string{{"vault", "rotate-root", "--reason", "a test"}, {"seal", "--reason", "a test"}, {"unseal"}, {"status"}} {
		if out, err := verb(what...); err != nil {
			t.Fatalf("%v: %v\n%s", what, err, out)
		}
	}
	s.kill()
	s.start()
	if out, err := verb("status"); err != nil || !strings.Contains(out, "open") {
		t.Errorf("after a crash: %v\n%s", err, out)
	}
	if out, err := verb("doctor"); err != nil && strings.Contains(out, "pkcs11") {
		t.Errorf("the doctor: %s", out)
	}
	s.stop()
	must(t, os.WriteFile(pin, []byte("9999\n"), 0o600))
	cmd := exec.Command(program, "doctor", "--config", s.config)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("with another PIN the doctor finds nothing: %s", out)
	}
}
