package mysql_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/mysql"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

func TestRotator(t *testing.T) {
	m := servers.NewMariaDB(t)
	const user = `o'hara \ -- "x"`
	if err := m.Do(`CREATE USER 'o''hara \\ -- "x"'@'127.0.0.1' IDENTIFIED BY 'First-Passw0rd'; CREATE USER admin@'%' IDENTIFIED BY 'Admin-Passw0rd'; GRANT CREATE USER ON *.* TO admin@'%'`); err != nil {
		t.Fatal(err)
	}
	admin := vault.NewSecret([]byte("Admin-Passw0rd"))
	by := func(who string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return mysql.Rotator{Address: address, User: user, Host: "127.0.0.1", Admin: who, AdminPassword: admin}
		}
	}
	rotatetest.Run(t, rotatetest.Subject{
		Address: m.Address, First: "First-Passw0rd", New: by(""), Reset: by("admin"),
		Change: func(password string) error {
			return m.Do(`ALTER USER 'o''hara \\ -- "x"'@'127.0.0.1' IDENTIFIED BY '` + password + `'`)
		},
	})
	t.Run("not in the log", func(t *testing.T) {
		secret := "Canary-In-The-Log-1"
		if err := by("admin")(m.Address).Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte(secret))); err != nil {
			t.Fatal(err)
		}
		log, err := m.Statements()
		if err != nil || !strings.Contains(log, "mysql_native_password") || strings.Contains(log, secret) {
			t.Errorf("the log has the password, or nothing: %v", err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		var no *rotate.Refusal
		err := mysql.Rotator{Address: m.Address, User: "nobody", Admin: "admin", AdminPassword: admin}.Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte("x")))
		if !errors.As(err, &no) {
			t.Errorf("a user that is not there: %v", err)
		}
	})
	t.Run("locked", func(t *testing.T) {
		if err := m.Do(`ALTER USER 'o''hara \\ -- "x"'@'127.0.0.1' ACCOUNT LOCK`); err != nil {
			t.Fatal(err)
		}
		if err := by("")(m.Address).Check(t.Context(), vault.NewSecret([]byte("x"))); !errors.Is(err, rotate.ErrLocked) && !errors.Is(err, rotate.ErrWrong) {
			t.Error(err)
		}
	})
}
