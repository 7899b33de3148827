package web

import (
	"context"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) me(ctx context.Context, by access.Caller, _ *struct{}) (api.Me, error) {
	logins, err := s.c.Logins.List(ctx, by)
	if err != nil {
		return api.Me{}, err
	}
	factors, err := s.c.Local.Factors(ctx, by.User.ID)
	if err != nil {
		return api.Me{}, err
	}
	roles, err := s.c.Broker.OwnRoles(ctx, by)
	if err != nil {
		return api.Me{}, err
	}
	out := api.Me{
		ID: by.User.ID, User: by.User.Name, Display: by.User.Display, Groups: each(by.User.Groups, same), Roles: []string{},
		TOTP: factors.TOTP, SecondFactors: each(factors.Second(), same),
	}
	for _, h := range roles {
		if h.Not != "" {
			out.RolesNotHeld = append(out.RolesNotHeld, api.RoleNotHeld{Name: h.Name, Why: h.Not})
			continue
		}
		out.Roles = append(out.Roles, h.Name)
	}
	if i := slices.IndexFunc(logins, func(l identity.Login) bool { return l.ID == by.Login }); i >= 0 {
		out.LoginExpiresAt = logins[i].ExpiresAt.UTC()
	}
	if !by.MFAAt.IsZero() {
		age := max(0, seconds(s.now().Sub(by.MFAAt)))
		out.MFAAgeSeconds = &age
	}
	return out, nil
}

// parseKey reads one key in the form of authorized_keys, without options: they
// would not be kept, and who wrote them would think they were.
func parseKey(text string) (ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6011", Text: "this is not one SSH public key like ssh-ed25519 AAAA...", Next: "ssh-keygen -t ed25519"}
	}
	return key, nil
}

func keyText(k ssh.PublicKey) string {
	b := ssh.MarshalAuthorizedKey(k)
	return string(b[:len(b)-1]) // without the line feed
}

func (s *Server) certify(ctx context.Context, by access.Caller, in *struct{ Body api.CertificateInput }) (api.Certificate, error) {
	key, err := parseKey(in.Body.PublicKey)
	if err != nil {
		return api.Certificate{}, err
	}
	cert, err := s.c.Broker.Certify(ctx, by, key)
	if err != nil {
		return api.Certificate{}, err
	}
	return api.Certificate{
		Certificate: keyText(cert), HostAuthority: keyText(s.c.Broker.Authorities().Host), HostAuthorities: each(s.c.Broker.Authorities().Hosts, keyText),
		SSHHost: s.sshHost, SSHPort: s.sshPort, ExpiresAt: time.Unix(int64(cert.ValidBefore), 0).UTC(),
	}, nil
}

func (s *Server) listKeys(ctx context.Context, by access.Caller, user string) (api.List[api.Key], error) {
	list, err := s.c.Broker.Keys(ctx, by, user)
	return api.List[api.Key]{Items: each(list, apiKey)}, err
}

func (s *Server) saveKey(ctx context.Context, by access.Caller, user string, in api.KeyInput) (api.Key, error) {
	k, err := s.c.Broker.AddKey(ctx, by, user, in.Key, in.Comment)
	return apiKey(k), err
}

func (s *Server) myKeys(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Key], error) {
	return s.listKeys(ctx, by, by.User.Name)
}

func (s *Server) addMyKey(ctx context.Context, by access.Caller, in *struct{ Body api.KeyInput }) (api.Key, error) {
	return s.saveKey(ctx, by, by.User.Name, in.Body)
}

func (s *Server) removeMyKey(ctx context.Context, by access.Caller, in *struct {
	Fingerprint string `path:"fingerprint" maxLength:"64"`
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveKey(ctx, by, by.User.Name, in.Fingerprint)
}

func (s *Server) setPassword(ctx context.Context, by access.Caller, in *struct{ Body api.PasswordInput }) (api.Empty, error) {
	return api.Empty{}, s.c.Local.ChangePassword(ctx, by, []byte(in.Body.Current), in.Body.OTP, []byte(in.Body.New))
}

func (s *Server) beginTOTP(ctx context.Context, by access.Caller, in *struct{ Body api.TOTPInput }) (api.TOTP, error) {
	e, err := s.c.Local.Enrol(ctx, by, []byte(in.Body.Password), in.Body.OTP)
	return api.TOTP{Secret: e.Secret, URL: e.URL}, err
}

func (s *Server) confirmTOTP(ctx context.Context, by access.Caller, in *struct{ Body api.OTPInput }) (api.Empty, error) {
	at, err := s.c.Local.Confirm(ctx, by, in.Body.OTP)
	if err != nil {
		return api.Empty{}, err
	}
	return api.Empty{}, s.c.Logins.StepUp(ctx, by, at)
}
