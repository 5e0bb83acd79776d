// A client on the TypeScript client 2.x, which asks for the newest revision of MCP first.
import {
  auth, Client, createPrivateKeyJwtAuth, StreamableHTTPClientTransport, UnauthorizedError,
} from '@modelcontextprotocol/client';
import { login } from './login.mjs';

await login({
  package: '@modelcontextprotocol/client',
  newClient: () => new Client({ name: 'client-v2', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } }),
  Transport: StreamableHTTPClientTransport,
  UnauthorizedError,
  auth,
  createPrivateKeyJwtAuth,
  finish: (transport, query) => transport.finishAuth(query),
  revision: (client) => client.getNegotiatedProtocolVersion(),
});
