// An MCP server on Cloudflare's library, as its README shows one, which asks nobody for consent. It
// runs in workerd, by workers.mjs.
import { WorkerEntrypoint } from 'cloudflare:workers';
import { OAuthProvider } from './oauth-provider.js';

const results = {
  initialize: ({ protocolVersion }) => ({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'worker', version: '1' } }),
  'tools/list': () => ({ tools: [{ name: 'whoami', inputSchema: { type: 'object' } }] }),
  'tools/call': (_params, { userId }) => ({ content: [{ type: 'text', text: userId }] }),
};

class Api extends WorkerEntrypoint {
  async fetch(request) {
    if (request.method !== 'POST') return new Response(null, { status: 405, headers: { Allow: 'POST' } });
    const { id, method, params } = await request.json();
    if (!(method in results)) return new Response(null, { status: 202 });
    return Response.json({ jsonrpc: '2.0', id, result: results[method](params, this.ctx.props) });
  }
}

const pages = {
  async fetch(request, env) {
    if (new URL(request.url).pathname !== '/authorize') return new Response('not found', { status: 404 });
    try {
      const asked = await env.OAUTH_PROVIDER.parseAuthRequest(request);
      const { redirectTo } = await env.OAUTH_PROVIDER.completeAuthorization({ request: asked, userId: 'ada', metadata: {}, scope: asked.scope, props: { userId: 'ada' } });
      return Response.redirect(redirectTo, 302);
    } catch ({ message }) {
      return new Response(message, { status: 400 });
    }
  },
};

export default {
  fetch(request, env, context) {
    const { origin } = new URL(request.url);
    return new OAuthProvider({
      apiRoute: '/mcp',
      apiHandler: Api,
      defaultHandler: pages,
      authorizeEndpoint: '/authorize',
      tokenEndpoint: '/token',
      clientRegistrationEndpoint: '/register',
      scopesSupported: ['mcp:read', 'offline_access'],
      requiredScopes: ['mcp:read'],
      resourceMetadata: { resource: origin + '/mcp', authorization_servers: [origin] },
    }).fetch(request, env, context);
  },
};
