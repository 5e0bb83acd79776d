# Runs worker.mjs, with kv.mjs as its store. workerd serve --socket-addr http=127.0.0.1:PORT
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [
        (name = "worker.mjs", esModule = embed "worker.mjs"),
        (name = "oauth-provider.js", esModule = embed "node_modules/@cloudflare/workers-oauth-provider/dist/oauth-provider.js"),
      ],
      compatibilityDate = "2026-07-01",
      bindings = [(name = "OAUTH_KV", kvNamespace = "kv")],
    )),
    (name = "kv", worker = (
      modules = [(name = "kv.mjs", esModule = embed "kv.mjs")],
      compatibilityDate = "2026-07-01",
    )),
  ],
  sockets = [(name = "http", http = (), service = "worker")],
);
