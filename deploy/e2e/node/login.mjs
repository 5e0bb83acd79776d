// One login as an application does it that embeds an MCP SDK: the SDK does all of OAuth, the application opens a browser
// and listens on loopback for the answer. client-v1.mjs and client-v2.mjs hand in what differs between the SDKs.
//
// The argument is JSON:
//   server                   URL of the MCP server
//   redirect                 path of the callback
//   metadataUrl              CIMD: the client_id
//   clientId, clientSecret   pre-registered
//   authMethod               what a registration asks for
//   key                      CIMD: private JWK that authenticates the client
// Printed are lines of JSON: {"open": URL for the browser}, then {"result": …}. Exit status 0 means that a tool was called, the
// token refreshed and the tool called again.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

export const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

/** What an application keeps for the SDK: here in memory. */
export class Provider {
  #client;
  #tokens;
  #verifier;
  #state = randomUUID();

  constructor(name, way, redirectUrl) {
    this.redirectUrl = redirectUrl;
    this.clientMetadataUrl = way.metadataUrl;
    this.clientMetadata = {
      client_name: name,
      redirect_uris: [redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: way.authMethod,
    };
    if (way.clientId) this.#client = { client_id: way.clientId, client_secret: way.clientSecret };
  }

  state() { return this.#state; }
  clientInformation() { return this.#client; }
  saveClientInformation(client) { this.#client = client; }
  tokens() { return this.#tokens; }
  saveTokens(tokens) { this.#tokens = tokens; }
  saveCodeVerifier(verifier) { this.#verifier = verifier; }
  codeVerifier() { return this.#verifier; }
  redirectToAuthorization(url) { print({ open: url.href }); }
}

async function whoami(client) {
  const { structuredContent, isError } = await client.callTool({ name: 'whoami', arguments: {} });
  if (isError || !structuredContent?.sub) throw new Error('whoami: ' + JSON.stringify(structuredContent));
  return structuredContent;
}

/** sdk: package, newClient(), Transport, UnauthorizedError, auth, createPrivateKeyJwtAuth, finish(transport, query), revision(client, transport). */
export async function login(sdk) {
  const way = JSON.parse(process.argv[2]);
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${sdk.package}/package.json`, import.meta.url)));

  const listener = createServer();
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const provider = new Provider(sdk.package, way, `http://127.0.0.1:${listener.address().port}${way.redirect}`);
  if (way.key) {
    provider.addClientAuthentication = sdk.createPrivateKeyJwtAuth({
      issuer: way.metadataUrl, subject: way.metadataUrl, privateKey: way.key, alg: way.key.alg,
    });
  }

  const transport = () => new sdk.Transport(new URL(way.server), { authProvider: provider });

  const callback = once(listener, 'request');
  const first = transport();
  try {
    await sdk.newClient().connect(first);
    throw new Error('connected without a login');
  } catch (error) {
    if (!(error instanceof sdk.UnauthorizedError)) throw error;
  }
  const [request, response] = await callback;
  const query = new URL(request.url, provider.redirectUrl).searchParams;
  response.end('Done, back to the client.');
  listener.close();
  if (query.get('state') !== provider.state()) throw new Error('a state that is not ours');
  await sdk.finish(first, query);

  const client = sdk.newClient();
  const connected = transport();
  await client.connect(connected);
  const { sub } = await whoami(client);
  const result = { package: sdk.package, version, revision: sdk.revision(client, connected), sub };

  const old = provider.tokens();
  if (!old.refresh_token) throw new Error('no refresh token');
  if (await sdk.auth(provider, { serverUrl: way.server }) !== 'AUTHORIZED') throw new Error('the refresh led to a login');
  if (provider.tokens().access_token === old.access_token) throw new Error('the refresh brought the old token');
  if ((await whoami(client)).sub !== sub) throw new Error('the refresh brought another subject');
  await client.close();
  print({ result });
}
