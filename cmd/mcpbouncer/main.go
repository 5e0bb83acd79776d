// mcpbouncer is the sidecar of MCPBouncer, and its operator's tools.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
)

const usage = `usage: mcpbouncer [command]

Run it
  serve         answer requests (the default)
  gateway       serve, and be the proxy before the MCP servers: for people without Traefik
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

// exit is an error that is not status 1. Empty: all was said on standard output.
type exit struct {
	status int
	why    string
}

func (e *exit) Error() string { return e.why }

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
	case "gateway":
		return runGateway(out)
	case "healthcheck":
		return healthcheck(args, out)
	case "version":
		_, err := fmt.Fprintln(out, version())
		return err
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return tool(command, args, in, out)
}

// plain are the commands without flags, whose help is the list of all.
var plain = []string{"serve", "gateway", "keygen", "hop-key", "healthcheck", "version"}

func asksForHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

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
