#!/usr/bin/env bash
# A client that is refused for the way in which it sends its secret has used the code up: the same
# code, sent in the right way a moment later, is worth nothing. So a library that tries one way and
# then the other, as x/oauth2 does unless told which (oauth2-code-twice.sh), gets nothing the second
# time either. Other providers look at the client first.
. "$(dirname "$0")/lib.sh"

npm init -y >/dev/null && npm install --silent --no-audit --no-fund --legacy-peer-deps better-auth@1.7.5 @better-auth/oauth-provider@1.7.5 >/dev/null
cat >refused.mjs <<'JS'
import { createHash } from "node:crypto";
import { oauthProvider } from "@better-auth/oauth-provider";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { jwt } from "better-auth/plugins";

const base = "http://localhost:3000/api/auth", redirect_uri = "http://localhost:9/callback", email = "alice@example.com", password = "correct-horse-7";
const db = {};
const auth = betterAuth({
  baseURL: "http://localhost:3000", secret: "0123456789abcdef0123456789abcdef", telemetry: { enabled: false }, database: memoryAdapter(db),
  emailAndPassword: { enabled: true }, rateLimit: { enabled: false },
  plugins: [jwt(), oauthProvider({ loginPage: "/login", consentPage: "/consent", silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true } })],
});
for (const table of Object.values((await auth.$context).tables)) db[table.modelName] ??= [];
const { headers: h } = await auth.api.signUpEmail({ body: { email, password, name: "Alice" }, returnHeaders: true });
const headers = new Headers({ cookie: h.getSetCookie().map((c) => c.split(";")[0]).join("; "), origin: "http://localhost:3000" });
const client = await auth.api.adminCreateOAuthClient({ headers, body: {
  redirect_uris: [redirect_uri], token_endpoint_auth_method: "client_secret_post", application_type: "native", scope: "openid offline_access",
  grant_types: ["authorization_code", "refresh_token"], response_types: ["code"] } });

const token = async (form, headers = {}) => (await auth.handler(new Request(`${base}/oauth2/token`, { method: "POST", body: new URLSearchParams(form), headers }))).json();
const basic = (form) => token(form, { authorization: "Basic " + btoa(`${client.client_id}:${client.client_secret}`) });
const post = (form) => token({ ...form, client_id: client.client_id, client_secret: client.client_secret });
async function code() {
  const verifier = crypto.randomUUID() + crypto.randomUUID();
  const r = await auth.handler(new Request(`${base}/oauth2/authorize?` + new URLSearchParams({
    client_id: client.client_id, redirect_uri, response_type: "code", scope: "openid offline_access", state: "s",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256" }), { headers }));
  let to = r.headers.get("location");
  if (to.includes("/consent?")) {
    const c = await auth.handler(new Request(`${base}/oauth2/consent`, { method: "POST", headers: { ...Object.fromEntries(headers), "content-type": "application/json" },
      body: JSON.stringify({ accept: true, oauth_query: to.split("?")[1] }) }));
    to = c.headers.get("location") ?? (({ url, redirect_uri }) => url ?? redirect_uri)(await c.json());
  }
  return { grant_type: "authorization_code", code: new URL(to).searchParams.get("code"), redirect_uri, code_verifier: verifier };
}
const says = (a) => console.log(a.error ?? "tokens");

says(await post(await code()));
const second = await code();
says(await basic(second));
says(await post(second));
process.exit(0);
JS
node refused.mjs >out 2>err || cat err
seen "a code, with the secret in the body as the client is registered" "tokens" "$(sed -n 1p out)"
seen "another, with the secret in the header" invalid_client "$(sed -n 2p out)"
seen "the same code, with the secret in the body" invalid_grant "$(sed -n 3p out)"
done_with "better-auth 1.7.5, @better-auth/oauth-provider 1.7.5"
