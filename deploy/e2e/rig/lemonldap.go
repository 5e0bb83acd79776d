package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// StartLemonLDAP starts LemonLDAP::NG of the Debian package liblemonldap-ng-portal-perl, with its
// demonstration directory and sessions in files. Its client may have offline tokens, and the person
// is asked for consent, both as it is by default.
func StartLemonLDAP(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "LemonLDAP::NG 2.16.1", "/oauth2/token")
	p.Issuer += "/"
	p.Scopes, p.Groups, p.Email = "openid email profile groups offline_access", "timelords", "dwho@badwolf.org"
	p.Clients[PostClient] = Client{"post", "another-client-secret-0123456789"}
	p.Advice = "\"Allow offline access\", and a scope rule for each scope that not everybody may have; a claim `email_verified`, for e-mail rules"
	dir := t.TempDir()
	for _, folder := range []string{"conf", "sessions/lock", "psessions/lock", "cache"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatalf("rig: %v", err)
		}
	}
	files := func(folder string) map[string]any {
		return map[string]any{
			"Directory": filepath.Join(dir, folder), "LockDirectory": filepath.Join(dir, folder, "lock"),
			"generateModule": "Lemonldap::NG::Common::Apache::Session::Generate::SHA256",
		}
	}
	options, claims := map[string]any{}, map[string]any{}
	for _, c := range p.Clients {
		options[c.ID] = map[string]any{
			"oidcRPMetaDataOptionsClientID": c.ID, "oidcRPMetaDataOptionsClientSecret": c.Secret, "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
			"oidcRPMetaDataOptionsRedirectUris": redirect, "oidcRPMetaDataOptionsAllowOffline": 1, "oidcRPMetaDataOptionsDisplayName": "MCP",
		}
		claims[c.ID] = map[string]any{"email": "mail", "name": "cn", "preferred_username": "uid", "groups": "groups"}
	}
	number := 0
	configure := func() {
		number++
		private, public := newRSAKey(t)
		config, err := json.MarshalIndent(map[string]any{
			"cfgNum": number, "cfgAuthor": "rig", "cfgDate": "1627287638", "cfgVersion": "2.16.1", "domain": "localhost", "portal": p.Issuer,
			"authentication": "Demo", "userDB": "Same", "passwordDB": "Demo", "registerDB": "Demo", "demoExportedVars": map[string]any{"cn": "cn", "mail": "mail", "uid": "uid"},
			"captcha":    "::Main::Plugin", // the usual one wants ImageMagick, shown or not
			"cookieName": "lemonldap", "securedCookie": 0, "requireToken": 0, "portalCheckLogins": 0, "timeout": 72000,
			"exportedVars": map[string]any{}, "macros": map[string]any{"_whatToTrace": "lc($_user)"}, "whatToTrace": "_whatToTrace",
			"groups":        map[string]any{"timelords": "$uid eq 'dwho'", "staff": "1"},
			"globalStorage": "Apache::Session::File", "globalStorageOptions": files("sessions"), "persistentStorage": "Apache::Session::File", "persistentStorageOptions": files("psessions"),
			"localSessionStorage": "Cache::FileCache", "localSessionStorageOptions": map[string]any{"cache_root": filepath.Join(dir, "cache"), "namespace": "s", "default_expires_in": 600, "directory_umask": "007", "cache_depth": 3},
			"locationRules":                         map[string]any{strings.TrimSuffix(strings.TrimPrefix(p.Issuer, "http://"), "/"): map[string]any{"default": "accept"}},
			"issuerDBOpenIDConnectActivation":       1,
			"oidcServiceMetaDataIssuer":             p.Issuer,
			"oidcServicePrivateKeySig":              private,
			"oidcServicePublicKeySig":               public,
			"oidcServiceKeyIdSig":                   fmt.Sprint("key-", number),
			"oidcServiceIgnoreScopeForClaims":       1,
			"oidcRPMetaDataOptions":                 options,
			"oidcRPMetaDataExportedVars":            claims,
			"oidcServiceAllowAuthorizationCodeFlow": 1,
		}, "", " ")
		if err != nil {
			t.Fatalf("rig: %v", err)
		}
		writeFile(t, filepath.Join(dir, "conf", fmt.Sprintf("lmConf-%d.json", number)), string(config))
	}
	configure()
	ini := writeFile(t, filepath.Join(dir, "lemonldap-ng.ini"), fmt.Sprintf(`[all]
logLevel = warn
checkTime = 1
[configuration]
type = File
dirName = %[1]s/conf
localStorage = Cache::FileCache
localStorageOptions = { 'namespace' => 'c', 'default_expires_in' => 600, 'directory_umask' => '007', 'cache_root' => '%[1]s/cache', 'cache_depth' => 3 }
[portal]
logger = Lemonldap::NG::Common::Logger::Std
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
[handler]
status = 0
useRedirectOnError = 1
`, dir))
	p.runs(t, logs, "/.well-known/openid-configuration", func() *Process {
		cmd := exec.Command(program(t, "starman"), "--listen", p.Backend, "--workers", "4", "--env", "production", "/usr/share/lemonldap-ng/portal/htdocs/index.psgi")
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LLNG_DEFAULTCONFFILE=" + ini}
		cmd.WaitDelay = time.Second // workers that outlive their master hold its output
		proc := StartProcess(t, logs, "lemonldap", cmd)
		t.Cleanup(func() {
			if !proc.Exited() {
				proc.Terminate(t) // and its workers
			}
		})
		return proc
	})
	// The demonstration directory knows three people, whose passwords are their names.
	p.Prepare = func(b *Browser) {
		user := map[string]string{Users[0]: "dwho", Users[1]: "rtyler", Users[2]: "msmith"}[b.Username]
		b.Fill = map[string]string{"user": user, "password": user}
	}
	p.Remove = []Removal{{"all sessions deleted", Users[1], func() {
		for _, folder := range []string{"sessions", "cache"} {
			found, _ := filepath.Glob(filepath.Join(dir, folder, "*"))
			for _, name := range found {
				if filepath.Base(name) != "lock" {
					_ = os.RemoveAll(name)
				}
			}
		}
	}}}
	p.RotateKeys = func() {
		p.Stop()
		configure()
		p.Start()
	}
	return p
}
