// A client on the TypeScript SDK 1.x. A second argument names the folder of another version of it.
import { application, whoami } from './app.mjs';

const folder = process.argv[3] ?? '@modelcontextprotocol/sdk';
const { auth } = await import(folder + '/client/auth.js');
const { LATEST_PROTOCOL_VERSION } = await import(folder + '/types.js');
const { Client } = await import(folder + '/client/index.js');
const { StreamableHTTPClientTransport } = await import(folder + '/client/streamableHttp.js');
// Older versions do not have it.
const { createPrivateKeyJwtAuth } = await import(folder + '/client/auth-extensions.js').catch(() => ({}));

await application({
  package: '@modelcontextprotocol/sdk',
  folder,
  connect: (authProvider, server) => {
    const client = new Client({ name: 'client-v1', version: '1.0.0' });
    const transport = new StreamableHTTPClientTransport(new URL(server), { authProvider });
    return [client.connect(transport).then(() => client), transport];
  },
  auth,
  createPrivateKeyJwtAuth,
  finish: (transport, _provider, query) => transport.finishAuth(query.get('code')),
  whoami,
  // Version 1.12 tells nobody what was agreed on: the server takes what it proposes.
  revision: (_client, transport) => transport.protocolVersion ?? LATEST_PROTOCOL_VERSION,
});
