// An application that embeds an MCP SDK: the SDK does all of OAuth, the application opens a browser
// and listens on loopback for the answer. client-v1.mjs, client-v2.mjs and client-ai.mjs hand in
// what differs between the SDKs.
//
// The argument is JSON:
//   server                   URL of the MCP server
//   redirect                 path of the callback
//   metadataUrl              CIMD: the client_id
//   clientId, clientSecret   pre-registered
//   authMethod               what a registration asks for
//   key                      CIMD, client_credentials: private JWK that authenticates the client
//   dpop                     algorithm of a key to which the tokens are bound (RFC 9449)
//   grant                    client_credentials, id-jag or workload: no login, no page
//   authServer               of these: issuer of the authorization server
//   assertion                workload: the token that it has
//   enterprise               id-jag: issuer (or tokenEndpoint), clientId, clientSecret there, and
//                            a person's idToken
// Printed are lines of JSON: {"open": URL for the browser}, {"ready": …} after the login, and then
// one answer for each line that is read: "call" calls the tool whoami, "refuse" damages the access
// token that is kept, which the server then refuses while the SDK believes that it is good, "age"
// lets the access token's time be over, "refresh" is an application that refreshes without being
// asked to, "tokens" shows what is kept. "end", or the end of what there is to read, ends the
// program.
import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

/** What a person waits for one call, in milliseconds. */
const patience = 45_000;

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
  storedState() { return this.#state; }
  clientInformation() { return this.#client; }
  saveClientInformation(client) { this.#client = client; }
  tokens() { return this.#tokens; }
  saveTokens(tokens) { this.#tokens = tokens; }
  saveCodeVerifier(verifier) { this.#verifier = verifier; }
  codeVerifier() { return this.#verifier; }
  invalidateCredentials(scope) {
    if (scope === 'all' || scope === 'client') this.#client = undefined;
    if (scope === 'all' || scope === 'tokens') this.#tokens = undefined;
    if (scope === 'all' || scope === 'verifier') this.#verifier = undefined;
  }
  redirectToAuthorization(url) { this.asked = true; print({ open: url.href }); }
}

/**
 * sdk: package, folder of node_modules, connect(provider, server) → [client, transport], finish(transport, provider, query, server),
 * whoami(client), revision(client, transport), auth, createPrivateKeyJwtAuth where it has that, session(algorithm) → its DPoP session,
 * withoutPage(way) → provider of the SDK's own for a grant that needs no login, where it has one.
 */
export async function application(sdk) {
  const way = JSON.parse(process.argv[2]);
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${sdk.folder ?? sdk.package}/package.json`, import.meta.url)));

  const callbacks = new EventEmitter();
  const listener = createServer((request, response) => {
    response.end('Done, back to the client.');
    const url = new URL(request.url, provider.redirectUrl);
    if (url.pathname === way.redirect) callbacks.emit('answer', url.searchParams);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const provider = way.grant ? sdk.withoutPage(way) : new Provider(sdk.package, way, `http://127.0.0.1:${listener.address().port}${way.redirect}`);
  if (way.key && !way.grant) {
    provider.addClientAuthentication = sdk.createPrivateKeyJwtAuth({
      issuer: way.metadataUrl, subject: way.metadataUrl, privateKey: way.key, alg: way.key.alg,
    });
  }

  if (way.dpop) {
    const session = await sdk.session(way.dpop);
    provider.dpop = () => session;
  }

  let client, transport;
  const connect = async () => { [client, transport] = sdk.connect(provider, way.server); client = await client; };

  /** Does something, logs in when that needs it, and does it again. */
  async function authorized(something) {
    provider.asked = false;
    const answer = once(callbacks, 'answer');
    try {
      return await something();
    } catch (error) {
      if (!provider.asked) throw error;
    }
    const [query] = await answer;
    if (query.get('error')) throw new Error('the login ended: ' + query.get('error'));
    if (query.get('state') !== provider.state()) throw new Error('a state that is not ours');
    await sdk.finish(transport, provider, query, way.server);
    return await something();
  }

  const within = (promise) => {
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no answer in ${patience / 1000} s`)), patience); });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  };
  const answered = async (name, promise) => {
    try {
      print({ [name]: (await within(promise)) ?? name });
    } catch (error) {
      print({ failed: error?.message || String(error) }); // an OAuth error without description has an empty message
    }
  };

  try {
    await authorized(connect);
  } catch (error) {
    print({ failed: error?.message || String(error) });
    process.exit(1);
  }
  print({ ready: { package: sdk.package, version, revision: sdk.revision(client, transport) } });
  for await (const command of createInterface({ input: process.stdin })) {
    const tokens = provider.tokens();
    switch (command) {
      case 'call':
        await answered('called', authorized(() => sdk.whoami(client)));
        break;
      case 'refuse':
        provider.saveTokens({ ...tokens, access_token: tokens.access_token + 'x' });
        print({ done: command });
        break;
      case 'age':
        provider.saveTokens({ ...tokens, expires_in: 0, expires_at: 1 });
        print({ done: command });
        break;
      case 'tokens':
        print({ tokens });
        break;
      case 'refresh':
        await answered('done', sdk.auth(provider, { serverUrl: way.server }).then((result) => {
          if (result !== 'AUTHORIZED') throw new Error('the refresh led to a login');
          if (provider.tokens().access_token === tokens.access_token) throw new Error('the refresh brought the old token');
        }));
        break;
      case 'end':
        process.exit(0);
      default:
        throw new Error(command + ' is no command');
    }
  }
  process.exit(0);
}

/** The tool whoami, by the SDKs of the MCP project. */
export async function whoami(client) {
  const { structuredContent, content, isError } = await client.callTool({ name: 'whoami', arguments: {} });
  const said = structuredContent ?? JSON.parse(content[0].text);
  if (isError || !said.sub) throw new Error('whoami: ' + JSON.stringify(said));
  return said;
}
