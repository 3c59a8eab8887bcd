// Fetches one URL with Node's http and https modules.

import http from "node:http";
import https from "node:https";

const url = process.argv[2];
(url.startsWith("https:") ? https : http)
  .get(url, (response) => {
    response.pipe(process.stdout);
    process.exitCode = response.statusCode === 200 ? 0 : 1;
  })
  .on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  });
