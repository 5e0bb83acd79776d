//go:build !onlyserve

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/mcpbouncer/mcpbouncer/internal/doctor"
	"github.com/mcpbouncer/mcpbouncer/internal/report"
)

const aboutDoctor = `Walks the way of MCP clients to the server at URL, and says for each check what was expected, what
was seen, whose fault it is, which clients break and what to do; at the end, which clients work. It
works against any MCP server, and knows more of MCPBouncer. It registers a client with the body of
each real one (--no-register leaves that out), and logs nobody in without --login.
Status 0: nothing wrong was found; 1: something was; 2: it could not run.
`

// runDoctor writes what it finds while it finds it. errs is where a terminal sees what a slow step
// waits for.
func runDoctor(args []string, in io.Reader, out, errs io.Writer) error {
	if asksForProvider(args) {
		return runDoctorProvider(args, in, out, errs)
	}
	var o doctor.Options
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main prints the error; help goes where it was asked for
	asJSON := flags.Bool("json", false, "write JSON, for programs")
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Second, "how long one request may take")
	flags.StringVar(&o.Connect, "connect", "", "`HOST:PORT` to dial instead of where the name in URL leads")
	ca := flags.String("ca", "", "`FILE` of a private authority's certificate, PEM")
	flags.BoolVar(&o.Insecure, "insecure", false, "go on with any certificate. Tokens then go to whoever is there")
	noRegister := flags.Bool("no-register", false, "register no client")
	flags.StringVar(&o.ClientID, "client-id", "", "`client_id` of a client that the operator has created")
	flags.StringVar(&o.RedirectURI, "redirect-uri", "", "the redirect `URI` that it was created for")
	secret := flags.String("client-secret-file", "", "`FILE` with its secret")
	flags.BoolVar(&o.Login, "login", false, "log in, in your browser: token, tools, event stream, refresh, revocation")
	flags.StringVar(&o.Scope, "scope", "", "`scopes` to ask for in the login, separated by blanks")
	token := flags.String("token", "", "an access `token` to use instead of a login; - reads it from standard input")
	flags.StringVar(&o.Call, "call", "", "a `tool` to call with the token, without arguments")
	var urls []string
	for rest := args; ; { // flags before and behind the URL
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, "usage: mcpbouncer doctor [FLAGS] URL\n       mcpbouncer doctor --provider ISSUER --client-id ID [FLAGS]   (--help has its flags)\n\n"+aboutDoctor+"\n")
			flags.SetOutput(out)
			flags.PrintDefaults()
			return nil
		} else if err != nil {
			return unable("doctor", err)
		}
		if rest = flags.Args(); len(rest) == 0 {
			break
		}
		urls, rest = append(urls, rest[0]), rest[1:]
	}
	if len(urls) != 1 {
		return unable("doctor", errors.New("give the URL of one MCP server, as a client has it: mcpbouncer doctor https://mcp.example.com/wiki/mcp"))
	}
	o.URL, o.Register = urls[0], !*noRegister
	var err error
	if o.CA, err = authorities(*ca); err != nil {
		return unable("doctor", err)
	}
	if o.ClientSecret, err = firstLine(*secret); err != nil {
		return unable("doctor", err)
	}
	if o.Token = *token; o.Token == "-" {
		content, err := io.ReadAll(io.LimitReader(in, 64<<10))
		if err != nil {
			return unable("doctor", err)
		}
		o.Token = strings.TrimSpace(string(content))
	}
	if o.Call != "" && o.Token == "" && !o.Login {
		return unable("doctor", errors.New("--call needs --login or --token"))
	}
	text := report.NewText(out)
	progress := report.NewProgress(errs)
	o.Say = progress.Say
	if !*asJSON {
		o.Found = text.Finding
	}
	o.Visit = func(url string) {
		progress.Say("")
		fmt.Fprintln(errs, "Open this in your browser, if it does not open by itself:\n\n"+report.Printable(url, 1<<14)+"\n")
		openBrowser(url)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := doctor.Run(ctx, o)
	err = finish(r, out, text, *asJSON)
	if !*asJSON && r.Status() == report.StatusGood && !o.Login && o.Token == "" {
		fmt.Fprintln(out, "Nobody logged in: --login goes on behind the first page, with provider, access rules, token and tools.")
	}
	return err
}

// finish writes what is left of a report, and makes its exit status.
func finish(r *report.Report, out io.Writer, text *report.Text, asJSON bool) error {
	if asJSON {
		if err := r.WriteJSON(out); err != nil {
			return err
		}
	} else {
		text.End(r)
	}
	if status := r.Status(); status != report.StatusGood {
		return &exit{status: status}
	}
	return nil
}

func unable(command string, err error) error {
	return &exit{report.StatusUnable, command + ": " + err.Error()}
}

// authorities are the system's and those of a file; nil without a file.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

func firstLine(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	line, _, _ := strings.Cut(strings.TrimSpace(string(content)), "\n")
	return line, err
}

// openBrowser tries. The URL has been checked to be one of http or https, and is an argument of its
// own: no shell reads it.
func openBrowser(url string) {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	command := exec.Command(name, args...)
	if command.Start() == nil {
		go command.Wait()
	}
}
