// Uses the console as people would, in Debian's Chromium, and prints each step that has
// passed. It ends with an error at the first step that fails, at a message in the
// browser's console, and at a request to another host.
//
// usage: node console.mjs '{"browser": PATH, "base": URL, "link": URL, "mcp": URL, "out": DIR, "pages": BOOL}'
//
// base is the console's address, link the first operator's invitation, mcp the endpoint
// of the server weather. If pages is true, the script checks all pages in both themes
// and two widths, and saves their pictures in out.
import { chromium } from 'playwright-core';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { look } from './pages.mjs';

const { browser: executablePath, base, link, mcp, out, pages } = JSON.parse(process.argv[2]);
mkdirSync(out, { recursive: true });
const password = 'four odd horses walked past';
const hostile = `<img src=x onerror="window.hacked=1">'"${'`'}`;
const step = (name) => console.log(`ok ${name}`);
const check = (fact, message) => { if (!fact) throw new Error(message); };

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const problems = [];

// visitor opens a new browser context, with an authenticator that has no passkeys yet.
async function visitor() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('console', (m) => { if (['error', 'warning'].includes(m.type()) && !expected(m.text())) problems.push(`console: ${m.text()} at ${page.url()}`); });
  page.on('pageerror', (e) => problems.push(`error: ${e.message} at ${page.url()}`));
  page.on('request', (r) => { if (!r.url().startsWith('data:') && new URL(r.url()).origin !== new URL(base).origin) problems.push(`a request to ${r.url()}`); });
  page.on('dialog', (d) => { problems.push(`a dialog: ${d.message()}`); d.dismiss(); });
  const cdp = await context.newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  await cdp.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  return { context, page };
}

// Chromium reports each response with a status 4xx as an error in its console.
const expected = (text) => text.startsWith('Failed to load resource: the server responded with a status of 4');

async function call(secret) {
  const response = await fetch(mcp, {
    method: 'POST',
    headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'get_forecast', arguments: { city: 'Oslo' } } }),
  });
  return { status: response.status, text: await response.text() };
}

// secretOf reads a new secret from the page. It prints the secret, so that the test can
// search the gateway's files for it.
async function secretOf(page) {
  const secret = await page.locator('#secret').innerText();
  console.log(`secret ${secret}`);
  return secret;
}

// 1. The first operator.
const operator = await visitor();
{
  const { page } = operator;
  await page.goto(link);
  await page.getByLabel('E-mail address').fill('op@example.com');
  await page.getByLabel('Name', { exact: true }).fill('Olga');
  await page.getByLabel('Password').fill('password12');
  await page.getByRole('button', { name: 'Continue with the password' }).click();
  check((await page.locator('.problem').first().innerText()).length > 0, 'a common password was accepted');
  step('a common password is refused, with a reason');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Continue with the password' }).click();
  await page.getByText('Needs attention').waitFor();
  step('the first operator signs in by the link of the log');
  const used = await page.context().request.get(link);
  check(used.status() === 410, `the used link has status ${used.status()}`);
  step('the link works once');
}

// 2. An account with credits.
let account;
{
  const { page } = operator;
  await page.getByRole('link', { name: 'Accounts' }).click();
  await page.getByLabel('Name').fill("alice@example.com");
  await page.getByRole('button', { name: 'Create' }).click();
  await page.getByText('The account was created.').waitFor();
  account = new URL(page.url()).pathname.split('/').pop();
  const top = page.locator('section', { has: page.getByRole('heading', { name: 'Top up' }) });
  await top.getByLabel('Amount').fill('5.00');
  await top.getByLabel('Reason').fill(`invoice ${hostile}`);
  await top.getByRole('button', { name: 'Credit' }).click();
  await page.getByText('The account was credited.').waitFor();
  check((await page.locator('.big').first().innerText()).startsWith('5.00'), 'the balance is not 5.00');
  step('the operator creates an account and credits it');
}

// 3. An owner of the account, with a passkey.
let invitation;
{
  const { page } = operator;
  await page.getByRole('navigation', { name: /^Account/ }).getByRole('link', { name: 'People' }).click();
  await page.getByLabel('As').selectOption('owner');
  await page.getByRole('button', { name: 'Invite' }).click();
  invitation = await page.locator('#invitation-link').innerText();
  await page.getByRole('button', { name: 'Copy' }).click();
  check(await page.evaluate(() => navigator.clipboard.readText()) === invitation, 'the button copies another text');
  step('the operator invites an owner of the account');
}
const owner = await visitor();
{
  const { page } = owner;
  // A session cookie that an attacker set before the sign-in must not be valid afterwards.
  const name = base.startsWith('https') ? '__Host-farebox' : 'farebox';
  const planted = 'fbs_planted';
  await owner.context.addCookies([{ name, value: planted, url: base, secure: base.startsWith('https') }]);
  await page.goto(invitation);
  await page.screenshot({ path: join(out, 'anonymous-invite-light-1280.png'), fullPage: true });
  await page.getByLabel('E-mail address').fill('alice@example.com');
  await page.getByLabel('Name', { exact: true }).fill('Alice');
  await page.getByRole('button', { name: 'Continue with a passkey' }).click();
  await page.getByText('Welcome. Your account is ready.').waitFor();
  const cookie = (await owner.context.cookies(base)).find((c) => c.name === name);
  check(cookie && cookie.value !== planted && cookie.httpOnly && cookie.sameSite === 'Lax', `the session's cookie: ${JSON.stringify(cookie)}`);
  step('the owner sets a passkey, and gets a session of its own');
}

// A viewer with a name that contains HTML with a script.
{
  const { page } = operator;
  await page.getByLabel('As').selectOption('viewer');
  await page.getByRole('button', { name: 'Invite' }).click();
  const link = await page.locator('#invitation-link').innerText();
  const viewer = await visitor();
  await viewer.page.goto(link);
  await viewer.page.getByLabel('E-mail address').fill('victor@example.com');
  await viewer.page.getByLabel('Name', { exact: true }).fill(`Victor ${hostile}`);
  await viewer.page.getByLabel('Password').fill(password);
  await viewer.page.getByRole('button', { name: 'Continue with the password' }).click();
  await viewer.page.getByText(`Victor ${hostile}`).waitFor();
  check((await viewer.page.getByRole('link', { name: 'Create a key' }).count()) === 0, 'a viewer is offered to create keys');
  const refused = await viewer.context.request.get(`${base}/accounts/${account}/keys/new`);
  check(refused.status() === 403, `a viewer's page for a key has status ${refused.status()}`);
  await viewer.context.close();
  step('a viewer sees the account, and creates no key');
}

// 4. A key, and a paid call with it.
let secret;
{
  const { page } = owner;
  await page.goto(`${base}/accounts/${account}/keys`);
  await page.getByRole('link', { name: 'Create a key' }).click();
  check((await page.locator('input[name=scopes]').count()) === 0, 'an owner may choose scopes');
  await page.locator('input[name=name]').fill(`laptop ${hostile}`);
  await page.getByLabel('One day').fill('1.00');
  await page.getByRole('button', { name: 'Create the key' }).click();
  await page.getByText('This secret is shown only now.').waitFor();
  secret = await secretOf(page);
  await page.screenshot({ path: join(out, 'owner-secret-light-1280.png'), fullPage: true });
  check((await page.locator('pre').first().innerText()).includes(secret), 'the lines to paste lack the secret');
  check((await page.getByRole('link', { name: /install it in Cursor/ }).count()) >= 0, 'no link');
  const answer = await call(secret);
  check(answer.status === 200 && answer.text.includes('snow showers'), `the call: ${answer.status} ${answer.text}`);
  await page.goto(`${base}/accounts/${account}/charges`);
  await page.getByRole('cell', { name: 'get_forecast' }).first().waitFor();
  check(!(await page.content()).includes(secret), 'the secret is on another page');
  step('the owner creates a key, an agent makes a paid call with it, and the charge is shown');
}

// 5. Rotation and deletion.
{
  const { page } = owner;
  await page.goto(`${base}/accounts/${account}/keys`);
  await page.locator('#rows tbody a').first().click();
  await page.getByLabel('Grace').selectOption('0s');
  await page.getByRole('button', { name: 'Rotate the key' }).click();
  await page.getByText('This secret is shown only now.').waitFor();
  const next = await secretOf(page);
  check((await call(secret)).status === 401, 'the old key is still accepted');
  check((await call(next)).status === 200, 'the successor is refused');
  step('a rotated key is refused, and its successor is accepted');
  await page.getByRole('link', { name: 'To the key' }).click();
  await page.getByLabel(/^To delete the key/).fill('nope');
  await page.getByRole('button', { name: 'Delete the key' }).click();
  check((await page.locator('#problem').innerText()).includes('The key was not deleted'), 'the key was deleted without its confirmation');
  check((await call(next)).status === 200, 'the key is refused after a deletion that was not confirmed');
  await page.getByLabel(/^To delete the key/).fill(await page.locator('label code').innerText());
  await page.getByRole('button', { name: 'Delete the key' }).click();
  await page.getByText('The key is deleted').waitFor();
  check((await call(next)).status === 401, 'the next call with the deleted key is accepted');
  step('a deletion needs a confirmation, and the next call is refused');
}

// 6. A refund, and an export.
{
  const { page } = operator;
  await page.goto(`${base}/charges`);
  await page.locator('#rows tbody a').first().click();
  await page.getByLabel('Amount').fill('0.004');
  await page.getByLabel('Reason').fill(`late ${hostile}`);
  await page.getByRole('button', { name: 'Refund' }).click();
  await page.getByText('The charge was refunded.').waitFor();
  await page.getByText('0.004').first().waitFor();
  step('the operator refunds a part of a charge');
  const entries = page.locator('section', { has: page.getByRole('heading', { name: 'Entries' }) });
  await entries.getByRole('cell', { name: 'refund' }).first().waitFor();
  check(await entries.getByRole('row').count() === 9, `${await entries.getByRole('row').count()} rows of entries, want a head and two for each of charge, fee, refund and returned fee`);
  await page.locator('section', { has: page.getByRole('heading', { name: 'Last changes' }) }).getByText('op@example.com').waitFor();
  step('the page of a charge has its entries, and who refunded it');
  await page.getByLabel('Amount').fill('77');
  await page.getByLabel('Reason').fill('kept reason');
  await page.getByRole('button', { name: 'Refund' }).click();
  const amount = page.getByLabel('Amount');
  check(await amount.inputValue() === '77' && await page.getByLabel('Reason').inputValue() === 'kept reason', 'a refused form lost its input');
  check(await amount.getAttribute('aria-describedby') === 'error-amount' && await page.locator('#error-amount').isVisible(), 'the error is not beside its field');
  check(await page.evaluate(() => document.activeElement.id) === 'problem', 'the error has not got the focus');
  await page.getByRole('link', { name: /^Correct the field/ }).click();
  check(await page.evaluate(() => document.activeElement.id) === 'field-amount', 'the link does not lead to the field');
  step('a refused form keeps its input, and shows the error beside the field');
  await page.goto(`${base}/accounts`);
  await page.getByRole('columnheader', { name: 'Account' }).getByRole('link').click();
  check(await page.getByRole('columnheader', { name: 'Account' }).getAttribute('aria-sort') === 'ascending', 'the accounts are not sorted');
  check((await page.locator('tbody tr').first().innerText()).startsWith('acme'), 'acme is not the first account by name');
  step('the head of a column sorts the list');
  const csv = await page.context().request.get(`${base}/charges.csv`);
  const rows = (await csv.text()).trim().split('\n');
  check(csv.ok() && rows.length === 4 && rows[0].startsWith('id,at,account'), `the export: ${csv.status()} ${rows}`);
  step('charges are exported as CSV');
  await page.goto(`${base}/servers`);
  await page.getByRole('link', { name: 'weather' }).click();
  await page.getByRole('button', { name: 'Ask the server what it offers' }).click();
  await page.getByRole('cell', { name: 'get_forecast' }).first().waitFor();
  step("a server's offer is shown beside its prices");
  await page.getByRole('link', { name: 'Servers' }).click();
  await page.getByRole('link', { name: 'weather' }).click();
  const book = page.locator('section', { has: page.getByRole('heading', { name: 'Price book' }) });
  await book.getByRole('row', { name: /get_forecast.*0\.01/ }).waitFor();
  for (let i = 0; i < 10 && await book.getByText('watch_storm').count() === 0; i++) {
    await page.reload(); // only the node that has asked the server knows its offer
  }
  check(await book.getByText('watch_storm').count() > 0, 'a tool without a price is not marked');
  step('the price book is shown, with the tools that have no price');
  await page.goto(`${base}/ledger`);
  await page.getByRole('button', { name: 'Verify now' }).click();
  await page.getByText('The books are right').waitFor();
  step('the ledger is verified');
  await page.goto(`${base}/audit`);
  await page.getByText('op@example.com').first().waitFor();
  await page.getByText('key.delete').first().waitFor();
  step('the audit log names the persons');
}

// 7. Usage, with a filter that is kept in the URL of the page.
{
  const { page } = owner;
  await page.goto(`${base}/accounts/${account}/usage`);
  await page.locator('.uplot canvas').first().waitFor();
  await page.locator('select[name=group]').selectOption('tool');
  await page.getByRole('cell', { name: 'get_forecast' }).waitFor();
  check(new URL(page.url()).searchParams.get('group') === 'tool', 'the filter is not in the URL');
  const report = await page.context().request.get(`${base}/accounts/${account}/usage.json?group=tool`);
  const [row] = await report.json();
  check(row.calls === 3 && row.charged === '0.03' && row.refunded === '0.004', `the report: ${JSON.stringify(row)}`);
  step('usage is drawn, filtered and exported');
}

// 8. Members see their account only.
{
  const { page } = owner;
  for (const path of ['/accounts', '/keys', '/charges', '/calls', '/alerts', '/people', '/audit', '/ledger', '/servers', '/health']) {
    const answer = await page.context().request.get(base + path);
    check(answer.status() === 404, `a member gets ${answer.status()} at ${path}`);
  }
  step('a member gets none of the pages of operators');
}

// 9. An owner chooses alerts, without a script of the page.
{
  const { page } = owner;
  await page.goto(`${base}/accounts/${account}/alerts`);
  await page.getByLabel('Balance below').fill('1000');
  await page.getByLabel('a key pays for a tool for the first time').check();
  await page.getByRole('button', { name: 'Change the alerts' }).click();
  await page.getByText('The alerts were changed.').waitFor();
  check(await page.getByLabel('Balance below').inputValue() === '1000.00', 'the threshold was not kept');
  const row = page.locator('#rows tbody tr', { hasText: 'is below 1000.00' });
  for (let i = 0; i < 60 && await row.count() === 0; i++) {
    await page.waitForTimeout(500);
    await page.reload();
  }
  check(await row.count() === 1, 'the balance below the threshold is not raised');
  step('an owner sets a threshold and sees the alert');
}

// 10. Forged requests.
{
  const { page } = operator;
  const token = await page.locator('meta[name=farebox-token]').getAttribute('content');
  const form = { name: 'forged', token };
  const cross = await page.context().request.post(`${base}/accounts`, { form, headers: { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' }, maxRedirects: 0 });
  check(cross.status() === 403, `a form of another site has status ${cross.status()}`);
  const bare = await page.context().request.post(`${base}/accounts`, { form: { name: 'forged' }, maxRedirects: 0 });
  check(bare.status() === 403, `a form without a token has status ${bare.status()}`);
  const page2 = await page.context().request.get(`${base}/`);
  check(page2.headers()['x-frame-options'] === 'DENY' && page2.headers()['content-security-policy'].includes("frame-ancestors 'none'"), 'the page can be framed');
  step('forged forms are refused, and pages cannot be framed');
}

// 11. Signing out here and everywhere.
{
  const { page } = owner;
  await page.goto(`${base}/profile`);
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await page.getByText('You are signed out.').waitFor();
  await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await page.getByRole('navigation', { name: /^Account/ }).waitFor();
  step('the owner signs in by the passkey');
  await page.goto(`${base}/profile`);
  await page.getByLabel('New password').fill(password);
  await page.getByRole('button', { name: 'Set a password' }).click();
  await page.getByText('The password was changed.').waitFor();
  const elsewhere = await visitor();
  await elsewhere.page.goto(`${base}/profile`);
  await elsewhere.page.getByLabel('E-mail address').fill('alice@example.com');
  await elsewhere.page.getByLabel('Password').fill('wrong words altogether');
  await elsewhere.page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await elsewhere.page.getByText('is wrong').waitFor();
  await elsewhere.page.getByLabel('Password').fill(password);
  await elsewhere.page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await elsewhere.page.getByRole('heading', { name: 'Your profile' }).waitFor();
  step('the owner signs in by a password in another browser, and comes to the page that was asked for');
  await page.goto(`${base}/profile`);
  await page.getByRole('button', { name: 'Sign out everywhere' }).click();
  await page.getByText('You are signed out.').waitFor();
  for (let i = 0; i < 6; i++) { // the balancer leads to each node in turn
    const answer = await elsewhere.context.request.get(`${base}/profile`, { maxRedirects: 0 });
    check(answer.status() === 303, `after the sign-out everywhere, another browser gets ${answer.status()}`);
  }
  step('a sign-out everywhere ends all sessions at once, on every node');
  await page.getByLabel('E-mail address').fill('alice@example.com');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByRole('navigation', { name: /^Account/ }).waitFor();
}

// 12. The look of every page, in both themes and two widths.
if (pages) {
  const charge = await (async () => {
    await operator.page.goto(`${base}/charges`);
    return operator.page.locator('#rows tbody a').first().getAttribute('href');
  })();
  await operator.page.goto(`${base}/accounts/${account}/keys`);
  const key = await operator.page.locator('#rows tbody a').first().getAttribute('href');
  const root = new URL(base).origin;
  await operator.page.goto(`${base}/people`);
  const person = await operator.page.locator('tbody a').last().getAttribute('href');
  const anonymous = await visitor();
  const found = [
    ...await look(operator.page, out, 'operator', {
      overview: `${base}/`, accounts: `${base}/accounts`, account: `${base}/accounts/${account}`, usage: `${base}/usage`, keys: `${base}/keys`, newkey: `${base}/accounts/${account}/keys/new`,
      key: root + key, charges: `${base}/charges`, charge: root + charge, alerts: `${base}/alerts`, calls: `${base}/calls`, servers: `${base}/servers`, server: `${base}/servers/weather`, people: `${base}/people`, person: root + person,
      audit: `${base}/audit`, ledger: `${base}/ledger`, health: `${base}/health`, profile: `${base}/profile`, missing: `${base}/nowhere`,
    }),
    ...await look(owner.page, out, 'owner', { account: `${base}/accounts/${account}`, keys: `${base}/accounts/${account}/keys`, members: `${base}/accounts/${account}/people`, alerts: `${base}/accounts/${account}/alerts`, charges: `${base}/accounts/${account}/charges`, usage: `${base}/accounts/${account}/usage?group=tool`, statement: `${base}/accounts/${account}/statement`, profile: `${base}/profile` }),
    ...await look(anonymous.page, out, 'anonymous', { signin: `${base}/signin` }),
  ];
  check(found.length === 0, `pages:\n${found.join('\n')}`);
  step('no page has a serious fault of accessibility, and none is wider than a phone');
}
for (const { page } of [operator, owner]) {
  check(!(await page.evaluate(() => window.hacked)), 'a script of a stranger has run');
}
check(problems.length === 0, `in the browser:\n${problems.join('\n')}`);
step('nothing was reported in the browser, and nothing was loaded from elsewhere');
await browser.close();
