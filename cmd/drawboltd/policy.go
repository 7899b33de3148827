package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/policy/pack"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/web"
)

// How often the bundle is looked at: each few seconds, and again soon after it was
// found to be changing, so that one that is being copied is not taken half.
const (
	bundleEvery   = 5 * time.Second
	bundleSettles = time.Second
)

// A bundleSource brings the policy bundle of the configuration into service. Only Run
// changes anything.
type bundleSource struct {
	path string // "": the bundle in the program
	keys note.Verifiers
	kept string // file of the bundle that was last put into service
	keep time.Duration
	db   *store.DB
	log  *slog.Logger

	// What was found at the start.
	program *policy.Program
	origin  broker.PolicyOrigin
	bundle  *pack.Bundle
	refused error  // the bundle that is there; the kept one is in its place
	found   string // see look
}

// openBundle finds what to decide by. A bundle that was in service before is not proven
// again. When the one that is there is refused, the one that was last in service is
// taken; when there is none, there is nothing to decide by, and that is an error: the
// bundle in the program could allow more than the house wants.
func openBundle(ctx context.Context, c Config, db *store.DB, log *slog.Logger) (*bundleSource, error) {
	s := &bundleSource{
		path: c.Policy.Bundle, kept: filepath.Join(c.Data, "policy.tar.gz"), keep: c.Policy.KeepDecisions.duration(), db: db, log: log,
	}
	var err error
	if s.keys, err = verifyKeys(c.Policy.VerifyKeys); err != nil {
		return nil, fmt.Errorf("policy.verify_keys: %w", err)
	}
	if s.path == "" {
		s.program, err = builtIn()
		return s, err
	}
	was, wasErr := pack.Read(s.kept)
	var b *pack.Bundle
	b, s.found, err = s.look()
	if err == nil {
		if wasErr == nil && was.Digest == b.Digest {
			s.program, s.origin, err = s.accept(b)
		} else {
			s.program, s.origin, err = s.prove(ctx, b)
		}
		s.bundle = b
	}
	if err == nil {
		return s, nil
	}
	s.refused = err
	if wasErr == nil {
		if s.program, s.origin, wasErr = s.accept(was); wasErr == nil {
			s.bundle = was
			return s, nil
		}
	}
	return nil, fmt.Errorf("policy.bundle: %w (and there is none that was in service before)", s.refused)
}

// signer says who has signed a bundle; nil: it need not be signed.
func (s *bundleSource) signer() func(*pack.Bundle) (string, error) {
	if s.keys == nil {
		return nil
	}
	return func(b *pack.Bundle) (string, error) { return b.Signer(s.keys) }
}

func verifyKeys(list []string) (note.Verifiers, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var keys []note.Verifier
	for _, text := range list {
		v, err := note.NewVerifier(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%.80q is not a public key of drawbolt policy key: %w", text, err)
		}
		keys = append(keys, v)
	}
	return note.VerifierList(keys...), nil
}

func builtIn() (*policy.Program, error) {
	files, err := policy.ReadFiles(rego.Bundle)
	if err != nil {
		return nil, err
	}
	return policy.Compile(files)
}

// accept verifies and compiles a bundle that was proven before.
func (s *bundleSource) accept(b *pack.Bundle) (*policy.Program, broker.PolicyOrigin, error) {
	o := broker.PolicyOrigin{Source: s.path, Content: b.Digest, Commit: b.Commit}
	if s.keys != nil {
		var err error
		if o.Signer, err = b.Signer(s.keys); err != nil {
			return nil, o, err
		}
	}
	p, err := policy.Compile(b.Files)
	return p, o, err
}

// prove verifies a bundle and looks whether it is fit for service.
func (s *bundleSource) prove(ctx context.Context, b *pack.Bundle) (*policy.Program, broker.PolicyOrigin, error) {
	p, o, err := s.accept(b) // who has not signed it does not have it run either
	if err != nil {
		return nil, o, err
	}
	tests, err := testRoles(b)
	if err != nil {
		return nil, o, err
	}
	v, err := broker.ProvePolicy(ctx, s.db, b.Files, tests)
	if err != nil {
		return nil, o, err
	}
	if len(v.Problems) > 0 {
		text := v.Problems[0]
		if more := len(v.Problems) - 1; more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
		return nil, o, errors.New(text)
	}
	return p, o, nil
}

// testRoles are those over which the bundle's tests run.
func testRoles(b *pack.Bundle) (policy.Data, error) {
	text := b.Files[pack.RolesFile]
	if text == nil {
		return policy.Data{}, nil
	}
	d, err := policy.ParseData(text)
	if err != nil {
		return d, fmt.Errorf("%s: %w", pack.RolesFile, err)
	}
	return d, nil
}

// Run puts what was found on record, and from then on brings each new bundle into
// service, when the files change or at a SIGHUP, until ctx ends. One that is refused
// leaves the old one where it is.
func (s *bundleSource) Run(ctx context.Context, b *broker.Broker) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if s.refused != nil {
		s.refuse(ctx, b, s.origin, s.refused)
	} else if err := s.use(ctx, b, s.program, s.origin, s.bundle); err != nil {
		return err
	}
	tried, seen, told := s.found, s.found, time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			asked = true
		case <-timer.C:
		}
		wait := bundleEvery
		if s.path != "" {
			bundle, found, err := s.look()
			settled := found == seen || asked
			if found != tried && !settled {
				wait = bundleSettles // it may be half of what is coming
			}
			if (found != tried || asked) && settled && s.try(ctx, b, bundle, err) {
				tried = found
			}
			seen = found
		} else if asked {
			s.log.InfoContext(ctx, "there is no policy.bundle to load anew")
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			if err := b.TellPolicy(ctx, s.keep); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "decisions were not tidied", "error", err)
			}
		}
		timer.Reset(wait)
	}
}

// look reads what is there. found names it, whether it can be read or not.
func (s *bundleSource) look() (b *pack.Bundle, found string, err error) {
	if b, err = pack.Read(s.path); err != nil {
		return nil, err.Error(), err
	}
	found = b.Digest
	if s.keys != nil {
		if _, err := b.Signer(s.keys); err != nil {
			found += ": " + err.Error()
		}
	}
	return b, found, nil
}

// try brings a bundle into service, or puts on record why not. It reports whether that
// is settled: when the database is away it is not.
func (s *bundleSource) try(ctx context.Context, b *broker.Broker, bundle *pack.Bundle, err error) bool {
	var p *policy.Program
	o := broker.PolicyOrigin{Source: s.path}
	if err == nil {
		if p, o, err = s.prove(ctx, bundle); err == nil {
			err = s.use(ctx, b, p, o, bundle)
		}
	}
	if errors.Is(err, access.ErrUnavailable) || ctx.Err() != nil {
		return false
	}
	if err != nil {
		s.refuse(ctx, b, o, err)
	}
	return true
}

func (s *bundleSource) use(ctx context.Context, b *broker.Broker, p *policy.Program, o broker.PolicyOrigin, bundle *pack.Bundle) error {
	if err := b.UsePolicy(ctx, p, o); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "policy bundle in service", "source", o.Source, "digest", p.Digest(), "content", o.Content, "commit", o.Commit, "signer", o.Signer)
	if bundle == nil {
		return nil
	}
	packed, err := bundle.Pack()
	if err == nil {
		err = replaceFile(s.kept, packed)
	}
	if err != nil { // it is in service all the same
		s.log.ErrorContext(ctx, "the policy bundle is not kept for the next start", "error", err)
	}
	return nil
}

func (s *bundleSource) refuse(ctx context.Context, b *broker.Broker, o broker.PolicyOrigin, why error) {
	s.log.ErrorContext(ctx, "policy bundle refused: the one before stays in service", "source", s.path, "content", o.Content, "commit", o.Commit, "why", why)
	if err := b.PolicyRefused(ctx, o, why.Error()); err != nil {
		s.log.ErrorContext(ctx, "the refusal of a policy bundle is not on record", "error", err)
	}
}

func policyCommand() *cobra.Command {
	var roles string
	var asJSON bool
	test := &cobra.Command{
		Use: "test BUNDLE", Short: "Say whether a policy bundle may be put into service, without a server", Args: cobra.ExactArgs(1),
		Long: `Compile a policy bundle (a folder or a .tar.gz), run its tests over the roles in
its roles_test.json, and see whether it answers every kind of question with a
decision. The exit code is 3 when it would be refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := pack.Read(args[0])
			if err != nil {
				return err
			}
			if roles != "" {
				text, err := os.ReadFile(roles)
				if err != nil {
					return err
				}
				b.Files[pack.RolesFile] = text
				b = pack.New(b.Files)
			}
			tests, err := testRoles(b)
			if err != nil {
				return err
			}
			v, err := policy.Prove(cmd.Context(), b.Files, tests, policy.Data{})
			if err != nil {
				return err
			}
			out := web.APITest(v, b.Digest)
			if asJSON {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(out); err != nil {
					return err
				}
			} else {
				fmt.Fprint(cmd.OutOrStdout(), out.Text())
			}
			if len(out.Problems) > 0 {
				return refusedError{errors.New("the bundle would be refused")}
			}
			return nil
		},
	}
	test.Flags().StringVar(&roles, "roles", "", "`file` of the roles for the tests, in the place of roles_test.json")
	test.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd := &cobra.Command{Use: "policy", Short: "Policy bundles", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(test)
	return cmd
}
