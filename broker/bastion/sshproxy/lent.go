package sshproxy

import (
	"errors"
	"strings"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A lent logs in, once, with a secret of the vault. The broker is asked for it
// when the target wants it, which is after its host key was checked, and the
// target hears it at most once, however it asks: a wrong password locks accounts.
type lent struct {
	kind  string // access.CredentialPassword or access.CredentialKey
	lend  func() (broker.Loan, error)
	taken bool
	err   error // of ours, why it was not given
}

var (
	errTaken  = errors.New("the secret was given already")
	errPrompt = errors.New("the target asks for something else than one password")
)

func (l *lent) methods() []gossh.AuthMethod {
	if l.kind == access.CredentialKey {
		return []gossh.AuthMethod{gossh.PublicKeysCallback(l.signers)}
	}
	return []gossh.AuthMethod{gossh.PasswordCallback(l.password), gossh.KeyboardInteractive(l.answer)}
}

func (l *lent) take() (broker.Loan, error) {
	if l.taken {
		return broker.Loan{}, errTaken
	}
	l.taken = true
	loan, err := l.lend()
	l.err = err
	return loan, err
}

// password is the secret as x/crypto (v0.58.0) wants it: as a string, which
// cannot be wiped.
func (l *lent) password() (string, error) {
	loan, err := l.take()
	if err != nil {
		return "", err
	}
	defer loan.Secret.Wipe()
	return string(loan.Secret.Expose()), nil
}

// answer answers one question that is not shown while it is answered. A target
// that asks nothing, as sshd does at the end, is told nothing.
func (l *lent) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	if len(questions) > 1 || len(echos) != 1 || echos[0] {
		if !l.taken {
			l.err = errPrompt
		}
		return nil, errPrompt
	}
	password, err := l.password()
	if err != nil {
		return nil, err
	}
	return []string{password}, nil
}

func (l *lent) signers() ([]gossh.Signer, error) {
	loan, err := l.take()
	if err != nil {
		return nil, err
	}
	defer loan.Secret.Wipe()
	signer, err := gossh.ParsePrivateKey(loan.Secret.Expose())
	if err != nil {
		l.err = errors.New("the vault's key is none") // and not what the parser says of it
		return nil, l.err
	}
	return []gossh.Signer{signer}, nil
}

// explain says in our words why the login as account@target failed: what the
// target says may repeat what it was told, now or the last time.
func (l *lent) explain(login string, err error) error {
	if said, ok := errors.AsType[*access.Error](err); ok && !l.taken {
		return said // the host key
	}
	if n, ok := errors.AsType[*gossh.AlgorithmNegotiationError](err); ok && n.What == "host key" {
		return err // of which only that is told
	}
	if said, ok := errors.AsType[*access.Error](l.err); ok {
		return said
	}
	failed := &access.Error{Kind: access.ErrUnavailable, Code: "DB-5427", Text: "the login as " + login + " broke off"}
	switch {
	case errors.Is(l.err, errPrompt):
		failed.Text = login + ": " + errPrompt.Error()
	case l.err != nil:
		return l.err
	case strings.Contains(err.Error(), "unable to authenticate") || errors.Is(err, errTaken):
		failed.Text = login + " is not let in with the " + l.kind + " that is kept for it"
		failed.Next = "an administrator sets another: drawbolt account set " + login
	}
	return failed
}

// unsaid keeps what a target says in an error to itself where it knows a secret.
func unsaid(s *bastion.Session, err error) error {
	if a, _ := s.Live.Target.Account(s.Live.Session.Account); a.Lent() && err != nil {
		return errors.New("it refused, or broke off; what it says is not kept, because it knows a secret")
	}
	return err
}
