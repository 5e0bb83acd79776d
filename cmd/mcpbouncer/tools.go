//go:build !onlyserve

package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

// tool runs a command of the operator. The program in the zip for AWS Lambda has none of them
// (onlyserve.go).
func tool(command string, args []string, in io.Reader, out io.Writer) error {
	switch command {
	case "keygen":
		return keygen(out)
	case "hop-key":
		return hopKey(out)
	case "client":
		return client(args, out)
	case "key":
		return key(args, out)
	case "deny":
		return runDeny(args, out, time.Now())
	case "inspect":
		return runInspect(args, in, out, time.Now())
	case "logins":
		return runLogins(args, in, out, time.Now())
	case "doctor":
		return runDoctor(args, in, out, os.Stderr)
	case "who":
		return runWho(args, in, out)
	case "lint":
		return runLint(args, out)
	case "seal-secret":
		return sealSecret(args, in, out)
	}
	return fmt.Errorf("unknown command %q\n%s", command, usage)
}

// keygen prints lines for an environment file: the first for the sidecar, the second for Traefik.
func keygen(out io.Writer) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	text := base64.StdEncoding.EncodeToString(secret)
	ring, err := sealing.ParseRing(text)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "BOUNCER_ENCRYPTION_KEY=%s\nBOUNCER_HOP_KEY=%s\n", text, ring.HopKey())
	return err
}

func hopKey(out io.Writer) error {
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "BOUNCER_HOP_KEY=%s\n", e.ring.HopKey())
	return err
}

const maxSecret = 4096

func sealSecret(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("seal-secret", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	providerIssuer := flags.String("issuer", "", "the label providerIssuer; with providerType=oauth2 the label tokenEndpoint")
	clientID := flags.String("client-id", "", "the label clientID")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, "usage: mcpbouncer seal-secret FLAGS < SECRET\n\nSeals a client secret of the provider for the label clientSecret. Only the sidecar can open it.\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return err
	}
	if *providerIssuer == "" || *clientID == "" {
		return errors.New("seal-secret: --issuer and --client-id must be those of the labels")
	}
	e, err := loadEnvironment()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(in, 2*maxSecret))
	if err != nil {
		return err
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return errors.New("seal-secret: no secret on standard input")
	}
	if len(secret) > maxSecret { // half of it would be sealed as well, and fail at the provider
		return fmt.Errorf("seal-secret: the secret is longer than %d bytes", maxSecret)
	}
	_, err = fmt.Fprintln(out, provider.SealSecret(e.ring, *providerIssuer, *clientID, secret, time.Now()))
	return err
}
