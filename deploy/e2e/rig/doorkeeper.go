package rig

// StartDoorkeeper starts Doorkeeper of the Debian packages (../debian/doorkeeper.rb), which GitLab
// is built on.
func StartDoorkeeper(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "Doorkeeper 5.5.0", "/oauth/token")
	p.Scopes, p.Groups = "openid email profile groups", "admins"
	p.Advice = "`use_refresh_token`; `skip_authorization`, since its consent page loses the nonce"
	p.runsScript(t, logs, "/usr/bin/ruby", "doorkeeper.rb", p.Issuer, redirect, "LANG=C.UTF-8", "RAILS_ENV=production")
	p.Remove = []Removal{{"deleted", Users[1], p.tells(t, "delete", Users[1])}, {"tokens revoked", Users[2], p.tells(t, "tokens", Users[2])}}
	return p
}
