// Logs in as OpenID Connect libraries do, which ask for `openid` whatever the metadata says. The
// argument is JSON: name, issuer, clientId, scope. Printed are lines of JSON: {"open": URL for
// the browser}, then {"result": …}.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { InMemoryWebStorage, OidcClient, WebStorageStateStore } from 'oidc-client-ts';
import * as openid from 'openid-client';

const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const way = JSON.parse(process.argv[2]);

const listener = createServer();
listener.listen(0, '127.0.0.1');
await once(listener, 'listening');
const redirectUri = `http://127.0.0.1:${listener.address().port}/callback`;

/** Opens a URL and returns the one to which the browser comes back. */
async function opened(url) {
  const callback = once(listener, 'request');
  print({ open: url });
  const [request, response] = await callback;
  response.end('Done, back to the client.');
  listener.close();
  return new URL(request.url, redirectUri);
}

const logins = {
  async 'oidc-client-ts'() {
    const client = new OidcClient({
      authority: way.issuer, client_id: way.clientId, redirect_uri: redirectUri, scope: way.scope,
      stateStore: new WebStorageStateStore({ store: new InMemoryWebStorage() }),
    });
    const { url } = await client.createSigninRequest({});
    const answer = await client.processSigninResponse((await opened(url)).href);
    const again = await client.useRefreshToken({ state: { refresh_token: answer.refresh_token, scope: answer.scope, profile: answer.profile, data: {} } });
    return { granted: answer.scope, refreshed: again.scope };
  },
  async 'openid-client'() {
    const config = await openid.discovery(new URL(way.issuer), way.clientId, undefined, openid.None(), { execute: [openid.allowInsecureRequests] });
    const pkceCodeVerifier = openid.randomPKCECodeVerifier();
    const expectedState = openid.randomState();
    const url = openid.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri, scope: way.scope, state: expectedState, code_challenge_method: 'S256',
      code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    });
    const answer = await openid.authorizationCodeGrant(config, await opened(url.href), { pkceCodeVerifier, expectedState });
    const again = await openid.refreshTokenGrant(config, answer.refresh_token);
    return { granted: answer.scope, refreshed: again.scope };
  },
};

print({ result: await logins[way.name]() });
