// A client on the AI SDK.
import { auth, createMCPClient } from '@ai-sdk/mcp';
import { application } from './app.mjs';

await application({
  package: '@ai-sdk/mcp',
  connect: (authProvider, url) => [createMCPClient({ transport: { type: 'http', url, authProvider } })],
  auth,
  finish: (_transport, provider, query, serverUrl) => auth(provider, {
    serverUrl, authorizationCode: query.get('code'), callbackState: query.get('state'), callbackIssuer: query.get('iss') ?? undefined,
  }),
  whoami: async (client) => {
    const { whoami } = await client.tools();
    const { structuredContent, isError } = await whoami.execute({}, { toolCallId: '1', messages: [] });
    if (isError || !structuredContent?.sub) throw new Error('whoami: ' + JSON.stringify(structuredContent));
    return structuredContent;
  },
  revision: (client) => client.protocolVersion,
});
