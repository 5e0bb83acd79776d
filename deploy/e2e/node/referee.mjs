// Judges documents by the schemas that clients read them with: {"server": […], "resource": […],
// "registration": […]}.
import { OAuthClientInformationFullSchema, OAuthMetadataSchema, OAuthProtectedResourceMetadataSchema, OpenIdProviderDiscoveryMetadataSchema } from '@modelcontextprotocol/sdk/shared/auth.js';
import { oauthAuthorizationServerMetadataValidator, oauthProtectedResourceMetadataSchema } from '@atproto/oauth-types';

const referees = {
  server: [OAuthMetadataSchema, OpenIdProviderDiscoveryMetadataSchema, oauthAuthorizationServerMetadataValidator],
  resource: [OAuthProtectedResourceMetadataSchema, oauthProtectedResourceMetadataSchema],
  registration: [OAuthClientInformationFullSchema],
};

let judged = 0;
for (const [kind, documents] of Object.entries(JSON.parse(process.argv[2]))) {
  for (const document of documents) {
    for (const [i, schema] of referees[kind].entries()) {
      const { success, error } = schema.safeParse(document);
      if (!success) console.log(`${kind}: referee ${i} refuses ${JSON.stringify(document)}: ${error.message}`);
      judged++;
    }
  }
}
console.log(`judged ${judged}`);
