// A person with a web page that is an MCP client (usemcp-page.mjs), in a real Chromium: logs in in
// the window that the page opens, calls a tool, has the access token refused, calls again, and
// reloads the page. The argument is JSON: {"chromium", "server", "username", "password"}. Printed
// are {"asked": authorization URL} and {"result": {"package", "version", "subs", "windows"}}.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const { chromium: executablePath, server, username, password } = JSON.parse(process.argv[2]);
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

const bundle = await build({
  entryPoints: [fileURLToPath(new URL('usemcp-page.mjs', import.meta.url))], bundle: true, format: 'esm', write: false, logLevel: 'error',
  define: { 'process.env.NODE_ENV': '"production"' },
});
const script = bundle.outputFiles[0].text;
const site = createServer((request, response) => {
  if (request.url === '/page.mjs') return response.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
  response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>client</title><link rel="icon" href="data:,"><script type="module" src="/page.mjs"></script>');
});
site.listen(0, '127.0.0.1');
await once(site, 'listening');

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const complaints = [];
context.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
let asked = '';
let windows = 0;
context.on('page', () => windows++);
const page = await context.newPage();
try {
  await page.goto(`http://127.0.0.1:${site.address().port}/?server=${encodeURIComponent(server)}`);
  const state = (wanted) => page.waitForFunction((wanted) => window.mcp?.state === wanted, wanted);
  const connect = () => page.getByRole('button', { name: 'Connect' }).click();
  // The SDK's transport opens the window, and then use-mcp does it again, with another
  // code_verifier. A person sees the second page only: the one whose code_challenge is of the
  // verifier that is kept, for as long as a person needs to read. Now and then the window stays at
  // the first page, with which nobody can log in: who meets that closes it, and begins again.
  const begin = async () => {
    windows = 1;
    const [popup] = await Promise.all([context.waitForEvent('page'), connect()]);
    for (let settled = 0, looks = 0; settled < 10; await new Promise((later) => setTimeout(later, 150))) {
      if (looks++ === 50) {
        await popup.close();
        await page.evaluate(() => localStorage.clear());
        await page.reload();
        return undefined;
      }
      const challenge = await page.evaluate(async () => {
        const key = Object.keys(localStorage).find((key) => key.endsWith('_code_verifier'));
        const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(localStorage.getItem(key)));
        return btoa(String.fromCharCode(...new Uint8Array(sum))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
      });
      const { searchParams, href } = new URL(popup.url());
      if (asked !== href) settled = 0;
      if (searchParams.get('code_challenge') === challenge) settled++;
      asked = href;
    }
    return popup;
  };
  let popup;
  for (let tries = 0; popup === undefined; tries++) {
    if (tries === 4) throw new Error('the window never came to the page of the verifier that is kept');
    popup = await begin();
  }
  print({ asked });
  const allow = popup.getByRole('button', { name: 'Allow', exact: true });
  await allow.waitFor();
  await popup.mouse.move(1, 1);
  await allow.click();
  await popup.locator('input[name=login], input[name=username]').fill(username);
  await popup.locator('input[type=password]').fill(password);
  const closed = popup.waitForEvent('close');
  await popup.keyboard.press('Enter');
  await closed;
  await state('ready');

  const whoami = () => page.evaluate(async () => {
    const { structuredContent, isError } = await window.mcp.callTool('whoami', {});
    if (isError) throw new Error('whoami failed');
    return structuredContent.sub;
  });
  const subs = [await whoami()];
  const tokens = (change) => page.evaluate((change) => {
    const key = Object.keys(localStorage).find((key) => key.endsWith('_tokens'));
    const tokens = JSON.parse(localStorage.getItem(key));
    if (change) localStorage.setItem(key, JSON.stringify({ ...tokens, access_token: tokens.access_token + 'x' }));
    return tokens.access_token;
  }, change);
  const old = await tokens(true);
  subs.push(await whoami());
  if (await tokens() === old) throw new Error('no new token came');
  await page.reload();
  await connect();
  await state('ready');
  subs.push(await whoami());
  const { version } = JSON.parse(readFileSync(new URL('node_modules/use-mcp/package.json', import.meta.url)));
  print({ result: { package: 'use-mcp', version, subs, windows } });
} catch (error) {
  console.log(`${error}\nthe page: ${await page.evaluate(() => `${window.mcp?.state} ${window.mcp?.error}`).catch(() => '')}\n${complaints.join('\n')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  site.closeAllConnections();
  site.close();
}
