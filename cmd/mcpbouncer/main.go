// mcpbouncer is the sidecar of MCPBouncer, and its operator's tools.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/issuer/provider"
	"github.com/mcpbouncer/mcpbouncer/sealing"
)

const usage = `usage: mcpbouncer [command]

Run it
  serve         answer requests (the default)
  healthcheck   ask the sidecar on BOUNCER_LISTEN_ADDR whether it serves, and print its health (--json)
  version       print the version

Look at it
  lint          what is wrong with these files or containers? lint FILE...
  doctor        why can a client not connect, or log in? doctor URL
  logins        who is logged in? logins < LOG
  who           which pseudonym of the log is which person? who < LOG
  inspect       what is this token, sealed value, hop header or deny document? inspect < VALUE

Give access and take it
  client create make a client_id and secret for one tenant
  key create    make a bearer key for one tenant, for programs that can only send a header
  deny          end logins, clients, people or keys before their time: edits a deny document

Keys and secrets
  keygen        print a new master secret and its hop key
  hop-key       print the hop key of BOUNCER_ENCRYPTION_KEY
  seal-secret   seal a client secret of the provider for a label: --issuer URL --client-id ID < secret

mcpbouncer COMMAND --help lists the flags of a command.
docs/configuration.md lists the environment variables.
`

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		status := 1
		if e, ok := errors.AsType[*exit](err); ok {
			status = e.status
		}
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "mcpbouncer:", err)
		}
		os.Exit(status)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	forgetEmpty() // before anything reads a variable
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if slices.Contains(plain, command) && slices.ContainsFunc(args, asksForHelp) {
		command = "help"
	}
	switch command {
	case "serve":
		if onLambda() {
			return serveInvocations(out)
		}
		return serve(out)
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
	case "healthcheck":
		return healthcheck(args, out)
	case "version":
		_, err := fmt.Fprintln(out, version())
		return err
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("unknown command %q\n%s", command, usage)
}

// plain are the commands without flags, whose help is the list of all.
var plain = []string{"serve", "keygen", "hop-key", "healthcheck", "version"}

func asksForHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

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
	providerIssuer := flags.String("issuer", "", "the label providerIssuer")
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

// release is set by the build: -ldflags "-X main.release=v1.2.3".
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
