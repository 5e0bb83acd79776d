// A key-value store in memory, by the protocol that workerd speaks to one: what
// @cloudflare/workers-oauth-provider uses of it. Nothing ends by time.
const values = new Map();

export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const key = decodeURIComponent(pathname.slice(1));
    switch (request.method) {
      case 'PUT':
        values.set(key, await request.arrayBuffer());
        return new Response();
      case 'DELETE':
        values.delete(key);
        return new Response();
    }
    if (key === '') {
      const keys = [...values.keys()].filter((name) => name.startsWith(searchParams.get('prefix') ?? '')).map((name) => ({ name }));
      return Response.json({ keys, list_complete: true });
    }
    return values.has(key) ? new Response(values.get(key)) : new Response('not found', { status: 404 });
  },
};
