#!/usr/bin/env bash
# MCP TypeScript SDK (@modelcontextprotocol/sdk 1.32.2 and @modelcontextprotocol/client 2.4.0): a
# 429 to its requests for the authorization server's metadata, from a rate limit, means "there is
# none". It then registers at /register of the HOST and sends the person to /authorize there,
# whatever path the protected resource document has named, and though that document came. A 503 in
# the same place is an error, and nothing else happens.
source "$(dirname "$0")/lib.sh"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
cat >main.mjs <<'JS'
import http from 'node:http';
import { auth as v1 } from '@modelcontextprotocol/sdk/client/auth.js';
import { auth as v2 } from '@modelcontextprotocol/client';

for (const [name, auth] of [['sdk', v1], ['client', v2]]) {
  for (const status of [429, 503]) {
    const posted = [];
    const server = http.createServer((request, response) => {
      const base = `http://${request.headers.host}`;
      const send = (code, body) => {
        response.writeHead(code, { 'content-type': 'application/json', 'retry-after': '5' });
        response.end(JSON.stringify(body));
      };
      if (request.method === 'POST') posted.push(request.url);
      if (request.url.includes('oauth-protected-resource'))
        send(200, { resource: base + '/wiki/mcp', authorization_servers: [base + '/wiki'] });
      else if (request.url.includes('.well-known')) send(status, {});
      else send(201, { client_id: 'id', redirect_uris: ['http://localhost:1/cb'] });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    let client, login = 'none';
    const provider = {
      redirectUrl: 'http://localhost:1/cb',
      clientMetadata: { redirect_uris: ['http://localhost:1/cb'], client_name: 'finding' },
      clientInformation: () => client, saveClientInformation: (c) => { client = c; },
      tokens: () => undefined, saveTokens: () => {},
      saveCodeVerifier: () => {}, codeVerifier: () => 'v',
      redirectToAuthorization: (url) => { login = url.pathname; },
    };
    const result = await auth(provider, { serverUrl: `http://127.0.0.1:${server.address().port}/wiki/mcp` })
      .catch(() => 'error');
    console.log(name, status, result, 'posted:', posted.join() || 'nothing', 'login:', login);
    server.close();
  }
}
JS
node main.mjs 2>/dev/null >out
for name in sdk client; do
  seen "$name, 429" "$name 429 REDIRECT posted: /register login: /authorize" "$(grep "^$name 429" out)"
  seen "$name, 503" "$name 503 error posted: nothing login: none" "$(grep "^$name 503" out)"
done
done_with "@modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/client 2.4.0"
