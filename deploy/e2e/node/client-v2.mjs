// A client on the TypeScript client 2.x, which asks for the newest revision of MCP first.
import {
  auth, Client, ClientCredentialsProvider, createPrivateKeyJwtAuth, CrossAppAccessProvider, discoverAndRequestJwtAuthGrant, PrivateKeyJwtProvider,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
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
  withoutPage: ({ server, clientId, clientSecret, key, grant, enterprise }) => {
    const expectedIssuer = server.replace(/\/mcp$/, '');
    if (grant === 'id-jag') {
      return new CrossAppAccessProvider({
        clientId, clientSecret, expectedIssuer,
        assertion: async ({ authorizationServerUrl, resourceUrl, scope, fetchFn }) => (await discoverAndRequestJwtAuthGrant({
          idpUrl: enterprise.issuer, audience: authorizationServerUrl, resource: resourceUrl, scope, fetchFn,
          idToken: enterprise.idToken, clientId: enterprise.clientId, clientSecret: enterprise.clientSecret,
        })).jwtAuthGrant,
      });
    }
    return key ? new PrivateKeyJwtProvider({ clientId, privateKey: key, algorithm: key.alg, expectedIssuer })
      : new ClientCredentialsProvider({ clientId, clientSecret, expectedIssuer });
  },
  finish: (transport, _provider, query) => transport.finishAuth(query),
  whoami,
  revision: (client) => client.getNegotiatedProtocolVersion(),
});
