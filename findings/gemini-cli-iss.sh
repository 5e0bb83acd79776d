#!/usr/bin/env bash
# Gemini CLI (@google/gemini-cli 0.61.0): a login ends with "Missing required iss" at every
# authorization server that sends no `iss`, although RFC 9207 asks a client to insist on it only
# where the server's metadata promises it, and this server promises nothing. The program ends with
# an uncaught error; the browser shows a failed login. With `iss` in the answer, and still no
# promise, the same login works.
source "$(dirname "$0")/lib.sh"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --omit=optional --ignore-scripts @google/gemini-cli@0.61.0
cat >server.mjs <<'JS'
import http from 'node:http';
let iss = false; // in the authorization response
http.createServer((request, response) => {
  const base = `http://${request.headers.host}`;
  const url = new URL(request.url, base);
  const send = (code, body, headers) => {
    response.writeHead(code, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(body));
  };
  if (url.pathname.includes('oauth-protected-resource')) send(200, { resource: base + '/mcp', authorization_servers: [base] });
  else if (url.pathname.includes('oauth-authorization-server'))
    send(200, {
      issuer: base, authorization_endpoint: base + '/authorize', token_endpoint: base + '/token', registration_endpoint: base + '/register',
      response_types_supported: ['code'], code_challenge_methods_supported: ['S256'], token_endpoint_auth_methods_supported: ['none'],
    });
  else if (url.pathname === '/register') {
    let body = '';
    request.on('data', (part) => (body += part)).on('end', () => send(201, { ...JSON.parse(body), client_id: 'client' }));
  } else if (url.pathname === '/authorize') {
    const back = new URL(url.searchParams.get('redirect_uri'));
    back.searchParams.set('code', 'code');
    back.searchParams.set('state', url.searchParams.get('state'));
    if (iss) back.searchParams.set('iss', base);
    send(302, {}, { location: back.href });
  } else if (url.pathname === '/token') send(200, { access_token: 'a', token_type: 'Bearer', expires_in: 3600, refresh_token: 'r' });
  else if (url.pathname === '/mcp') send(401, {}, { 'www-authenticate': `Bearer resource_metadata="${base}/.well-known/oauth-protected-resource/mcp"` });
  else {
    iss = url.pathname === '/iss';
    send(404, {});
  }
}).listen(process.argv[2], '127.0.0.1');
JS
backend server.mjs
# The program's own code for MCP logins, without the terminal around it.
cat >login.mjs <<'JS'
import { readdirSync } from 'node:fs';
const bundle = new URL('node_modules/@google/gemini-cli/bundle/', import.meta.url);
const core = await import(new URL(readdirSync(bundle).find((name) => /^core-\w+\.js$/.test(name)), bundle));
core.coreEvents.on('user-feedback', ({ message }) => {
  const url = message.match(/http:\S+\/authorize\?\S+/)?.[0];
  if (url) fetch(url).catch(() => {}); // the person
});
process.on('uncaughtException', (error) => { console.log(error.message); process.exit(1); });
await new core.MCPOAuthProvider().authenticate('mcp', { enabled: true }, process.argv[2]);
console.log('logged in');
process.exit(0);
JS
login() { echo y | HOME=$PWD PATH=$(dirname "$(command -v node)") node login.mjs "http://127.0.0.1:$backend/mcp" 2>/dev/null | grep -oE '^(Missing "iss" parameter|logged in)'; }
seen "no iss, none promised" 'Missing "iss" parameter' "$(login)"
curl -s -o /dev/null "http://127.0.0.1:$backend/iss"
seen "iss, none promised" 'logged in' "$(login)"
done_with "@google/gemini-cli 0.61.0"
