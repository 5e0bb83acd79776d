// An MCP server on FastMCP with its proxy for OAuth, before a provider that nobody comes to. The
// argument is the port.
import { FastMCP, OAuthProvider } from 'fastmcp';

const port = Number(process.argv[2]);
const server = new FastMCP({
  name: 'fastmcp',
  version: '1.0.0',
  auth: new OAuthProvider({
    authorizationEndpoint: 'https://id.example.com/authorize',
    tokenEndpoint: 'https://id.example.com/token',
    baseUrl: `http://localhost:${port}`,
    clientId: 'mcp',
    clientSecret: 'secret',
    scopes: ['openid'],
  }),
});
server.addTool({ name: 'whoami', description: 'says who calls', execute: async () => 'ada' });
await server.start({ transportType: 'httpStream', httpStream: { port, host: '127.0.0.1', endpoint: '/mcp' } });
console.log('ready');
