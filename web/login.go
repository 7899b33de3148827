package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/web/api"
)

// None is the input of an operation that has none; a body of {} is taken.
type None struct {
	Body *api.Empty
}

func (s *Server) login(ctx context.Context, by access.Caller, in *struct{ Body api.LoginInput }) (api.Login, error) {
	user, mfaAt, err := s.c.Local.Login(ctx, in.Body.User, []byte(in.Body.Password), in.Body.OTP, by.Source)
	if err != nil {
		return api.Login{}, err
	}
	token, l, err := s.c.Logins.Issue(ctx, user, by.Source, "cli", mfaAt)
	if err != nil {
		return api.Login{}, err
	}
	return api.Login{Token: token, ExpiresAt: l.ExpiresAt.UTC(), User: user.Name}, nil
}

// pollEvery is what a client waits between two questions whether its device was
// confirmed.
const pollEvery = 2 * time.Second

func (s *Server) beginDevice(ctx context.Context, by access.Caller, in *struct {
	Agent string `header:"User-Agent" maxLength:"512"`
	Body  *api.Empty
}) (api.DeviceLogin, error) {
	client := in.Agent
	if access.CheckText("", client, 64) != nil {
		client = "unknown" // it is shown only, and may not be a reason to refuse
	}
	d, secret, err := s.c.Logins.StartDevice(ctx, by.Source, client)
	if err != nil {
		return api.DeviceLogin{}, err
	}
	return api.DeviceLogin{
		Code: d.Code, URL: s.url + "/device?code=" + url.QueryEscape(d.Code), Device: secret,
		IntervalSeconds: seconds(pollEvery), ExpiresAt: d.ExpiresAt.UTC(),
	}, nil
}

// A deviceToken is an api.Login, or {} with 202 for not yet.
type deviceToken struct {
	Token     string     `json:"token,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	User      string     `json:"user,omitempty"`
}

func (d deviceToken) status() int {
	if d.Token == "" {
		return http.StatusAccepted
	}
	return http.StatusOK
}

func (s *Server) finishDevice(ctx context.Context, by access.Caller, in *struct{ Body api.DeviceInput }) (deviceToken, error) {
	token, l, err := s.c.Logins.ClaimDevice(ctx, in.Body.Device, by.Source)
	if errors.Is(err, identity.ErrPending) {
		return deviceToken{}, nil
	}
	if err != nil {
		return deviceToken{}, err
	}
	who, err := s.c.Logins.Verify(ctx, token, by.Source, "cli")
	if err != nil {
		return deviceToken{}, err
	}
	return deviceToken{Token: token, ExpiresAt: when(l.ExpiresAt), User: who.User.Name}, nil
}

func (s *Server) setup(ctx context.Context, by access.Caller, in *struct{ Body api.SetupInput }) (api.Empty, error) {
	_, err := s.c.Local.Setup(ctx, in.Body.Token, []byte(in.Body.Password), by.Source, "cli")
	return api.Empty{}, err
}

func (s *Server) logout(ctx context.Context, by access.Caller, _ *None) (api.Empty, error) {
	return api.Empty{}, s.c.Logins.Revoke(ctx, by, by.Login)
}

func (s *Server) version(context.Context, access.Caller, *struct{}) (api.Version, error) {
	return api.Version{Version: s.c.Version, Time: s.now()}, nil
}
