// Gemini CLI's own code for MCP servers and their OAuth, from the program as it is published,
// without the terminal around it, which wants an account.
//
// The arguments are the URL of the MCP server and, for a login, the word login. Where the command
// `gemini mcp add` has been run for the server, its settings count. A line on standard input allows
// to open the browser. What a person would see is printed, then what the tool whoami answers.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';

const bundle = new URL('node_modules/@google/gemini-cli/bundle/', import.meta.url);
// Several of these are the same, for other ways to start.
const core = await import(new URL(readdirSync(bundle).find((name) => /^core-\w+\.js$/.test(name)), bundle));
core.coreEvents.on('user-feedback', ({ message }) => console.log(message));

const [httpUrl, login] = process.argv.slice(2);
const settings = homedir() + '/.gemini/settings.json';
const server = existsSync(settings) ? JSON.parse(readFileSync(settings, 'utf8')).mcpServers.wiki : { httpUrl };
server.oauth ??= { enabled: true };
const workspace = { getDirectories: () => [], onDirectoriesChanged: () => () => {} };
const config = {
  sanitizationConfig: {},
  emitMcpDiagnostic: (_severity, ...message) => console.log(...message),
  isTrustedFolder: () => true,
};
// What the command /mcp auth does.
if (login) await new core.MCPOAuthProvider().authenticate('wiki', server.oauth, httpUrl);
const client = await core.connectToMcpServer('1.0.0', 'wiki', server, false, workspace, config);
console.log(JSON.stringify(await client.callTool({ name: 'whoami', arguments: {} })));
await client.close();
process.exit(0); // connections of the unused parts are left
