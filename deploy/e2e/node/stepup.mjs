// An application that reads first and then wants to write: the server answers 403
// insufficient_scope, the SDK asks for more, the person allows it, and the same call works.
//
// The arguments are the SDK (v1 or v2), the URL of the MCP server and the path of the callback.
// Printed are lines of JSON: {"open": URL for the browser} twice, then {"result": …}.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Provider, print } from './app.mjs';

const [version, server, redirect] = process.argv.slice(2);
const v1 = version === 'v1';
const sdk = v1
  ? {
      ...(await import('@modelcontextprotocol/sdk/client/index.js')),
      ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
      ...(await import('@modelcontextprotocol/sdk/client/auth.js')),
    }
  : await import('@modelcontextprotocol/client');

const listener = createServer();
listener.listen(0, '127.0.0.1');
await once(listener, 'listening');
const provider = new Provider('step up', { authMethod: 'none' }, `http://127.0.0.1:${listener.address().port}${redirect}`);
if (v1) {
  // The SDK 1.x refreshes when it should ask for more, as long as it has a refresh token, and gives
  // up. An application that steps up keeps none.
  const { saveTokens } = Provider.prototype;
  provider.saveTokens = function ({ refresh_token, ...tokens }) { saveTokens.call(this, tokens); };
}

/** Runs action; when it leads to a login, completes that and runs it again. */
async function authorized(transport, action) {
  const callback = once(listener, 'request');
  try {
    await action();
    throw new Error('no login was asked for');
  } catch (error) {
    if (!(error instanceof sdk.UnauthorizedError)) throw error;
  }
  const [request, response] = await callback;
  const query = new URL(request.url, provider.redirectUrl).searchParams;
  response.end('Done, back to the client.');
  await transport.finishAuth(v1 ? query.get('code') : query);
}

const transport = () => new sdk.StreamableHTTPClientTransport(new URL(server), { authProvider: provider });
const client = () => new sdk.Client({ name: 'step up', version: '1.0.0' });
const first = transport();
await authorized(first, () => client().connect(first));

const connected = transport();
const c = client();
await c.connect(connected);
const call = async (name) => (await c.callTool({ name, arguments: {} })).structuredContent;
const { scopes: before } = await call('whoami');
await authorized(connected, () => call('delete_page'));
const { sub, scopes: after } = await call('delete_page');
await c.close();
listener.close();
listener.closeAllConnections();
print({ result: { before, after, sub } });
