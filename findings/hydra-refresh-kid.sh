#!/usr/bin/env bash
# After a new signing key was made, the id_token of a refresh is signed with the new key and names
# the old one: its kid is that of the login. Both keys are published, so who verifies by kid (RFC
# 7515 section 4.1.4) refuses it, and only who tries the others finds the one that fits. Needs gcc;
# builds Hydra, which takes up to 5 minutes the first time.
. "$(dirname "$0")/lib.sh"

go mod init finding.test/finding 2>/dev/null
go mod edit -replace github.com/gobuffalo/pop/v6=github.com/ory/pop/v6@v6.2.1-0.20241121111754-e5dfc0f3344b # as in Hydra's own go.mod
go get -tool github.com/ory/hydra/v2@v2.3.0 2>/dev/null
CGO_ENABLED=1 go build -trimpath -tags sqlite,sqlite_omit_load_extension -ldflags='-s -w' -o hydra github.com/ory/hydra/v2
public=$(free_port) admin=$(free_port)
cat >hydra.yml <<YAML
dsn: memory
serve: {public: {host: 127.0.0.1, port: $public}, admin: {host: 127.0.0.1, port: $admin}, cookies: {same_site_mode: Lax}}
urls: {self: {issuer: "http://localhost:$public/"}, login: "http://login.test/login", consent: "http://login.test/consent"}
secrets: {system: [a-secret-for-a-test-alone]}
sqa: {opt_out: true}
YAML
./hydra serve all --dev --config hydra.yml >hydra.log 2>&1 &
until curl -fs -o /dev/null "http://localhost:$public/health/ready"; do sleep 0.2; done
cat >refresh.mjs <<'JS'
import { createHash, createPublicKey, verify } from "node:crypto";
const issuer = `http://localhost:${process.argv[2]}`, admin = `http://127.0.0.1:${process.argv[3]}/admin`, redirect_uri = "http://localhost:9/callback";
const json = async (method, path, body) => (await fetch(admin + path, { method, body: body && JSON.stringify(body), headers: { "content-type": "application/json" } })).json();
const token = async (form) => (await fetch(`${issuer}/oauth2/token`, { method: "POST", body: new URLSearchParams(form), headers: { authorization: "Basic " + btoa("c:some-secret") } })).json();

await json("POST", "/keys/hydra.openid.id-token", { alg: "RS256", use: "sig", kid: "old" });
await json("POST", "/clients", { client_id: "c", client_secret: "some-secret", redirect_uris: [redirect_uri], scope: "openid offline_access",
  grant_types: ["authorization_code", "refresh_token"], response_types: ["code"], token_endpoint_auth_method: "client_secret_basic" });
const jar = new Map(), code_verifier = "v".repeat(43);
let url = `${issuer}/oauth2/auth?` + new URLSearchParams({ client_id: "c", redirect_uri, response_type: "code", scope: "openid offline_access", state: "some-state",
  code_challenge: createHash("sha256").update(code_verifier).digest("base64url"), code_challenge_method: "S256" });
while (!url.startsWith(redirect_uri)) {
  const u = new URL(url), login = u.searchParams.get("login_challenge"), consent = u.searchParams.get("consent_challenge");
  if (u.host === "login.test" && login) url = (await json("PUT", `/oauth2/auth/requests/login/accept?login_challenge=${login}`, { subject: "alice" })).redirect_to;
  else if (u.host === "login.test") url = (await json("PUT", `/oauth2/auth/requests/consent/accept?consent_challenge=${consent}`, { grant_scope: ["openid", "offline_access"] })).redirect_to;
  else {
    const r = await fetch(url, { redirect: "manual", headers: { cookie: [...jar].map((c) => c.join("=")).join("; ") } });
    for (const c of r.headers.getSetCookie()) { const [, k, v] = c.match(/^([^=]+)=([^;]*)/); jar.set(k, v); }
    url = new URL(r.headers.get("location"), issuer).href;
  }
}
const show = async (when, t) => {
  const [head, claims, signature] = t.id_token.split(".");
  const { keys } = await (await fetch(`${issuer}/.well-known/jwks.json`)).json();
  const fits = keys.filter((jwk) => verify("sha256", Buffer.from(`${head}.${claims}`), createPublicKey({ key: jwk, format: "jwk" }), Buffer.from(signature, "base64url")));
  console.log(`names ${JSON.parse(Buffer.from(head, "base64url")).kid}, signed with ${fits.map((k) => k.kid)}`);
};
const first = await token({ grant_type: "authorization_code", code: new URL(url).searchParams.get("code"), redirect_uri, code_verifier });
await show("login", first);
await json("POST", "/keys/hydra.openid.id-token", { alg: "RS256", use: "sig", kid: "new" });
await show("refresh", await token({ grant_type: "refresh_token", refresh_token: first.refresh_token }));
JS
node refresh.mjs "$public" "$admin" >out || cat hydra.log
seen "id_token of the login" "names old, signed with old" "$(sed -n 1p out)"
seen "id_token of a refresh, after the new key" "names old, signed with new" "$(sed -n 2p out)"
done_with "Ory Hydra v2.3.0"
