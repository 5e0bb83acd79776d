// Reads answers of a server as clients read them: by the TypeScript SDK's schemas and readers (1.x
// and 2.x), by @atproto/oauth-types and by oauth4webapi. The argument names a file: {"issuer",
// "resource", "audience", "clientId", "answers": [{"what", "kind", "url", "status", "header",
// "body", "state"}]}. Printed is what a reader does not accept, then how many readings there were.
import { readFileSync } from 'node:fs';
import * as v1 from '@modelcontextprotocol/sdk/client/auth.js';
import {
  OAuthClientInformationFullSchema, OAuthClientRegistrationErrorSchema, OAuthErrorResponseSchema, OAuthMetadataSchema,
  OAuthProtectedResourceMetadataSchema, OAuthTokensSchema, OpenIdProviderDiscoveryMetadataSchema,
} from '@modelcontextprotocol/sdk/shared/auth.js';
import * as v2 from '@modelcontextprotocol/client';
import {
  oauthAuthorizationResponseErrorSchema, oauthAuthorizationServerMetadataValidator, oauthProtectedResourceMetadataSchema, oauthTokenResponseSchema,
} from '@atproto/oauth-types';
import * as oauth from 'oauth4webapi';

const { issuer, resource, audience, clientId, answers } = JSON.parse(readFileSync(process.argv[2]));
const client = { client_id: clientId };
let as;
let readings = 0;

const response = (a) => {
  const r = new Response([204, 304].includes(a.status) ? null : a.body, { status: a.status, headers: a.header });
  Object.defineProperty(r, 'url', { value: a.url });
  return r;
};

/** Codes of RFC 7591, RFC 8707, RFC 9101 and OpenID Connect, which a reader takes for another, or for none. */
const unknown = {
  v1: ['invalid_redirect_uri'],
  atproto: ['invalid_target', 'request_not_supported', 'consent_required'],
};

/** Reads once. */
async function read(a, how, reading) {
  readings++;
  try {
    await reading();
  } catch (error) {
    console.log(`${a.what}: ${how}: ${error?.message ?? error} (${error?.cause ? JSON.stringify(error.cause) : ''}) reads ${a.status} ${a.body.slice(0, 300)}`);
  }
}
const by = (a, schema, how) => read(a, how, () => schema.parse(JSON.parse(a.body)));
const must = (ok, why) => { if (!ok) throw new Error(why); };

/** An error of OAuth: its code is what each reader understands. */
async function readError(a, process) {
  const { error } = JSON.parse(a.body);
  await by(a, OAuthErrorResponseSchema, 'SDK 1.x');
  await read(a, 'SDK 1.x, parseErrorResponse', async () => {
    const said = await v1.parseErrorResponse(response(a));
    must(said.errorCode === (unknown.v1.includes(error) ? 'server_error' : error), 'takes it for ' + said.errorCode);
  });
  await read(a, 'client 2.x, parseErrorResponse', async () => {
    const said = await v2.parseErrorResponse(response(a));
    must(said.code === error, 'takes it for ' + said.code);
  });
  if (!process) return;
  await read(a, 'oauth4webapi', async () => {
    try {
      await process(response(a));
    } catch (said) {
      // It reads no bodies from 500 on, and holds nobody's client or grant to be wrong.
      if (a.status >= 500) return must(said.code === oauth.RESPONSE_IS_NOT_CONFORM, 'throws ' + said.message);
      // A client that authenticated by the header is answered in kind (RFC 6749 section 5.2).
      if (said instanceof oauth.WWWAuthenticateChallengeError) return must(said.cause[0].scheme === 'basic', 'an odd challenge');
      must(said instanceof oauth.ResponseBodyError && said.error === error, 'throws ' + said.message);
      must(said.error_description, 'there is no description');
      return;
    }
    throw new Error('takes it for a success');
  });
}

const kinds = {
  async server(a) {
    await by(a, OAuthMetadataSchema, 'SDK 1.x');
    await by(a, OpenIdProviderDiscoveryMetadataSchema, 'SDK 1.x, OpenID');
    await by(a, oauthAuthorizationServerMetadataValidator, '@atproto');
    await read(a, 'oauth4webapi', async () => { as = await oauth.processDiscoveryResponse(new URL(issuer), response(a)); });
  },
  async resource(a) {
    await by(a, OAuthProtectedResourceMetadataSchema, 'SDK 1.x');
    await by(a, oauthProtectedResourceMetadataSchema, '@atproto');
    await read(a, 'oauth4webapi', () => oauth.processResourceDiscoveryResponse(new URL(JSON.parse(a.body).resource), response(a)));
  },
  async registration(a) {
    await by(a, OAuthClientInformationFullSchema, 'SDK 1.x');
    await read(a, 'oauth4webapi', () => oauth.processDynamicClientRegistrationResponse(response(a)));
  },
  async tokens(a) {
    await by(a, OAuthTokensSchema, 'SDK 1.x');
    await by(a, oauthTokenResponseSchema, '@atproto');
    await read(a, 'oauth4webapi', () => oauth.processGenericTokenEndpointResponse(as, client, response(a)));
    await read(a, 'oauth4webapi, the access token', () => oauth.validateJwtAccessToken(as,
      new Request(resource, { headers: { authorization: 'Bearer ' + JSON.parse(a.body).access_token } }), audience,
      { [oauth.allowInsecureRequests]: true, [oauth.customFetch]: async () => response(answers.find(({ kind }) => kind === 'jwks')) }));
  },
  async jwks(a) {
    for (const jwk of JSON.parse(a.body).keys) {
      await read(a, 'WebCrypto', () => crypto.subtle.importKey('jwk', jwk, jwk.crv === 'Ed25519' ? 'Ed25519' : { name: 'ECDSA', namedCurve: jwk.crv }, true, ['verify']));
      await read(a, 'kid', () => must(jwk.kid && jwk.alg && jwk.use === 'sig', 'members are missing'));
    }
  },
  revoked: (a) => read(a, 'oauth4webapi', () => oauth.processRevocationResponse(response(a))),
  tokenError: (a) => readError(a, (r) => oauth.processGenericTokenEndpointResponse(as, client, r)),
  revocationError: (a) => readError(a, (r) => oauth.processRevocationResponse(r)),
  async registrationError(a) {
    await by(a, OAuthClientRegistrationErrorSchema, 'SDK 1.x');
    await readError(a, (r) => oauth.processDynamicClientRegistrationResponse(r));
  },
  otherError: (a) => by(a, OAuthErrorResponseSchema, 'SDK 1.x'),
  async challenge(a) {
    await by(a, OAuthErrorResponseSchema, 'SDK 1.x');
    const header = new Headers(a.header).get('www-authenticate');
    for (const [name, sdk] of [['SDK 1.x', v1], ['client 2.x', v2]]) {
      await read(a, name + ', extractWWWAuthenticateParams', () => {
        const said = sdk.extractWWWAuthenticateParams(response(a));
        must(!!said.resourceMetadataUrl === header.includes('resource_metadata='), 'resource_metadata: ' + said.resourceMetadataUrl);
        must(!!said.scope === header.includes('scope='), 'scope: ' + said.scope);
        must(!!said.error === header.includes('error='), 'error: ' + said.error);
      });
    }
    await read(a, 'oauth4webapi', async () => {
      try {
        await oauth.protectedResourceRequest('x', 'POST', new URL(a.url), undefined, undefined, {
          [oauth.allowInsecureRequests]: true, [oauth.customFetch]: async () => response(a),
        });
      } catch (said) {
        must(said instanceof oauth.WWWAuthenticateChallengeError && said.cause[0].scheme === 'bearer', 'throws ' + said.message);
        return;
      }
      throw new Error('takes it for a success');
    });
  },
  callback: (a) => read(a, 'oauth4webapi', () => oauth.validateAuthResponse(as, client, new URL(a.url), a.state)),
  async callbackError(a) {
    const error = new URL(a.url).searchParams.get('error');
    if (!unknown.atproto.includes(error)) await read(a, '@atproto', () => oauthAuthorizationResponseErrorSchema.parse(error));
    await read(a, 'oauth4webapi', () => {
      try {
        oauth.validateAuthResponse(as, client, new URL(a.url), a.state);
      } catch (said) {
        must(said instanceof oauth.AuthorizationResponseError && said.error === error, 'throws ' + said.message);
        return;
      }
      throw new Error('takes it for a success');
    });
  },
};

for (const a of answers) await kinds[a.kind](a);
console.log(`read ${readings}`);
