package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A role that names a network, and the removal of that network at the same moment:
// one of them is refused.
func TestNetworkInUse(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setGroups("bob", "admins")
		one, other, at := h.as("root"), h.as("bob"), h
		if !strings.HasPrefix(h.url, "sqlite") {
			at = h.another("node2")
		}
		for i := range 20 {
			network := access.Network{Name: fmt.Sprintf("net%d", i), Ranges: []string{"192.0.2.0/24"}}
			_, err := h.SetNetwork(ctx, h.as("root"), network)
			ok(t, err)
			role := access.Role{Name: fmt.Sprintf("role%d", i), Groups: []string{"nobody"}, Rules: []access.Rule{{
				ID: "from", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, Sources: []string{network.Name},
			}}}
			errs := together(
				func() error { _, err := h.SetRole(ctx, one, role); return err },
				func() error { return at.RemoveNetwork(ctx, other, network.Name) },
			)
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("the role: %v; the removal: %v", errs[0], errs[1])
			}
		}
	})
}
