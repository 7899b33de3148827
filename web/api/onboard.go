package api

import (
	"context"
	"net/http"
)

// OnboardInput says how an account that a scan has found becomes ours.
type OnboardInput struct {
	Owner      *string `json:"owner,omitempty"`      // name of a user; "": nobody; none: as it is
	Credential string  `json:"credential,omitempty"` // as in ManageInput
	Managed    Managed `json:"managed,omitzero"`
	// DryRun: it is only said whether it would be done, and otherwise why not.
	DryRun bool `json:"dry_run,omitempty"`
}

// OnboardAccount takes over an account that a scan has found, by its id or as
// NAME@TARGET, and has its password changed by drawbolt from now on, or its key.
func (c *Client) OnboardAccount(ctx context.Context, id string, in OnboardInput) (FoundAccount, error) {
	return call[FoundAccount](ctx, c, http.MethodPost, path("inventory", id, "manage"), nil, in)
}
