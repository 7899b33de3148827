package web

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiPasskey(k local.Passkey) api.Passkey {
	return api.Passkey{ID: k.ID, Name: k.Name, AddedAt: k.AddedAt.UTC(), UsedAt: when(k.UsedAt), Synced: k.BackupEligible, Blocked: when(k.BlockedAt)}
}

func (s *Server) passkeysOf(ctx context.Context, userID string) (api.List[api.Passkey], error) {
	list, err := s.c.Local.Passkeys(ctx, userID)
	return api.List[api.Passkey]{Items: each(list, apiPasskey)}, err
}

func (s *Server) myPasskeys(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Passkey], error) {
	return s.passkeysOf(ctx, by.User.ID)
}

func (s *Server) passkeys(ctx context.Context, by access.Caller, in *ByName) (api.List[api.Passkey], error) {
	u, err := s.c.Broker.FactorsOf(ctx, by, in.Name)
	if err != nil {
		return api.List[api.Passkey]{}, err
	}
	return s.passkeysOf(ctx, u.ID)
}

// withFactors says of people what second factors they have.
func (s *Server) withFactors(ctx context.Context, list []api.User) ([]api.User, error) {
	factors, err := s.c.Local.SecondFactors(ctx, each(list, func(u api.User) string { return u.ID }))
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].SecondFactors = each(factors[list[i].ID], same)
	}
	return list, nil
}

func apiPrompt(p local.Prompt, by access.Caller) api.PasskeyPrompt {
	return api.PasskeyPrompt{
		RelyingParty: p.RelyingParty, Challenge: base64.RawURLEncoding.EncodeToString(p.Challenge), TimeoutSeconds: seconds(p.Within),
		Credentials: each(p.Credentials, base64.RawURLEncoding.EncodeToString), UserID: by.User.ID, User: by.User.Name, Algorithms: mfa.Algorithms(),
	}
}

func (s *Server) askToSignIn(ctx context.Context, by access.Caller, _ *None) (api.PasskeyPrompt, error) {
	p, err := s.c.Local.AskToSignIn(ctx, by.Source)
	return apiPrompt(p, by), err
}

func (s *Server) askPasskey(ctx context.Context, by access.Caller, in *struct{ Body api.PasskeyAsk }) (api.PasskeyPrompt, error) {
	if in.Body.For == api.PasskeyVote {
		p, err := s.c.Local.AskToVote(ctx, by, in.Body.Digest)
		return apiPrompt(p, by), err
	}
	at, err := s.c.Logins.SignedInAt(ctx, by)
	if err != nil {
		return api.PasskeyPrompt{}, err
	}
	p, err := s.c.Local.AskToAdd(ctx, by, at)
	return apiPrompt(p, by), err
}

// signIn says who has filled in the form of the sign-in page: with a password, with
// that and a passkey, or with a passkey alone.
func (s *Server) signIn(r *http.Request, by access.Caller, name string) (access.User, time.Time, error) {
	ctx, password, answer := r.Context(), []byte(r.PostFormValue("password")), []byte(r.PostFormValue("passkey"))
	switch {
	case len(answer) > 0 && len(password) > 0:
		return s.c.Local.LoginWithPasskey(ctx, name, password, answer, by.Source)
	case len(answer) > 0:
		return s.c.Local.SignInWithPasskey(ctx, answer, by.Source, "web")
	}
	return s.c.Local.Login(ctx, name, password, r.PostFormValue("otp"), by.Source)
}

// proveVote is the caller with the second factor that came with a vote, if one did.
// It is over the digest that is voted on, and counts for nothing else.
func (s *Server) proveVote(r *http.Request, by access.Caller, digest string) (access.Caller, error) {
	answer := r.PostFormValue("passkey")
	if answer == "" {
		return by, nil
	}
	at, err := s.c.Local.ProveVote(r.Context(), by, digest, []byte(answer))
	if err != nil {
		return by, err
	}
	by.MFAAt = at
	return by, nil
}

func (s *Server) hasPasskey(ctx context.Context, by access.Caller) (bool, error) {
	if !s.c.Local.HasPasskeys() {
		return false, nil
	}
	list, err := s.c.Local.Passkeys(ctx, by.User.ID)
	return len(list) > 0, err
}
