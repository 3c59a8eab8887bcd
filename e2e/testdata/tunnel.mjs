// Fetches one URL with Node's http module through the proxy that the
// environment names, as the agents of npm and others do on every version.

import http from "node:http";
import tls from "node:tls";

const url = new URL(process.argv[2]);
const proxy = new URL(process.env.https_proxy);
// An agent of its own: the global one may go through the proxy to the proxy.
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
