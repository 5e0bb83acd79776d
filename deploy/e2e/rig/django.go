package rig

// StartDjango starts django-oauth-toolkit of the Debian package (../debian/toolkit.py).
func StartDjango(t T, logs *Logs, redirect string) *RealProvider {
	p := newRealProvider(t, "django-oauth-toolkit 1.7.0", "/o/token/")
	base := p.Issuer
	p.Issuer += "/o"
	p.Advice = "`OIDC_ENABLED`; claims in a validator of your own"
	p.Scopes, p.Groups = "openid email profile groups", "admins"
	p.runsScript(t, logs, "/usr/bin/python3", "toolkit.py", base, redirect, "PYTHONDONTWRITEBYTECODE=1")
	p.Prepare = func(b *Browser) { b.Fill = map[string]string{"allow": "Authorize"} }
	p.Remove = []Removal{{"deleted", Users[1], p.tells(t, "delete", Users[1])}, {"deactivated", Users[2], p.tells(t, "deactivate", Users[2])}}
	return p
}
