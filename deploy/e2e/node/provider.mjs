// The OpenID provider oidc-provider, as strict as it can be: a refresh token works once, and a second use ends everything
// that came from its login. Whoever gives a name logs in. POST /disable?sub=NAME disables somebody, as an administrator would.
//
//   node provider.mjs PORT ISSUER CLIENT_ID CLIENT_SECRET REDIRECT_URI...
import { createServer } from "node:http";

import Provider from "oidc-provider";

const [port, issuer, client_id, client_secret, ...redirect_uris] = process.argv.slice(2);
const disabled = new Set();

const provider = new Provider(issuer, {
  clients: [{ client_id, client_secret, redirect_uris, grant_types: ["authorization_code", "refresh_token"] }],
  cookies: { keys: [client_secret] },
  claims: { openid: ["sub"], email: ["email"], profile: ["name"] },
  features: { revocation: { enabled: true } },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  findAccount: (_, sub) =>
    disabled.has(sub) ? undefined : { accountId: sub, claims: async () => ({ sub, email: `${sub}@example.com`, name: sub }) },
});
const app = provider.callback();

createServer((req, res) => {
  const url = new URL(req.url, issuer);
  if (req.method === "POST" && url.pathname === "/disable") {
    disabled.add(url.searchParams.get("sub"));
    res.writeHead(204).end();
    return;
  }
  app(req, res);
}).listen(Number(port), "127.0.0.1");
