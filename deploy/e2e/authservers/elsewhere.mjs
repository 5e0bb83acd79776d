// Loaded before a server that names its ports in its documents: it then listens at others, and a
// test stands at those. LISTEN_ELSEWHERE has pairs, 3000:4000,3001:4001.
import { Server } from 'node:net';

const elsewhere = new Map(process.env.LISTEN_ELSEWHERE.split(',').map((pair) => pair.split(':')));
const { listen } = Server.prototype;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, Number(elsewhere.get(String(port)) ?? port), ...rest);
};
