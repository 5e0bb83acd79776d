#!/usr/bin/env bash
# mcp-remote 0.15.1: started while the MCP server answers 503 (or 429, or 500), it throws away a
# login that is good. It first asks without its token, to learn the scopes from the 401. A 503 has
# no challenge, so it takes all that the protected-resource metadata names, says "The scopes this
# client asks for have changed since it signed in", and forgets its tokens. When the server is back,
# the person is sent to a login. Retry-After makes no difference.
source "$(dirname "$0")/lib.sh"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit --ignore-scripts mcp-remote@0.15.1
cat >server.mjs <<'JS'
import http from 'node:http';
let out = false; // of order
const asked = [];
http.createServer((request, response) => {
  const base = `http://${request.headers.host}`;
  const url = new URL(request.url, base);
  let body = '';
  request.on('data', (part) => (body += part)).on('end', () => {
    const send = (code, value, headers) => {
      response.writeHead(code, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(value));
    };
    if (url.pathname.includes('oauth-protected-resource'))
      send(200, { resource: base + '/mcp', authorization_servers: [base], scopes_supported: ['read', 'write'] });
    else if (url.pathname.includes('oauth-authorization-server'))
      send(200, {
        issuer: base, authorization_endpoint: base + '/authorize', token_endpoint: base + '/token', registration_endpoint: base + '/register',
        response_types_supported: ['code'], code_challenge_methods_supported: ['S256'], token_endpoint_auth_methods_supported: ['none'],
      });
    else if (url.pathname === '/register') send(201, { ...JSON.parse(body), client_id: 'client' });
    else if (url.pathname === '/authorize') {
      asked.push('login');
      const back = new URL(url.searchParams.get('redirect_uri'));
      back.search = new URLSearchParams({ code: 'code', state: url.searchParams.get('state') });
      send(302, {}, { location: back.href });
    } else if (url.pathname === '/token') {
      asked.push(new URLSearchParams(body).get('grant_type'));
      send(200, { access_token: 'good', token_type: 'Bearer', expires_in: 3600, refresh_token: 'good', scope: 'read' });
    } else if (url.pathname === '/out') { out = !out; send(200, out); }
    else if (url.pathname === '/asked') send(200, asked.splice(0).join(' ') || 'nothing');
    else if (url.pathname !== '/mcp') send(404, {});
    else if (out) send(503, { error: 'temporarily_unavailable' }, { 'retry-after': '3' });
    else if (request.headers.authorization !== 'Bearer good')
      send(401, {}, { 'www-authenticate': `Bearer resource_metadata="${base}/.well-known/oauth-protected-resource/mcp", scope="read"` });
    else if (request.method !== 'POST') send(405, {});
    else {
      const { id, method, params } = JSON.parse(body);
      if (id === undefined) return send(202, {});
      if (method !== 'initialize' && method !== 'tools/list') return send(200, { jsonrpc: '2.0', id, error: { code: -32601, message: 'no' } });
      send(200, { jsonrpc: '2.0', id, result: method === 'tools/list' ? { tools: [] } : { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'server', version: '1' } } });
    }
  });
}).listen(process.argv[2], '127.0.0.1');
JS
backend server.mjs
port=$(free_port)
# started: the program, from its start to its list of tools. Somebody opens what it wants to have
# opened.
started() {
  : >said
  HOME=$PWD PATH=$(dirname "$(command -v node)") node node_modules/mcp-remote/dist/client.js "http://127.0.0.1:$backend/mcp" "$port" --host 127.0.0.1 >said 2>&1 &
  local program=$! opened=
  while kill -0 $program 2>/dev/null; do
    url=$(grep -o 'http://[^ ]*/authorize?[^ ]*' said | head -n 1 || true)
    if [ -n "$url" ] && [ -z "$opened" ] && curl -sL -o /dev/null "$url"; then opened=yes; fi
    sleep 0.2
  done
  curl -s "http://127.0.0.1:$backend/asked" | tr -d '"' | tr ' ' '\n' | uniq | paste -sd ' '
}
seen "first start" "login authorization_code" "$(started)"
seen "second start" "nothing" "$(started)"
curl -s -o /dev/null "http://127.0.0.1:$backend/out"
seen "start while the server answers 503" "nothing" "$(started)"
seen "what it says then" "The scopes this client asks for have changed since it signed in" "$(grep -o 'The scopes this client asks for have changed since it signed in' said)"
curl -s -o /dev/null "http://127.0.0.1:$backend/out"
seen "start when the server is back" "login authorization_code" "$(started)"
done_with "mcp-remote 0.15.1"
