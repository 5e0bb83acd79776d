// Logs a person in at an MCP server and lists its tools. The argument is the MCP URL.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';

// The browser brings the answer here. Any free port will do.
const listener = createServer((request, response) => {
  const query = new URL(request.url, provider.redirectUrl).searchParams;
  response.end('Done. You can close this page.');
  listener.emit('answer', query);
});
listener.listen(0, '127.0.0.1');
await once(listener, 'listening');

// What the SDK wants to have kept: here in memory, so that each start is a login.
const kept = { state: randomUUID() };
const provider = {
  redirectUrl: `http://127.0.0.1:${listener.address().port}/callback`,
  get clientMetadata() {
    return {
      client_name: 'My program',
      redirect_uris: [this.redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  state: () => kept.state,
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => { kept.discovery = discovery; },
  redirectToAuthorization: (url) => console.log('Open this in a browser:', url.href),
};

const connect = async () => {
  const client = new Client({ name: 'my-program', version: '1' });
  const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), { authProvider: provider });
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  const [query] = await once(listener, 'answer');
  if (query.has('error')) throw new Error(`the login ended: ${query.get('error')} ${query.get('error_description')}`);
  if (query.get('state') !== kept.state) throw new Error('an answer to another login');
  await transport.finishAuth(query);
  return connect();
};

const client = await connect();
for (const tool of (await client.listTools()).tools) console.log(tool.name);
await client.close();
listener.close();
