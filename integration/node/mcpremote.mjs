// Starts mcp-remote as a desktop program would, and is the person that it sends to a
// browser: Debian's Chromium. It prints what the tool says and what the browser showed, as
// JSON.
//
// usage: node mcpremote.mjs '{"browser": PATH, "mcp": URL, "key": SECRET, "dir": DIR}'
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { chromium } from 'playwright-core';
import { fileURLToPath } from 'node:url';

const { browser: executablePath, mcp, key, dir } = JSON.parse(process.argv[2]);
const program = fileURLToPath(new URL('node_modules/mcp-remote/dist/proxy.js', import.meta.url));
const seen = { problems: [] };

const transport = new StdioClientTransport({
  command: process.execPath, args: [program, mcp, '--allow-http', '--transport', 'http-only', '--auth-timeout', '120'],
  env: { HOME: dir, MCP_REMOTE_CONFIG_DIR: dir, PATH: '/nowhere' }, // without a program that opens a browser
  stderr: 'pipe',
});
let said = '';
const address = new Promise((found, failed) => {
  transport.stderr.on('data', (chunk) => {
    said += chunk;
    const url = /https?:\/\/\S+\?\S*response_type=code\S*(?=\s)/.exec(said);
    if (url) found(url[0]);
  });
  transport.stderr.on('end', () => failed(new Error(`mcp-remote has ended: ${said}`)));
});

const client = new Client({ name: 'farebox-test', version: '1.0.0' });
const connected = client.connect(transport, { timeout: 120_000 });
connected.catch(() => {}); // awaited below

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const page = await browser.newPage();
page.setDefaultTimeout(30_000);
// The page at the end is one of mcp-remote, with warnings of its own.
page.on('console', (m) => {
  if (['error', 'warning'].includes(m.type()) && m.location().url.startsWith(new URL(mcp).origin) && !m.text().startsWith('Failed to load resource')) seen.problems.push(m.text());
});
page.on('pageerror', (e) => seen.problems.push(String(e)));
await page.goto(await address);
await page.getByLabel('Agent key').fill('sk_live_wrong');
await page.getByRole('button', { name: 'Continue' }).click();
seen.wrong = await page.getByRole('alert').innerText();
await page.getByLabel('Agent key').fill(key);
await page.getByRole('button', { name: 'Continue' }).click();
seen.page = await page.locator('main').innerText();
await page.getByRole('button', { name: 'Allow' }).click();
await page.waitForURL(/\/oauth\/callback/);
seen.callback = new URL(page.url()).origin;
await browser.close();

try {
  await connected;
} catch (error) {
  throw new Error(`${error.message}: ${said}`);
}
const result = await client.callTool({ name: 'get_forecast', arguments: { city: 'Oslo' } });
seen.text = result.content[0].text;
await client.close();
console.log(JSON.stringify(seen));
