#!/usr/bin/env bash
# mcporter 0.12.3: when an access token is refused before its time, it registers as a new client,
# since it listens on another port at each start, and sends the refresh token that the old client
# was given in the new one's name. RFC 6749 section 6 binds a refresh token to its client; a server
# that keeps to that refuses it, and the person logs in again though the token is good. With
# oauthRedirectUrl set it stays the same client and refreshes.
source "$(dirname "$0")/lib.sh"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts mcporter@0.12.3
cat >server.mjs <<'JS'
import http from 'node:http';
const asked = []; // what was asked, and by which client
let clients = 0; // that have registered
let good = 'good'; // the access token that counts
const owner = {}; // code or refresh token → client
http.createServer((request, response) => {
  const base = `http://${request.headers.host}`;
  const url = new URL(request.url, base);
  let body = '';
  request.on('data', (part) => (body += part)).on('end', () => {
    const send = (code, value, headers) => {
      response.writeHead(code, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(value));
    };
    if (url.pathname.includes('oauth-protected-resource')) send(200, { resource: base + '/mcp', authorization_servers: [base] });
    else if (url.pathname.includes('oauth-authorization-server'))
      send(200, {
        issuer: base, authorization_endpoint: base + '/authorize', token_endpoint: base + '/token', registration_endpoint: base + '/register',
        response_types_supported: ['code'], code_challenge_methods_supported: ['S256'], token_endpoint_auth_methods_supported: ['none'],
        grant_types_supported: ['authorization_code', 'refresh_token'],
      });
    else if (url.pathname === '/register') {
      clients++;
      asked.push(`${clients} registers`);
      send(201, { ...JSON.parse(body), client_id: String(clients) });
    } else if (url.pathname === '/authorize') {
      const client = url.searchParams.get('client_id');
      asked.push(`${client} logs in`);
      owner.code = client;
      const back = new URL(url.searchParams.get('redirect_uri'));
      back.search = new URLSearchParams({ code: 'code', state: url.searchParams.get('state') });
      send(302, {}, { location: back.href });
    } else if (url.pathname === '/token') {
      const form = new URLSearchParams(body);
      const client = form.get('client_id');
      const given = form.get('code') || form.get('refresh_token');
      asked.push(`${client} sends ${owner[given] === client ? 'its own' : "another's"} ${given}`);
      if (owner[given] !== client) return send(400, { error: 'invalid_grant' });
      owner.refresh = client;
      send(200, { access_token: good, token_type: 'Bearer', expires_in: 3600, refresh_token: 'refresh' });
    } else if (url.pathname === '/forget') {
      good += '+';
      send(200, {});
    } else if (url.pathname === '/asked') send(200, asked.splice(0).join(', ') || 'nothing');
    else if (url.pathname !== '/mcp') send(404, {});
    else if (request.headers.authorization !== `Bearer ${good}`)
      send(401, {}, { 'www-authenticate': `Bearer resource_metadata="${base}/.well-known/oauth-protected-resource/mcp"` });
    else if (request.method !== 'POST') send(405, {});
    else {
      const { id, method, params } = JSON.parse(body);
      if (id === undefined) return send(202, {});
      const results = {
        initialize: () => ({ protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'server', version: '1' } }),
        'tools/list': () => ({ tools: [{ name: 'ping', inputSchema: { type: 'object' } }] }),
        'tools/call': () => ({ content: [{ type: 'text', text: 'pong' }] }),
      };
      send(200, results[method] ? { jsonrpc: '2.0', id, result: results[method]() } : { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } });
    }
  });
}).listen(process.argv[2], '127.0.0.1');
JS
backend server.mjs
mkdir config
cat >config/mcporter.json <<JSON
{"mcpServers": {"wiki": {"url": "http://127.0.0.1:$backend/mcp", "auth": "oauth"}}}
JSON
# run COMMAND...: somebody opens what it wants to have opened.
run() {
  : >said
  HOME=$PWD PATH=$(dirname "$(command -v node)") MCPORTER_OAUTH_NO_BROWSER=1 node node_modules/mcporter/dist/cli.js "$@" >said 2>&1 &
  local program=$! opened=
  while kill -0 $program 2>/dev/null; do
    url=$(grep -o 'http://[^ ]*/authorize?[^ ]*' said | head -n 1 || true)
    if [ -n "$url" ] && [ -z "$opened" ] && curl -sL -o /dev/null "$url"; then opened=yes; fi
    sleep 0.2
  done
  curl -s "http://127.0.0.1:$backend/asked" | tr -d '"'
}
# forget: the server forgets the access tokens that it gave out.
forget() { curl -s -o /dev/null "http://127.0.0.1:$backend/forget"; }
seen "login" "1 registers, 1 logs in, 1 sends its own code" "$(run auth wiki)"
seen "call" "nothing" "$(run call wiki.ping)"
forget
seen "call, its token is refused" \
  "2 registers, 2 sends another's refresh, 2 logs in, 2 sends its own code" "$(run call wiki.ping)"
cat >config/mcporter.json <<JSON
{"mcpServers": {"wiki": {"url": "http://127.0.0.1:$backend/mcp", "auth": "oauth", "oauthRedirectUrl": "http://127.0.0.1:$(free_port)/callback"}}}
JSON
run auth wiki --reset >/dev/null
forget
seen "call, its token is refused, with oauthRedirectUrl" "3 sends its own refresh" "$(run call wiki.ping)"
done_with "mcporter 0.12.3"
