// What the command /mcp auth of Qwen Code does, from the program as it is published, without the
// terminal around it, which wants a model.
//
// The argument is the URL of the MCP server. What a person would see is printed.
import { readdirSync, readFileSync } from 'node:fs';
import { EventEmitter } from 'node:events';

const chunks = new URL('node_modules/@qwen-code/qwen-code/chunks/', import.meta.url);
const provider = readdirSync(chunks).find((name) => readFileSync(new URL(name, chunks), 'utf8').includes('MCPOAuthProvider = class'));
const { MCPOAuthProvider } = await import(new URL(provider, chunks));

const events = new EventEmitter();
events.emit = (_event, message) => console.log(message.key ?? message);
await new MCPOAuthProvider().authenticate('wiki', { enabled: true }, process.argv[2], events);
process.exit(0); // connections of the unused parts are left
