#!/usr/bin/env bash
# MCP TypeScript SDK (@modelcontextprotocol/sdk 1.32.2 and @modelcontextprotocol/client 2.4.0):
# what happens when a refresh fails for a moment hangs on one word of the body, not on the status.
# JSON with temporarily_unavailable is an error that the program can try again after;
# server_error, and any body that is not OAuth JSON, such as the "Too Many Requests", "Bad
# Gateway" and "no available server" of a proxy, sends the person to a new login although the
# refresh token is good. Retry-After is not read in any case.
source "$(dirname "$0")/lib.sh"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
cat >main.mjs <<'JS'
import http from 'node:http';
import { auth as v1 } from '@modelcontextprotocol/sdk/client/auth.js';
import { auth as v2 } from '@modelcontextprotocol/client';

const answers = [
  [503, '{"error":"temporarily_unavailable"}'], [503, '{"error":"server_error"}'],
  [429, 'Too Many Requests'], [502, 'Bad Gateway'], [503, 'no available server\n'],
];
for (const [name, auth] of [['sdk', v1], ['client', v2]]) {
  for (const [status, body] of answers) {
    const server = http.createServer((request, response) => {
      const base = `http://${request.headers.host}`;
      const send = (code, text) => {
        response.writeHead(code, { 'retry-after': '5', 'content-type': 'application/json' });
        response.end(text);
      };
      if (request.url.includes('oauth-protected-resource'))
        send(200, JSON.stringify({ resource: base + '/mcp', authorization_servers: [base] }));
      else if (request.method === 'GET')
        send(200, JSON.stringify({
          issuer: base, authorization_endpoint: base + '/authorize', token_endpoint: base + '/token',
          response_types_supported: ['code'], code_challenge_methods_supported: ['S256'],
        }));
      else send(status, body);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    let login = 'no login';
    const provider = {
      redirectUrl: 'http://localhost:1/cb',
      clientMetadata: { redirect_uris: ['http://localhost:1/cb'] },
      clientInformation: () => ({ client_id: 'id' }), saveClientInformation: () => {},
      tokens: () => ({ access_token: 'a', token_type: 'Bearer', refresh_token: 'r' }), saveTokens: () => {},
      saveCodeVerifier: () => {}, codeVerifier: () => 'v',
      redirectToAuthorization: () => { login = 'new login'; },
    };
    await auth(provider, { serverUrl: `http://127.0.0.1:${server.address().port}/mcp` }).catch(() => {});
    console.log(name, status, body.trim() + ':', login);
    server.close();
  }
}
JS
node main.mjs 2>/dev/null >out
for name in sdk client; do
  seen "$name" \
    'no login,new login,new login,new login,new login' "$(sed -n "s/^$name .*: //p" out | paste -sd ,)"
done
done_with "@modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/client 2.4.0"
