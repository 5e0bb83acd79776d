// A client on the TypeScript SDK 1.x.
import { auth, UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { createPrivateKeyJwtAuth } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { login } from './login.mjs';

await login({
  package: '@modelcontextprotocol/sdk',
  newClient: () => new Client({ name: 'client-v1', version: '1.0.0' }),
  Transport: StreamableHTTPClientTransport,
  UnauthorizedError,
  auth,
  createPrivateKeyJwtAuth,
  finish: (transport, query) => transport.finishAuth(query.get('code')),
  revision: (_client, transport) => transport.protocolVersion,
});
