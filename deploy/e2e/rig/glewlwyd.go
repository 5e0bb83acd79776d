package rig

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// StartGlewlwyd starts Glewlwyd of the Debian package, with SQLite, as its administration page sets
// up an OpenID Connect plugin.
func StartGlewlwyd(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "Glewlwyd 2.7.5", "/api/oidc/token")
	base := p.Issuer
	p.Issuer += "/api/oidc"
	p.Advice = "a claim `email_verified`, for e-mail rules"
	dir := t.TempDir()
	db := filepath.Join(dir, "g.db")
	if out, err := exec.Command("sh", "-c", "zcat /usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz | "+program(t, "sqlite3")+" "+db).CombinedOutput(); err != nil {
		t.Fatalf("rig: glewlwyd's database: %v\n%s", err, out)
	}
	_, port, _ := strings.Cut(p.Backend, ":")
	config := writeFile(t, filepath.Join(dir, "glewlwyd.conf"), fmt.Sprintf(`port=%s
bind_address="127.0.0.1"
external_url=%q
login_url="login.html"
api_prefix="api"
static_files_path="/usr/share/glewlwyd/webapp/"
allow_origin="*"
log_mode="console"
log_level="WARNING"
cookie_domain="localhost"
cookie_secure=0
cookie_same_site="empty"
session_expiration=2419200
session_key="GLEWLWYD2_SESSION_ID"
admin_session_authentication="cookie"
profile_session_authentication="cookie"
allow_multiple_user_per_session=true
login_api_enabled=true
max_post_size=16778240
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
user_middleware_module_path="/usr/lib/glewlwyd/user_middleware"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
use_secure_connection=false
secure_connection_key_file="/none.key"
secure_connection_pem_file="/none.pem"
secure_connection_ca_file="/none.crt"
hash_algorithm="SHA512"
database = { type = "sqlite3"; path = %q; };
static_files_mime_types = ({ extension = ".html"; mime_type = "text/html"; compress = 0; }, { extension = ".json"; mime_type = "application/json"; compress = 0; });
`, port, base, db))
	p.runs(t, logs, "/config", func() *Process {
		cmd := exec.Command(program(t, "glewlwyd"), "--config-file="+config)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		return StartProcess(t, logs, "glewlwyd", cmd)
	})
	jar, _ := cookiejar.New(nil)
	admin := &http.Client{Jar: jar}
	api := func(method, path string, body any) {
		t.Helper()
		// Its cookies are those of localhost.
		administer(t, admin, method, "http://localhost:"+port+"/api"+path, body, nil)
	}
	api(http.MethodPost, "/auth/", map[string]any{"username": "admin", "password": "password"})
	for _, scope := range []string{"email", "profile", "offline_access"} {
		api(http.MethodPost, "/scope/", map[string]any{"name": scope, "display_name": scope, "description": scope, "password_required": true, "password_max_age": 0, "scheme": map[string]any{}})
	}
	private, public := newRSAKey(t)
	api(http.MethodPost, "/mod/plugin/", map[string]any{"module": "oidc", "name": "oidc", "display_name": "OIDC", "parameters": map[string]any{
		"iss": p.Issuer, "jwt-type": "rsa", "jwt-key-size": "256", "key": private, "cert": public,
		"access-token-duration": 3600, "refresh-token-duration": 1209600, "code-duration": 600, "refresh-token-rolling": true, "refresh-token-one-use": "always",
		"allow-non-oidc": true, "auth-type-code-enabled": true, "auth-type-code-revoke-replayed": true, "auth-type-token-enabled": false, "auth-type-id-token-enabled": false,
		"auth-type-none-enabled": false, "auth-type-password-enabled": false, "auth-type-client-enabled": false, "auth-type-device-enabled": false, "auth-type-refresh-enabled": true,
		"subject-type": "public", "pkce-allowed": true, "pkce-method-plain-allowed": false, "introspection-revocation-allowed": true, "introspection-revocation-allow-target-client": true,
		"jwks-show": true, "scope": []any{}, "additional-parameters": []any{}, "claims": []any{}, "name-claim": "on-demand", "email-claim": "on-demand",
	}})
	for _, c := range p.Clients {
		api(http.MethodPost, "/client/", map[string]any{
			"client_id": c.ID, "name": c.ID, "description": "", "client_secret": c.Secret, "password": c.Secret, "confidential": true, "enabled": true,
			"redirect_uri": []string{redirect}, "authorization_type": []string{"code", "refresh_token"}, "scope": []string{}, "sector_identifier_uri": "",
			"token_endpoint_auth_method": []string{"client_secret_basic", "client_secret_post"},
		})
	}
	person := func(user string, enabled bool) map[string]any {
		return map[string]any{
			"username": user, "name": user, "email": Address(user), "password": Password, "enabled": enabled,
			"scope": []string{"openid", "email", "profile", "offline_access", "g_profile"},
		}
	}
	for _, user := range Users {
		api(http.MethodPost, "/user/", person(user, true))
	}
	// The login page is a program: this is what it posts.
	p.Prepare = func(b *Browser) {
		b.Meets = func(ctx context.Context, r *http.Request) (*http.Request, error) {
			if !strings.HasSuffix(r.URL.Path, "/login.html") {
				return r, nil
			}
			q := r.URL.Query()
			if _, err := b.send(ctx, http.MethodPost, base+"/api/auth/", map[string]any{"username": b.Username, "password": b.Password}); err != nil {
				return nil, err
			}
			if _, err := b.send(ctx, http.MethodPut, base+"/api/auth/grant/"+q.Get("client_id"), map[string]any{"scope": q.Get("scope")}); err != nil {
				return nil, err
			}
			return http.NewRequestWithContext(ctx, http.MethodGet, q.Get("callback_url")+"&g_continue", nil)
		}
	}
	p.Remove = []Removal{
		{"deleted", Users[1], func() { api(http.MethodDelete, "/user/"+Users[1], nil) }},
		{"disabled", Users[2], func() { api(http.MethodPut, "/user/"+Users[2], person(Users[2], false)) }},
	}
	return p
}
