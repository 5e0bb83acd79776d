// Exampleop is the example OpenID provider of zitadel/oidc as a program of its own, so that the
// end-to-end tests have a second real provider beside Dex. Users: test-user@localhost and
// test-user2, password verysecure.
//
//	exampleop LISTEN ISSUER CLIENT_ID CLIENT_SECRET REDIRECT_URI...
package main

import (
	"log/slog"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if len(os.Args) < 6 {
		logger.Error("usage: exampleop LISTEN ISSUER CLIENT_ID CLIENT_SECRET REDIRECT_URI...")
		os.Exit(2)
	}
	listen, issuer, client, secret, redirects := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	storage.RegisterClients(storage.WebClient(client, secret, redirects...))
	// The store names its first user after the host of this URL.
	store := storage.NewStorage(storage.NewUserStore("http://localhost:0/"))
	err := http.ListenAndServe(listen, exampleop.SetupServer(issuer, store, logger, false))
	logger.Error("stopped", "error", err)
	os.Exit(1)
}
