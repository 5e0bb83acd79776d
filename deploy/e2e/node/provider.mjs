// The OpenID provider oidc-provider, as strict as it can be: a refresh token works once, and a
// second use ends everything that came from its login. It gives one as OpenID Connect Core §11
// says: where the request has prompt=consent. Whoever gives a name logs in. POST /disable?sub=NAME
// disables somebody, as an administrator would. Whoever is asked to sign in by acr "phr" does so.
//
//   node provider.mjs PORT ISSUER CLIENT_ID CLIENT_SECRET REDIRECT_URI...
//
// CLIENT_SECRET jwks_uri=URL: the client has none, and proves itself by a key that stands there
// (private_key_jwt).
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

import Provider from "oidc-provider";

const [port, issuer, client_id, client_secret, ...redirect_uris] = process.argv.slice(2);
const disabled = new Set();
const strong = "phr";
const [, jwks_uri] = client_secret.match(/^jwks_uri=(.*)/) ?? [];
const proof = jwks_uri ? { token_endpoint_auth_method: "private_key_jwt", jwks_uri } : { client_secret };

const provider = new Provider(issuer, {
  clients: [{ client_id, ...proof, redirect_uris, grant_types: ["authorization_code", "refresh_token"] }],
  cookies: { keys: [client_secret] },
  claims: { openid: ["sub"], email: ["email"], profile: ["name"] },
  features: { revocation: { enabled: true } },
  rotateRefreshToken: true,
  acrValues: [strong],
  // Its own dispatcher reads no jwks_uri at a special-use address, and here all are on the
  // loopback.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (_, sub) =>
    disabled.has(sub) ? undefined : { accountId: sub, claims: async () => ({ sub, email: `${sub}@example.com`, name: sub }) },
});
// Why it refuses is not in its answers.
provider.on("grant.error", (_, err) => console.error(err.message, err.error_detail ?? "", err.cause ?? ""));
const app = provider.callback();

createServer(async (req, res) => {
  const url = new URL(req.url, issuer);
  if (req.method === "POST" && url.pathname === "/disable") {
    disabled.add(url.searchParams.get("sub"));
    res.writeHead(204).end();
    return;
  }
  if (req.method === "POST" && url.pathname.startsWith("/interaction/")) {
    const { prompt, params } = await provider.interactionDetails(req, res);
    if (prompt.name === "login" && params.acr_values?.split(" ").includes(strong)) {
      const accountId = new URLSearchParams(await text(req)).get("login");
      await provider.interactionFinished(req, res, { login: { accountId, acr: strong } });
      return;
    }
  }
  app(req, res);
}).listen(Number(port), "127.0.0.1");
