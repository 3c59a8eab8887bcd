// Fetches one URL with Node's fetch.

const response = await fetch(process.argv[2]);
process.stdout.write(await response.text());
process.exitCode = response.ok ? 0 : 1;
