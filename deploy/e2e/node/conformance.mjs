// A client that the conformance suite starts: it takes the suite's words to an application on an
// SDK (app.mjs, ../sdks/app), which connects and ends.
//
//   node conformance.mjs PROGRAM… SERVER
import { spawn } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [program, ...rest] = process.argv.slice(2);
const server = rest.pop();
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;

// The Go SDK wants to be told which authorization server there is, so somebody has to look.
const metadata = await fetch(new URL('/.well-known/oauth-protected-resource/mcp', server));
const { authorization_servers: [authServer] } = await metadata.json();

const way = { server, authServer, redirect: '/callback', clientId: context.client_id, clientSecret: context.client_secret };
switch (scenario) {
  case 'auth/enterprise-managed-authorization':
    way.grant = 'id-jag';
    // The suite's provider has a discovery document that no SDK takes, and names its endpoint here.
    way.enterprise = { tokenEndpoint: context.idp_token_endpoint, clientId: context.idp_client_id, idToken: context.idp_id_token };
    break;
  case 'auth/wif-jwt-bearer':
    way.grant = 'workload';
    way.assertion = context.valid_jwt;
    break;
  case 'auth/dpop':
  case 'auth/dpop-nonce':
    way.dpop = 'ES256';
    break;
  default:
    way.grant = 'client_credentials';
}
if (context.private_key_pem) {
  way.key = { ...createPrivateKey(context.private_key_pem).export({ format: 'jwk' }), alg: context.signing_algorithm };
}
const child = spawn(program, [...rest, JSON.stringify(way)], { stdio: ['ignore', 'pipe', 'inherit'] });
for await (const line of createInterface({ input: child.stdout })) {
  console.log(line);
  // The suite's authorization server has no page, and answers at the client's callback.
  if (line.startsWith('{"open":')) await fetch(JSON.parse(line).open);
}
if (child.exitCode === null) await once(child, 'exit');
process.exit(child.exitCode ?? 1);
