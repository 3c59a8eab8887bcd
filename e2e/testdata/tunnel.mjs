// Fetches one URL with Node's http module through the proxy in https_proxy, like
// the agents of npm and other packages do in every version of Node.

import http from "node:http";
import tls from "node:tls";

const url = new URL(process.argv[2]);
const proxy = new URL(process.env.https_proxy);
// Use a new agent, because the global one may connect to the proxy through the proxy.
const through = { host: proxy.hostname, port: proxy.port, agent: new http.Agent() };
const fail = (error) => {
  console.error(error);
  process.exit(1);
};

if (url.protocol === "http:") {
  const request = http.get({ ...through, path: url.href, headers: { host: url.host } }, (response) => {
    response.pipe(process.stdout);
    process.exitCode = response.statusCode === 200 ? 0 : 1;
  });
  request.on("error", fail);
} else {
  const request = http.request({ ...through, method: "CONNECT", path: `${url.hostname}:443` });
  request.on("error", fail);
  request.on("connect", (response, socket) => {
    if (response.statusCode !== 200) fail(`CONNECT: ${response.statusCode}`);
    const secure = tls.connect({ socket, servername: url.hostname });
    secure.on("error", fail);
    secure.write(`GET ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`);
    secure.pipe(process.stdout);
  });
  request.end();
}
