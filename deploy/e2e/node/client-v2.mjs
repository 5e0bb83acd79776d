// A client on the TypeScript client 2.x, which asks for the newest revision of MCP first.
import {
  auth, Client, ClientCredentialsProvider, createPrivateKeyJwtAuth, CrossAppAccessProvider, discoverAndRequestJwtAuthGrant, DpopSession,
  PrivateKeyJwtProvider, requestJwtAuthorizationGrant, StreamableHTTPClientTransport,
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
  session: (alg) => DpopSession.create({ alg }),
  withoutPage: ({ authServer: expectedIssuer, clientId, clientSecret, key, grant, enterprise, assertion }) => {
    // The SDK has no provider for workloads. This one takes any assertion.
    if (grant === 'workload') return new CrossAppAccessProvider({ clientId, expectedIssuer, assertion: async () => assertion });
    if (grant === 'id-jag') {
      const provider = new CrossAppAccessProvider({
        clientId, clientSecret, expectedIssuer,
        assertion: async ({ authorizationServerUrl: audience, resourceUrl: resource, scope, fetchFn }) => {
          const { issuer: idpUrl, tokenEndpoint, ...known } = enterprise;
          const asked = { ...known, audience, resource, scope, fetchFn };
          const answer = tokenEndpoint ? requestJwtAuthorizationGrant({ ...asked, tokenEndpoint }) : discoverAndRequestJwtAuthGrant({ ...asked, idpUrl });
          return (await answer).jwtAuthGrant;
        },
      });
      // The SDK's provider knows secrets only. Where there is a key, the application proves that.
      if (key) provider.addClientAuthentication = createPrivateKeyJwtAuth({ issuer: clientId, subject: clientId, privateKey: key, alg: key.alg });
      return provider;
    }
    return key ? new PrivateKeyJwtProvider({ clientId, privateKey: key, algorithm: key.alg, expectedIssuer })
      : new ClientCredentialsProvider({ clientId, clientSecret, expectedIssuer });
  },
  finish: (transport, _provider, query) => transport.finishAuth(query),
  whoami,
  revision: (client) => client.getNegotiatedProtocolVersion(),
});
