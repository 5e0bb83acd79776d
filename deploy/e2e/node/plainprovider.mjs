// The OpenID provider oidc-provider with its own defaults: it gives a refresh token only where the
// person was asked (prompt=consent), and ends a login whose refresh token or code is used twice.
// Whoever gives a name logs in. POST /disable?sub=NAME removes somebody.
//
//   node plainprovider.mjs PORT ISSUER REDIRECT_URI CLIENTS
//
// where CLIENTS is {"basic":{"ID":…,"Secret":…},"post":…}
import { createServer } from "node:http";

import Provider from "oidc-provider";

const [port, issuer, redirect, clients] = process.argv.slice(2);
const removed = new Set();

const provider = new Provider(issuer, {
  clients: Object.entries(JSON.parse(clients)).map(([kind, { ID, Secret }]) => ({
    client_id: ID, client_secret: Secret, redirect_uris: [redirect], grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: kind === "post" ? "client_secret_post" : "client_secret_basic",
  })),
  cookies: { keys: ["a-key-of-a-test"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  features: { revocation: { enabled: true } },
  findAccount: (_, sub) =>
    removed.has(sub) ? undefined : { accountId: sub, claims: async () => ({ sub, email: `${sub}@example.com`, email_verified: true, name: sub, groups: ["admins", "staff"] }) },
});
const app = provider.callback();

createServer((req, res) => {
  const url = new URL(req.url, issuer);
  if (req.method === "POST" && url.pathname === "/disable") {
    removed.add(url.searchParams.get("sub"));
    res.writeHead(204).end();
    return;
  }
  app(req, res);
}).listen(Number(port), "127.0.0.1");
