#!/usr/bin/env bash
# RFC 6749 section 2.3.1: in a Basic header, id and secret are form-encoded first. A secret from
# `openssl rand -base64` holds + / =, so it matters: of two servers of Node.js each takes only the
# form that the other refuses. golang.org/x/oauth2 and openid-client encode, curl -u does not.
. "$(dirname "$0")/lib.sh"

npm init -y >/dev/null && npm install --silent --no-audit --no-fund oidc-provider@9.13.3 @node-oauth/oauth2-server@5.3.0 express@5.3.0 >/dev/null
cat >strict.mjs <<'JS'
import Provider from "oidc-provider";
new Provider(`http://localhost:${process.argv[2]}`, {
  clients: [{ client_id: "c", client_secret: "ab+cd/ef==", redirect_uris: [], response_types: [], grant_types: ["client_credentials"] }],
  features: { clientCredentials: { enabled: true } },
}).listen(process.argv[2]);
JS
cat >raw.mjs <<'JS'
import OAuth2Server from "@node-oauth/oauth2-server";
import express from "express";
const client = { id: "c", grants: ["client_credentials"] };
const server = new OAuth2Server({ model: {
  getClient: async (id, secret) => id === "c" && secret === "ab+cd/ef==" && client,
  getUserFromClient: async () => ({ id: "c" }),
  saveToken: async (token, client, user) => ({ ...token, client, user }),
} });
express().use(express.urlencoded({ extended: false })).post("/token", async (req, res) => {
  const response = new OAuth2Server.Response(res);
  await server.token(new OAuth2Server.Request(req), response).catch(() => (response.status = 401));
  res.status(response.status).end();
}).listen(process.argv[2]);
JS
ask() { curl -s -o /dev/null -w '%{http_code}' -u "$1" -d grant_type=client_credentials "http://localhost:$backend/token"; }

backend strict.mjs
seen "oidc-provider, form-encoded" 200 "$(ask 'c:ab%2Bcd%2Fef%3D%3D')"
seen "oidc-provider, as it is" 401 "$(ask 'c:ab+cd/ef==')"
backend raw.mjs
seen "@node-oauth/oauth2-server, form-encoded" 401 "$(ask 'c:ab%2Bcd%2Fef%3D%3D')"
seen "@node-oauth/oauth2-server, as it is" 200 "$(ask 'c:ab+cd/ef==')"
done_with "oidc-provider 9.13.3, @node-oauth/oauth2-server 5.3.0"
