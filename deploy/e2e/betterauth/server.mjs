// better-auth with its plugin oauth-provider, in memory. People log in with e-mail and password;
// the first line of output is {"basic":{"ID":…,"Secret":…},"post":…}: it makes the secrets itself.
// POST /rig/delete?email=…, /rig/sessions?email=… and /rig/keys are the administrator's.
//
//   node server.mjs PORT BASE_URL REDIRECT_URI PASSWORD EMAIL...
import { createServer } from "node:http";

import { oauthProvider } from "@better-auth/oauth-provider";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";

const [port, base, redirect, password, ...people] = process.argv.slice(2);
const db = {};
const auth = betterAuth({
  baseURL: base, secret: "a-secret-for-a-test-alone-0123456789", telemetry: { enabled: false },
  database: memoryAdapter(db), emailAndPassword: { enabled: true }, rateLimit: { enabled: false },
  plugins: [jwt(), oauthProvider({ loginPage: "/login", consentPage: "/consent", silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true } })],
});
const context = await auth.$context;
for (const table of Object.values(context.tables)) db[table.modelName] ??= [];

for (const email of people) await auth.api.signUpEmail({ body: { email, password, name: email.split("@")[0] } });
for (const user of db.user) user.emailVerified = true; // as if each had followed the link
const signedIn = await auth.api.signInEmail({ body: { email: people[0], password }, returnHeaders: true });
const headers = new Headers({ cookie: signedIn.headers.getSetCookie().map((c) => c.split(";")[0]).join("; ") });
const clients = {};
for (const kind of ["basic", "post"]) {
  const made = await auth.api.adminCreateOAuthClient({ headers, body: {
    client_name: kind, redirect_uris: [redirect], token_endpoint_auth_method: `client_secret_${kind}`, application_type: "native",
    grant_types: ["authorization_code", "refresh_token"], response_types: ["code"], scope: "openid profile email offline_access",
  } });
  clients[kind] = { ID: made.client_id, Secret: made.client_secret };
}

const handler = toNodeHandler(auth);
createServer(async (req, res) => {
  const url = new URL(req.url, base);
  if (url.pathname === "/ready") return res.end("ready");
  if (!url.pathname.startsWith("/rig/")) return handler(req, res);
  const user = db.user.find((u) => u.email === url.searchParams.get("email"));
  if (url.pathname === "/rig/delete") await context.internalAdapter.deleteUser(user.id);
  if (url.pathname === "/rig/sessions") await (context.internalAdapter.deleteUserSessions ?? context.internalAdapter.deleteSessions)(user.id);
  if (url.pathname === "/rig/keys") db.jwks.length = 0; // the next signature makes another
  res.writeHead(204).end();
}).listen(Number(port), "127.0.0.1", () => console.log(JSON.stringify(clients)));
