package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// An Answer is what an approver says besides yes.
type Answer struct {
	Duration  time.Duration // 0: as asked; never longer
	Narrowing access.Narrowing
	Comment   string
}

// Approve votes for a request. digest is the digest of what the approver was
// shown (Request.Digest); a vote for anything else is refused. With the last
// approval needed the grant opens, in the same transaction.
func (b *Broker) Approve(ctx context.Context, by access.Caller, id, digest string, a Answer) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionApprove, "request.approve", func(tx *store.Tx, by access.Caller, r *access.Request, votes voting, e *audit.Event) error {
		vote := votes.ballot(by, tx.Now())
		vote.Comment, vote.Duration, vote.Narrowing, vote.Digest = a.Comment, a.Duration, a.Narrowing, digest
		approved, err := r.Approve(vote, by.User.Bot, votes.count)
		if err != nil {
			return err
		}
		if err := b.state(by, r, &r.Approvals[len(r.Approvals)-1], true, e); err != nil {
			return err
		}
		detail(e, "duration", access.FormatDuration(r.Granted()))
		detail(e, "narrowing", vote.Narrowing.String())
		if !approved {
			detail(e, "still", "needs more approvals")
		}
		return nil
	})
}

// Deny votes against a request with a reason, which its requester reads. It ends
// the request when as many people have denied it as its rule wants: one, if it
// does not say. The digest may be empty: a no needs no proof of what was shown.
func (b *Broker) Deny(ctx context.Context, by access.Caller, id, digest, reason string) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionDeny, "request.deny", func(tx *store.Tx, by access.Caller, r *access.Request, votes voting, e *audit.Event) error {
		vote := votes.ballot(by, tx.Now())
		vote.Comment, vote.Digest = reason, digest
		denied, err := r.Deny(vote, by.User.Bot)
		if err != nil {
			return err
		}
		if err := tx.RemoveVotes(ctx, r.ID, by.User.ID); err != nil { // a yes that has become a no
			return err
		}
		if err := b.state(by, r, &r.Objections[len(r.Objections)-1], false, e); err != nil {
			return err
		}
		if !denied {
			e.Action = "request.object" // it goes on
		}
		return nil
	})
}

// state signs the vote and puts it on record.
func (b *Broker) state(by access.Caller, r *access.Request, a *access.Approval, yes bool, e *audit.Event) error {
	v := audit.Vote{
		At: a.At, Digest: a.Digest, FourEyes: a.Narrowing.FourEyes, Login: by.Login, Person: a.UserID, Request: r.ID, Seconds: int64(a.Duration / time.Second),
		StandsFor: a.StandsFor, Via: a.Via, Without: a.Narrowing.Without, Yes: yes,
	}
	if !by.MFAAt.IsZero() {
		age := max(0, int64(a.At.Sub(by.MFAAt)/time.Second))
		v.SecondFactor = &age
	}
	msg, err := v.Sign(voteSigner{b.c.Signer})
	if err != nil {
		return err
	}
	a.Statement = string(msg)
	e.Reason = audit.Clean(a.Comment, audit.MaxReason)
	detail(e, "digest", a.Digest)
	detail(e, "stands_for", a.StandsFor)
	line, signature := audit.SplitVote(msg)
	detail(e, "statement", line)
	detail(e, "signature", signature)
	return nil
}

// A voteSigner signs statements of votes and nothing else with the log's key.
type voteSigner struct{ note.Signer }

// Sign implements note.Signer.
func (s voteSigner) Sign(text []byte) ([]byte, error) {
	if !strings.HasPrefix(string(text), `{"_format":"`+audit.VoteFormat+`"`) {
		return nil, errors.New("this is no statement of a vote")
	}
	return s.Signer.Sign(text)
}

// voting is how votes on one request are counted at one moment: by what their
// givers, and those in whose place they were given, are now.
type voting struct {
	request *access.Request
	people  map[string]access.User // by id: those who have voted, and those they stand for
}

// votingOf counts the votes on r, where people are at least Voters of it.
func (b *Broker) votingOf(r *access.Request, people []access.User) voting {
	v := voting{r, map[string]access.User{}}
	for _, u := range people {
		v.people[u.ID] = b.present(u)
	}
	return v
}

// join adds the caller, and those in whose place they may vote.
func (v voting) join(by access.Caller) {
	for _, u := range append(slices.Clip(by.StandsFor), by.User) {
		v.people[u.ID] = u
	}
}

// count is the access.Counter of these people. A vote counts with the groups that
// its seat has now. Those that a schedule gave when the vote was taken it keeps:
// a shift that ends takes back nothing, and a lock does. It is what makes a vote
// void when the voter, or the one in whose place it was given, is locked, loses
// the group or is gone.
func (v voting) count(a *access.Approval) []string {
	giver, seat := v.people[a.UserID], v.people[a.UserID]
	if a.StandsFor != "" {
		seat = v.people[a.StandsFor]
	}
	if !mayVoteAtAll(giver) || !mayVoteAtAll(seat) {
		return nil
	}
	groups := slices.Clone(seat.Groups)
	for _, g := range a.Groups {
		if access.OnCall(g) {
			groups = append(groups, g)
		}
	}
	return groups
}

func mayVoteAtAll(u access.User) bool { return u.ID != "" && !u.Locked && !u.Bot }

// stage is what is asked at t; nil: nothing.
func (v voting) stage(t time.Time) *access.Stage {
	if s, open := v.request.Stage(t, v.count); open {
		return &s
	}
	return nil
}

// seat is in whose place the caller would vote: in their own when a vote with
// their groups is asked for, and otherwise in that of the first of those who have
// handed their votes to them of whom one is. A seat that has voted is none.
func (v voting) seat(by access.Caller, stage *access.Stage) access.User {
	r := v.request
	wanted := func(u access.User) bool { return stage != nil && stage.Wants(u.Groups) }
	if wanted(by.User) {
		return by.User
	}
	for _, u := range by.StandsFor {
		if wanted(u) && u.ID != r.RequesterID && u.ID != r.OwnerID && !v.voted(u.ID) {
			return u
		}
	}
	// Nobody's yes is asked for; a no is heard of whoever may be asked at some time.
	voters := r.Voters()
	if slices.ContainsFunc(voters, by.User.In) {
		return by.User
	}
	for _, u := range by.StandsFor {
		if slices.ContainsFunc(voters, u.In) && u.ID != r.RequesterID && u.ID != r.OwnerID {
			return u
		}
	}
	return by.User
}

func (v voting) voted(id string) bool {
	return slices.ContainsFunc(slices.Concat(v.request.Approvals, v.request.Objections), func(a access.Approval) bool { return a.UserID == id || a.StandsFor == id })
}

// ballot is the caller's vote without what they say.
func (v voting) ballot(by access.Caller, t time.Time) access.Approval {
	seat := v.seat(by, v.stage(t))
	a := access.Approval{UserID: by.User.ID, UserName: by.User.Name, Groups: seat.Groups, Via: by.Via, At: t}
	if seat.ID != by.User.ID {
		a.StandsFor = seat.ID
	}
	return a
}

// wants reports whether the user's yes is asked for, in their own place. It is a
// sieve for showing who is asked; the policy decides at the vote.
func (v voting) wants(u access.User, stage *access.Stage) bool {
	r := v.request
	return stage != nil && mayVoteAtAll(u) && u.ID != r.RequesterID && u.ID != r.OwnerID && !v.voted(u.ID) && stage.Wants(u.Groups)
}

// An askedPerson may decide on a request now, in their own place or in that of
// the person of the name InPlaceOf.
type askedPerson struct {
	User      access.User
	InPlaceOf string
}

// asked returns how the votes on a pending request count now, and who is asked:
// at most maxDeciders of those who are in the groups, each before who votes in
// their place.
func (b *Broker) asked(ctx context.Context, r *access.Request) (voting, []askedPerson, error) {
	return b.askedAmong(ctx, b.people(), r)
}

// people reads who is asked on many requests, each of them once. It is used for
// one look at them and then thrown away; it is not safe for concurrent use.
type people struct {
	user   reader[access.User]
	circle reader[circle] // by the names of groups, one a line
}

// A circle is who is in some groups now, by name, and the delegations of these.
type circle struct {
	members []access.User
	away    []access.Delegation
}

func (b *Broker) people() people {
	return people{once(b.c.Store.User), once(b.circle)}
}

func (b *Broker) circle(ctx context.Context, lines string) (circle, error) {
	groups := strings.Split(lines, "\n")
	members, err := b.c.Store.Members(ctx, groups, maxDeciders)
	if err != nil {
		return circle{}, err
	}
	onCall, err := b.onCall(ctx, b.c.Store, groups)
	if err != nil {
		return circle{}, err
	}
	byID := map[string]access.User{}
	for _, u := range append(members, onCall...) {
		byID[u.ID] = b.present(u)
	}
	away, err := b.c.Store.DelegationsOf(ctx, slices.Collect(maps.Keys(byID)), b.now())
	return circle{slices.SortedFunc(maps.Values(byID), func(a, b access.User) int { return strings.Compare(a.Name, b.Name) }), away}, err
}

func (b *Broker) askedAmong(ctx context.Context, known people, r *access.Request) (voting, []askedPerson, error) {
	return b.askedAt(ctx, known, r, b.now())
}

// askedAt is askedAmong for the step of the request that was open at t.
func (b *Broker) askedAt(ctx context.Context, known people, r *access.Request, t time.Time) (voting, []askedPerson, error) {
	var voters []access.User
	for _, v := range slices.Concat(r.Approvals, r.Objections) {
		for _, id := range []string{v.UserID, v.StandsFor} {
			if id == "" {
				continue
			}
			u, err := known.user(ctx, id)
			if err != nil && !errors.Is(err, access.ErrNotFound) {
				return voting{}, nil, err
			}
			voters = append(voters, u)
		}
	}
	votes := b.votingOf(r, voters)
	stage := votes.stage(t)
	if stage == nil {
		return votes, nil, nil
	}
	of, err := known.circle(ctx, strings.Join(stage.Groups(), "\n"))
	if err != nil {
		return votes, nil, err
	}
	wanted := func(id string) bool {
		return slices.ContainsFunc(of.members, func(u access.User) bool { return u.ID == id && votes.wants(u, stage) })
	}
	var list []askedPerson
	for _, u := range of.members {
		if !votes.wants(u, stage) {
			continue
		}
		list = append(list, askedPerson{User: u})
		for _, d := range of.away {
			if d.UserID != u.ID || wanted(d.DelegateID) || d.DelegateID == r.RequesterID || d.DelegateID == r.OwnerID || votes.voted(d.DelegateID) {
				continue
			}
			delegate, err := known.user(ctx, d.DelegateID)
			if err != nil {
				return votes, nil, err
			}
			if mayVoteAtAll(delegate) {
				list = append(list, askedPerson{b.present(delegate), u.Name})
			}
		}
	}
	return votes, list, nil
}
