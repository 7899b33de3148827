package web

import (
	"reflect"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// Answers list their fields: nothing of the broker's is encoded as it is, so
// that a new field is seen outside only when somebody puts it here.

// when returns a time that may be missing.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// duration reads seconds. What is out of range becomes a duration that no check
// of the broker takes, instead of one that wrapped around.
func duration(s int64) time.Duration {
	const most = int64(access.MaxDuration/time.Second) + 1
	return time.Duration(min(max(s, -1), most)) * time.Second
}

func each[A, B any](list []A, fn func(A) B) []B {
	out := make([]B, 0, len(list))
	for _, a := range list {
		out = append(out, fn(a))
	}
	return out
}

// page makes a list; next is set when there may be more.
func page[A, B any](list []A, limit int, fn func(A) B, id func(A) string) api.List[B] {
	out := api.List[B]{Items: each(list, fn)}
	if limit > 0 && len(list) >= limit {
		out.Next = id(list[len(list)-1])
	}
	return out
}

func apiNeeds(list []access.Need) []api.Need { return each(list, apiNeed) }

func apiNeed(n access.Need) api.Need {
	return api.Need{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: seconds(n.EscalateAfter), EscalateTo: n.EscalateTo}
}

func apiApproval(a access.Approval) api.Approval {
	return api.Approval{
		User: a.UserName, Comment: a.Comment, DurationSeconds: seconds(a.Duration), At: a.At.UTC(),
		Without: a.Narrowing.Without, FourEyes: a.Narrowing.FourEyes, InPlace: a.StandsFor != "",
	}
}

func apiGrant(g *access.Grant, now time.Time) *api.Grant {
	if g == nil {
		return nil
	}
	out := &api.Grant{
		ID: g.ID, State: string(g.StateAt(now)), Start: when(g.Start), End: g.End.UTC(), ActivateBy: g.ActivateBy.UTC(),
		EndedBy: g.EndedBy, EndNote: g.EndNote, DurationSeconds: seconds(g.Duration),
	}
	if reason, at, ended := g.EndAt(now); ended {
		out.EndReason, out.End = string(reason), at.UTC()
	}
	return out
}

func apiSession(s access.Session) api.Session {
	out := api.Session{
		ID: s.ID, State: string(s.State), Grant: s.GrantID, Request: s.RequestID, User: s.UserName, Target: s.TargetName,
		Account: s.Account, Kind: s.Kind, Command: s.Command, Source: s.Source, Client: s.Client, Node: s.Node,
		OpenedAt: s.OpenedAt.UTC(), ClosedAt: when(s.ClosedAt), EndReason: s.EndReason, ExitStatus: s.ExitStatus, Risks: s.Risks,
	}
	if s.Recording.Name != "" {
		sealed := apiSealed(s.Recording)
		out.Recording = &sealed
	}
	if !s.DeletedAt.IsZero() {
		out.Deleted = &api.Deletion{At: s.DeletedAt.UTC(), Rule: s.Deletion.Rule, Reason: s.Deletion.Reason, By: s.Deletion.By}
	}
	return out
}

func apiSealed(r access.Sealed) api.Sealed {
	return api.Sealed{Name: r.Name, SHA256: r.SHA256, Size: r.Size, Events: r.Events, Aborted: r.Aborted}
}

func apiKey(k access.PublicKey) api.Key {
	return api.Key{Fingerprint: k.Fingerprint, Key: k.Key, Comment: k.Comment, CreatedAt: k.CreatedAt.UTC()}
}

func apiUser(u access.User) api.User {
	return api.User{
		ID: u.ID, Name: u.Name, Display: u.Display, Groups: each(u.Groups, same), Attributes: u.Attributes, Bot: u.Bot, OwnerID: u.OwnerID,
		Locked: u.Locked, LockReason: u.LockReason, CreatedAt: u.CreatedAt.UTC(), Version: u.Version,
	}
}

func same(s string) string { return s }

func apiTarget(t access.Target) api.Target {
	return api.Target{
		ID: t.ID, Name: t.Name, Kind: t.Kind, Address: t.Address, Labels: api.Labels(t.Labels), Applications: t.Applications,
		Accounts: each(t.Accounts, func(a access.Account) api.Account {
			return api.Account{Name: a.Name, Credential: a.Credential, Made: (*api.AccountTemplate)(a.Made), KnownAs: a.KnownAs, Managed: apiManaged(a.Managed)}
		}),
		Provisioner: t.Provisioner, PrincipalsFolder: t.PrincipalsFolder, ScanAccount: t.ScanAccount, Facts: apiFacts(t.Facts),
		HostKeys: t.HostKeys, Via: t.Via, HopAccount: t.HopAccount, Locked: t.Locked, LockReason: t.LockReason, CreatedAt: when(t.CreatedAt), Version: t.Version,
	}
}

func apiFacts(facts map[string]access.Fact) map[string]api.Fact {
	var out map[string]api.Fact
	for name, f := range facts {
		if out == nil {
			out = map[string]api.Fact{}
		}
		out[name] = api.Fact{Value: f.Value, At: f.At.UTC(), By: f.By}
	}
	return out
}

func accessTarget(in api.TargetInput) access.Target {
	return access.Target{
		Name: in.Name, Kind: in.Kind, Address: in.Address, Labels: access.Labels(in.Labels), Applications: in.Applications, HostKeys: in.HostKeys,
		Via: in.Via, HopAccount: in.HopAccount, Provisioner: in.Provisioner, PrincipalsFolder: in.PrincipalsFolder, ScanAccount: in.ScanAccount,
		Accounts: each(in.Accounts, func(a api.AccountInput) access.Account {
			if a.Credential == "" {
				a.Credential = access.CredentialCertificate
			}
			return access.Account{Name: a.Name, Credential: a.Credential, Made: (*access.AccountTemplate)(a.Made), KnownAs: a.KnownAs}
		}),
		Version: in.Version,
	}
}
