#!/usr/bin/env bash
# The scope offline_access, which the client may ask for and the person agrees to, brings no refresh
# token and no error, unless the request also has prompt=consent. OpenID Connect Core section 11
# says so: "The Authorization Server MUST ignore the offline_access request unless …". A client that
# does not look at the answer's scope learns it when the access token expires.
. "$(dirname "$0")/lib.sh"

npm init -y >/dev/null && npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
port=$(free_port)
cat >login.mjs <<'JS'
import { createHash, randomBytes } from "node:crypto";
import Provider from "oidc-provider";
const issuer = `http://localhost:${process.argv[2]}`, redirect_uri = "http://localhost:9/callback";
const provider = new Provider(issuer, {
  clients: [{ client_id: "c", client_secret: "s", redirect_uris: [redirect_uri], grant_types: ["authorization_code", "refresh_token"] }],
  findAccount: (_, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
});
provider.listen(process.argv[2]);

async function login(more) {
  const jar = new Map(), verifier = randomBytes(32).toString("base64url");
  const load = async (url, body) => {
    const cookie = [...jar].map((c) => c.join("=")).join("; ");
    const r = await fetch(url, { method: body ? "POST" : "GET", body: body && new URLSearchParams(body), headers: { cookie }, redirect: "manual" });
    for (const c of r.headers.getSetCookie()) { const [k, v] = c.split(";")[0].split("="); v ? jar.set(k, v) : jar.delete(k); }
    return r;
  };
  let r = await load(`${issuer}/auth?` + new URLSearchParams({
    client_id: "c", redirect_uri, response_type: "code", scope: "openid offline_access", ...more,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256",
  }));
  for (let url; (url = r.headers.get("location") ?? r.url); ) {
    if (url.startsWith(redirect_uri)) {
      const code = new URL(url).searchParams.get("code");
      const t = await fetch(`${issuer}/token`, { method: "POST", headers: { authorization: "Basic " + btoa("c:s") },
        body: new URLSearchParams({ grant_type: "authorization_code", code, redirect_uri, code_verifier: verifier }) });
      return t.json();
    }
    r = await load(new URL(url, issuer));
    const page = r.status === 200 && (await r.text());
    if (page) r = await load(r.url, page.includes('value="login"') ? { prompt: "login", login: "alice", password: "x" } : { prompt: "consent" });
  }
}
for (const more of [{}, { prompt: "consent" }]) {
  const t = await login(more);
  console.log(`refresh token: ${"refresh_token" in t ? "yes" : "no"}, scope: ${t.scope}`);
}
process.exit(0);
JS
node login.mjs "$port" 2>/dev/null | grep "^refresh token" >out
seen "scope=openid offline_access" "refresh token: no, scope: openid" "$(sed -n 1p out)"
seen "the same with prompt=consent" "refresh token: yes, scope: openid offline_access" "$(sed -n 2p out)"
done_with "oidc-provider 9.13.3"
