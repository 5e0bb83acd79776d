package issuertest

// Manners are real providers as far as logins and refreshes go: where their endpoints are, what
// becomes of a used refresh token, and in which words they refuse. Measured in November 2026 at the
// versions named, with their defaults.
var Manners = map[string]Behaviour{
	"Hydra 2.3": {
		Endpoints:   map[string]string{"/authorize": "/oauth2/auth", "/token": "/oauth2/token", "/keys": "/.well-known/jwks.json", "/revoke": "/oauth2/revoke"},
		KillOnReuse: true, Revocation: true, UserInfo: map[string]any{"sub": "person-1"},
	},
	"oidc-provider 9.13": {
		Endpoints:   map[string]string{"/authorize": "/auth", "/keys": "/jwks", "/userinfo": "/me", "/revoke": "/token/revocation"},
		KillOnReuse: true, Revocation: true, UserInfo: map[string]any{"sub": "person-1"},
	},
	"Glewlwyd 2.7": {
		Endpoints:   map[string]string{"/authorize": "/auth", "/keys": "/jwks"},
		KillOnReuse: true, Revocation: true, OmitNewIDToken: true, UserInfo: map[string]any{"sub": "person-1"},
		RefusalEmpty: true, CodeRefusal: "invalid_code",
	},
	"LemonLDAP::NG 2.16": {
		Endpoints: map[string]string{"/authorize": "/oauth2/authorize", "/token": "/oauth2/token", "/keys": "/oauth2/jwks", "/userinfo": "/oauth2/userinfo"},
		Refresh:   "static", Refusal: "invalid_request", UserInfo: map[string]any{"sub": "person-1"},
	},
	"django-oauth-toolkit 1.7": {
		Endpoints:      map[string]string{"/authorize": "/o/authorize/", "/token": "/o/token/", "/keys": "/o/.well-known/jwks.json", "/userinfo": "/o/userinfo/"},
		OmitNewIDToken: true, UserInfo: map[string]any{"sub": "person-1"},
	},
	"Doorkeeper 5.5": {
		Endpoints: map[string]string{"/authorize": "/oauth/authorize", "/token": "/oauth/token", "/keys": "/oauth/discovery/keys", "/userinfo": "/oauth/userinfo", "/revoke": "/oauth/revoke"},
		Refresh:   "half", Revocation: true, UserInfo: map[string]any{"sub": "person-1"},
	},
	// Its word for a person who was deleted is another one: Refusal invalid_request, RefusalText
	// "user not found".
	"better-auth 1.7": {
		Endpoints:  map[string]string{"/authorize": "/oauth2/authorize", "/token": "/oauth2/token", "/keys": "/jwks", "/userinfo": "/oauth2/userinfo", "/revoke": "/oauth2/revoke"},
		KillPerson: true, Revocation: true, UserInfo: map[string]any{"sub": "person-1"},
	},
	"Gitea 1.26": {
		Endpoints: map[string]string{"/authorize": "/login/oauth/authorize", "/token": "/login/oauth/access_token", "/keys": "/login/oauth/keys", "/userinfo": "/login/oauth/userinfo"},
		Refresh:   "keeps", CodeRefusal: "unauthorized_client", CodeRefusalText: "client is not authorized", UserInfo: map[string]any{"sub": "person-1"},
	},
}
