package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/bundle"
)

// Evidence is what the evidence of one session is made of.
type Evidence struct {
	// Bundle lacks what the broker does not have: the recording, and what is
	// told besides.
	Bundle       bundle.Evidence
	Session      access.Session
	Case         Case
	Certificates []Certificate
}

// A Certificate is what is on record of a certificate that was issued.
type Certificate struct {
	Serial                              uint64
	Kind, KeyID, Key, Principal, Target string // Key is its fingerprint
	IssuedAt, ExpiresAt, RevokedAt      time.Time
}

// Evidence gathers what proves a session: the events of the audit log that
// concern it, its request and its grant, each with its proof, under a checkpoint
// that is signed now. It takes the right to replay the session, and to read the
// request, which is in it. That it was taken is an event, and in the evidence.
func (b *Broker) Evidence(ctx context.Context, by access.Caller, sessionID string) (Evidence, error) {
	var e Evidence
	s, err := b.FindSession(ctx, by, sessionID)
	if err != nil {
		return e, err
	}
	if e.Case, err = b.FindRequest(ctx, by, s.RequestID); err != nil {
		return e, err
	}
	if e.Session, err = b.Replay(ctx, by, sessionID, "evidence"); err != nil {
		return e, err
	}
	leaves, err := b.leavesOf(ctx, &e.Session, &e.Case)
	if err != nil {
		return e, err
	}
	if e.Certificates, err = b.certificatesOf(ctx, sessionID); err != nil {
		return e, err
	}
	message, err := b.sign(ctx)
	if err != nil {
		return e, err
	}
	head, err := audit.OpenCheckpoint(message, b.c.Verifier)
	if err != nil {
		return e, err
	}
	e.Bundle = bundle.Evidence{Session: e.Session.ID, Made: b.now(), Checkpoint: message, Request: e.Case.Request.Shown(), Signer: evidenceSigner{b.c.Signer}}
	hashes, ended := b.c.Store.Hashes(ctx), int64(0)
	for _, leaf := range leaves {
		if leaf.event.Seq >= head.Size {
			continue // written since
		}
		proof, err := audit.ProveInclusion(head.Size, leaf.event.Seq, hashes)
		if err != nil {
			return e, err
		}
		e.Bundle.Events = append(e.Bundle.Events, bundle.Event{Leaf: leaf.text, Inclusion: proof})
		if leaf.event.Action == "session.close" && leaf.event.Session == e.Session.ID {
			ended = leaf.event.Seq
		}
	}
	first, err := b.c.Store.Checkpoints(ctx, ended, head.Size, 1) // the first that covers the end
	if err != nil {
		return e, err
	}
	if len(first) == 0 {
		return e, errors.New("the checkpoint that was just signed is not in the store")
	}
	e.Bundle.Earlier = first[0].Message
	e.Bundle.Consistency, err = audit.ProveConsistency(first[0].Size, head.Size, hashes)
	if first[0].Size == head.Size {
		e.Bundle.Earlier, e.Bundle.Consistency = message, nil
	}
	return e, err
}

// An evidenceSigner signs lists of evidence and nothing else with the log's key.
type evidenceSigner struct{ note.Signer }

// Sign implements note.Signer.
func (s evidenceSigner) Sign(text []byte) ([]byte, error) {
	if !strings.HasPrefix(string(text), bundle.ManifestFirst+"\n") {
		return nil, errors.New("this is no list of evidence")
	}
	return s.Signer.Sign(text)
}

type leaf struct {
	text  []byte
	event audit.Event
}

// leavesOf finds the events that concern a session: its own, and those on its
// request and grant. Of other sessions under the grant there is nothing.
func (b *Broker) leavesOf(ctx context.Context, s *access.Session, c *Case) ([]leaf, error) {
	from, err := b.c.Store.LeafAt(ctx, c.Request.CreatedAt)
	if err != nil {
		return nil, err
	}
	// The log is not sorted by object: only the time of the request and its grant
	// is looked through.
	to := int64(0)
	if c.Grant != nil {
		if _, end, over := c.Grant.EndAt(b.now()); over {
			if to, err = b.c.Store.LeafAt(ctx, end.Add(time.Hour)); err != nil {
				return nil, err
			}
		}
	}
	found := map[int64]leaf{}
	for _, f := range []store.LeafFilter{
		{From: from, Session: s.ID}, {From: from, To: to, Object: s.RequestID}, {From: from, To: to, Object: s.GrantID},
	} {
		f.Limit = 1000
		for {
			texts, err := b.c.Store.Leaves(ctx, f)
			if err != nil {
				return nil, err
			}
			for _, text := range texts {
				event, err := audit.Parse(text)
				if err != nil {
					return nil, err
				}
				found[event.Seq], f.From = leaf{text, event}, event.Seq+1
			}
			if len(found) > bundle.MaxEvents {
				return nil, &access.Error{Kind: access.ErrConflict, Code: "DB-6090",
					Text: "more events concern " + s.ID + " than evidence can hold", Next: "drawbolt export " + s.ID + ", and drawbolt audit export"}
			}
			if len(texts) < f.Limit {
				break
			}
		}
	}
	var list []leaf
	for _, l := range found {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b leaf) int { return cmp.Compare(a.event.Seq, b.event.Seq) })
	return list, nil
}

func (b *Broker) certificatesOf(ctx context.Context, sessionID string) ([]Certificate, error) {
	rows, err := b.c.Store.SessionCertificates(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	var list []Certificate
	for _, c := range rows {
		list = append(list, Certificate{
			Serial: c.Serial, Kind: c.Kind, KeyID: c.KeyID, Key: c.Key, Principal: c.Principal, Target: c.Target,
			IssuedAt: c.IssuedAt, ExpiresAt: c.ExpiresAt, RevokedAt: c.RevokedAt,
		})
	}
	return list, nil
}
