// Package app is what applications on an MCP SDK have in common, whatever the SDK is: a browser to
// open, a loopback address to listen on, and a person who asks for something. It speaks as
// ../../node/app.mjs does: JSON in lines.
//
// The argument is JSON (Way). Printed are {"open": URL for the browser}, {"ready": …} after the
// login, and then for each line that is read one answer: "call" calls the tool whoami, "refuse"
// damages the access token that is kept, which the server then refuses while the SDK believes that
// it is good, "age" lets the access token's time be over. "end", or the end of what there is to
// read, ends the program.
package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

// Way is how the application comes to its client_id.
type Way struct {
	Server       string `json:"server"`   // URL of the MCP server
	Redirect     string `json:"redirect"` // path of the callback
	MetadataURL  string `json:"metadataUrl"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	AuthMethod   string `json:"authMethod"`
	Revision     string `json:"revision"` // of MCP, where the application insists; mcp-go only
	// Grant is "client_credentials", or "id-jag" with an enterprise's provider. Empty: a login.
	Grant      string      `json:"grant"`
	Enterprise *Enterprise `json:"enterprise"`
	AuthServer string      `json:"authServer"` // of these: issuer of the authorization server
}

// Enterprise is the company's identity provider and the program's client there.
type Enterprise struct {
	Issuer       string `json:"issuer"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
	IDToken      string `json:"idToken"` // of a person who has logged in
}

// Session is a connection by the SDK.
type Session interface {
	Revision() string                                  // of MCP
	Call(ctx context.Context) (json.RawMessage, error) // the tool whoami's structured content
	Refuse() error
	Age() error
}

// App is the application around the SDK.
type App struct {
	Way      Way
	Redirect string // URI of the callback

	answers chan url.Values
}

// Timeout is what a person waits for one call.
const Timeout = 45 * time.Second

// Main connects and obeys. module is the SDK's.
func Main(module string, connect func(context.Context, *App) (Session, error)) {
	if err := run(module, connect); err != nil {
		show("failed", err.Error())
		os.Exit(1)
	}
}

func run(module string, connect func(context.Context, *App) (Session, error)) error {
	a := &App{answers: make(chan url.Values, 1)}
	if len(os.Args) != 2 {
		return errors.New("the argument is JSON")
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &a.Way); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	a.Redirect = "http://" + listener.Addr().String() + a.Way.Redirect
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const done = "Done, back to the client."
		w.Header().Set("Content-Length", strconv.Itoa(len(done)))
		fmt.Fprint(w, done)
		_ = http.NewResponseController(w).Flush() // the program may end at once
		if r.URL.Path == a.Way.Redirect {
			a.answers <- r.URL.Query()
		}
	}))
	ctx := context.Background()
	session, err := connect(ctx, a)
	if err != nil {
		return err
	}
	info, _ := debug.ReadBuildInfo()
	version := ""
	for _, dep := range info.Deps {
		if dep.Path == module {
			version = dep.Version[1:]
		}
	}
	show("ready", map[string]string{"package": module, "version": version, "revision": session.Revision()})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch command := lines.Text(); command {
		case "call":
			ctx, cancel := context.WithTimeout(ctx, Timeout)
			result, err := session.Call(ctx)
			cancel()
			if err != nil {
				show("failed", err.Error())
			} else {
				show("called", result)
			}
		case "refuse":
			if err := session.Refuse(); err != nil {
				return err
			}
			show("done", command)
		case "age":
			if err := session.Age(); err != nil {
				return err
			}
			show("done", command)
		case "end":
			return nil
		default:
			return fmt.Errorf("%q is no command", command)
		}
	}
	return nil
}

// Authorize opens the URL and waits for the answer that comes to the callback.
func (a *App) Authorize(ctx context.Context, authorizationURL string) (url.Values, error) {
	show("open", authorizationURL)
	select {
	case answer := <-a.answers:
		if code := answer.Get("error"); code != "" {
			return nil, fmt.Errorf("the login ended: %s", code)
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func show(name string, value any) {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]any{name: value})
}
