// A client on the TypeScript client 2.x, which asks for the newest revision of MCP first.
import { auth, Client, createPrivateKeyJwtAuth, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { application, whoami } from './app.mjs';

await application({
  package: '@modelcontextprotocol/client',
  connect: (authProvider, server) => {
    const client = new Client({ name: 'client-v2', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    const transport = new StreamableHTTPClientTransport(new URL(server), { authProvider });
    return [client.connect(transport).then(() => client), transport];
  },
  auth,
  createPrivateKeyJwtAuth,
  finish: (transport, _provider, query) => transport.finishAuth(query),
  whoami,
  revision: (client) => client.getNegotiatedProtocolVersion(),
});
