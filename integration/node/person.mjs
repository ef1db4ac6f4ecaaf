// A person at the pages of Farebox's authorization server, who uses no script: each page
// is a form. The person keeps cookies and pays by an agent key.

// Person fills in forms. The agent key is the one that pays.
export class Person {
  #cookies = new Map();
  #key;

  constructor(key) { this.#key = key; }

  async #send(url, form) {
    const headers = { Cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
    const response = await fetch(url, form ? { method: 'POST', redirect: 'manual', headers, body: new URLSearchParams(form) } : { redirect: 'manual', headers });
    for (const cookie of response.headers.getSetCookie()) {
      const [name, value] = cookie.split(';')[0].split('=');
      this.#cookies.set(name, value);
    }
    return response;
  }

  // submit sends the form of a page with all of its fields, boxes as they are, and those
  // that the person fills in.
  async #submit(page, fields) {
    const text = await page.text();
    const action = /<form method="post" action="([^"]+)"/.exec(text);
    if (!action) throw new Error(`no form, status ${page.status}: ${text}`);
    const form = {};
    for (const [, name, value] of text.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)">/g)) form[name] = value;
    for (const [, name] of text.matchAll(/<input type="checkbox" name="([^"]+)" value="1" checked>/g)) form[name] = '1';
    return this.#send(action[1], { ...form, ...fields });
  }

  async #decide(page) {
    return this.#submit(await this.#submit(page, { step: 'key', key: this.#key }), { step: 'allow' });
  }

  // allow opens an authorization URL, allows the client, and returns the URL to which the
  // browser is sent.
  async allow(url) {
    const response = await this.#decide(await this.#send(url));
    const location = response.headers.get('location');
    if (!location) throw new Error(`the browser was not sent to the client: ${response.status} ${await response.text()}`);
    return new URL(location);
  }

  // allowDevice enters the code that a device shows, and allows the device.
  async allowDevice(url, code) {
    const page = await this.#submit(await this.#send(url), { user_code: code });
    const done = await this.#decide(page);
    if (done.status !== 200) throw new Error(`the device was not connected: ${done.status} ${await done.text()}`);
  }
}
