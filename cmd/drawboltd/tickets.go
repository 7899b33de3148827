package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"os"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/ticket"
	"github.com/drawbolt/drawbolt/vault"
)

// maxSecret bounds a file that holds a token, in bytes.
const maxSecret = 16 << 10

// ticketSystem is tickets; nil when there is none.
func (c *Config) ticketSystem() (broker.TicketSystem, error) {
	t := c.Tickets
	if t.Kind == "" {
		return nil, nil
	}
	networks, err := prefixes(t.Networks)
	if err != nil {
		return nil, fmt.Errorf("tickets.networks: %w", err)
	}
	secret, err := readSecret(t.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("tickets.secret_file: %w", err)
	}
	config := ticket.Config{Kind: t.Kind, URL: t.URL, User: t.User, Token: secret, Secret: secret, Table: t.Table, Networks: networks}
	if t.Authorities != "" {
		pem, err := os.ReadFile(t.Authorities)
		if err != nil {
			return nil, fmt.Errorf("tickets.authorities: %w", err)
		}
		config.Roots = x509.NewCertPool()
		if !config.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tickets.authorities: %s holds no certificate", t.Authorities)
		}
	}
	return ticket.New(config)
}

// readSecret reads the one line of a file.
func readSecret(path string) (vault.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return vault.NewSecret(nil), err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && (len(b) > maxSecret || len(bytes.TrimSpace(b)) == 0) {
		err = fmt.Errorf("%s is empty, or longer than %d bytes", path, maxSecret)
	}
	return vault.NewSecret(bytes.TrimSpace(b)), err
}
