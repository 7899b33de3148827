package identitytest_test

import (
	"testing"

	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
)

func TestMemory(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Fixture {
		m := identitytest.NewMemory()
		return identitytest.Fixture{
			Store:   m,
			AddUser: m.PutUser,
			Lock: func(id string, locked bool) {
				u, err := m.User(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				u.Locked = locked
				m.PutUser(u)
			},
		}
	})
}
