// Drives the pages in a real Chromium. The plan comes on standard input, one JSON line per scenario
// goes to standard output: {name, error?, ends: [URL of the client, …], references: [of error
// pages, …], milliseconds}.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const plan = JSON.parse(readFileSync(0, 'utf8'));
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

function check(condition, message) {
  if (!condition) throw new Error(message);
}

const launch = () => chromium.launch({
  executablePath: plan.chromium,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-lcd-text', `--host-resolver-rules=${plan.resolve}`,
  ],
});

let browser = await launch();

// A person has one browser, with cookies of its own. complaints are what must not happen there.
class Person {
  static async sit(options = {}) {
    const p = new Person();
    p.complaints = [];
    p.context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 800, height: 720 }, ...options });
    p.context.setDefaultTimeout(15_000);
    p.context.on('request', (request) => {
      const url = new URL(request.url());
      if (/^https?:$/.test(url.protocol) && !plan.origins.includes(url.origin)) p.complaints.push(`a request to ${url.origin}`);
    });
    p.context.on('console', (message) => {
      const ours = plan.bouncers.some((origin) => message.location().url.startsWith(origin) || message.page()?.url().startsWith(origin));
      // The status of an error page is reported as an error too.
      if (ours && !message.text().startsWith('Failed to load resource: the server responded with a status of')) {
        p.complaints.push(`the console says: ${message.text()}`);
      }
    });
    p.context.on('weberror', (error) => p.complaints.push(`an error in a page: ${error.error()}`));
    return p;
  }

  async open(url) {
    const page = await this.context.newPage();
    await page.goto(url);
    await arrive(page);
    return page;
  }

  async leave() {
    await this.context.close();
  }
}

// The pointer comes to the page; a moment later it can press Allow (see 'hurry').
const arrive = (page) => page.mouse.move(1, 1);
const allow = (page) => page.getByRole('button', { name: 'Allow', exact: true });
const deny = (page) => page.getByRole('button', { name: 'Deny', exact: true });
const heading = (page) => page.getByRole('heading', { level: 1 }).innerText();

async function asked(page) {
  await allow(page).waitFor();
  await arrive(page);
  check((await heading(page)).startsWith('Allow “'), 'this is not the consent page');
}

async function atProvider(page, flow) {
  // No waitForURL: it fails where a second click makes the browser abandon the first one's answer.
  await page.locator('input[type=password]').waitFor();
  check(page.url().startsWith(flow.provider), 'this is not the provider');
}

async function signIn(page, flow) {
  await atProvider(page, flow);
  await page.locator('input[name=login], input[name=username]').fill(flow.username);
  await page.locator('input[type=password]').fill(flow.password);
  await page.keyboard.press('Enter');
}

// Who has denied a site stays on our page, with a link there; any other client is told at once.
async function denied(page, flow) {
  if (flow.redirect.startsWith('https:')) {
    await page.getByRole('heading', { name: 'You denied access' }).waitFor();
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
    check(!page.url().startsWith(flow.redirect), 'the page leads on to the site that was denied');
    await page.locator('#continue').click();
  }
  return atClient(page, flow);
}

async function atClient(page, flow) {
  await page.waitForURL((url) => url.href.startsWith(flow.redirect));
  return page.url();
}

// The navigations that a page asks for, also to schemes that no page.on('request') reports.
async function navigations(page) {
  const cdp = await page.context().newCDPSession(page);
  const seen = [];
  await cdp.send('Page.enable');
  let wake = () => {};
  cdp.on('Page.frameRequestedNavigation', (event) => { seen.push(event.url); wake(); });
  return async (prefix) => {
    for (;;) {
      const url = seen.find((u) => u.startsWith(prefix));
      if (url) return url;
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no navigation to ${prefix}, only to ${seen.map((u) => u.split('?')[0])}`)), 15_000);
        wake = () => { clearTimeout(timer); resolve(); };
      });
    }
  };
}

async function errorPage(page, status, response) {
  check(response.status() === status, `status ${response.status()}, want ${status}`);
  await page.getByRole('heading', { level: 2, name: 'What you can do' }).waitFor();
  const reference = await page.locator('dt:text-is("Reference") + dd').innerText();
  check(/^[A-Z2-7]{8}$/.test(reference), `the reference is ${reference}`);
  return reference;
}

const fits = async (page) => {
  const { scroll, client } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth }));
  check(scroll <= client, `the page is ${scroll} px wide in a window of ${client}`);
};

// axe-core's rules for people who see little, hear the page or use only a keyboard.
async function accessible(page) {
  await page.evaluate(axe);
  const { violations, incomplete } = await page.evaluate(() => globalThis.axe.run(document, { rules: { 'target-size': { enabled: true } } }));
  const found = [...violations, ...incomplete.filter((i) => i.id === 'color-contrast')];
  check(found.length === 0, `axe-core: ${found.map((v) => `${v.id} (${v.help}): ${v.nodes.map((n) => `${n.html} ${n.failureSummary ?? ''}`).join('; ')}`).join('\n')}`);
}

const channels = async (page, selector, property) => {
  const color = await page.locator(selector).evaluate((e, name) => getComputedStyle(e)[name], property);
  return color.match(/[\d.]+/g).slice(0, 3).map(Number);
};

// copyOf opens the same rendering of a page again: what a second tab, the history or a copied file
// may hold.
async function copyOf(source, person, flow) {
  const body = await source.content();
  const headers = { 'content-type': 'text/html; charset=utf-8', 'referrer-policy': 'same-origin' };
  const page = await person.context.newPage();
  await page.route(flow.url, (route) => route.fulfill({ status: 200, headers, body }), { times: 1 });
  await page.goto(flow.url);
  await asked(page);
  return page;
}

async function press(page, button) {
  const [response] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'POST' && r.url().endsWith('/oauth/consent')),
    button(page).click(),
  ]);
  return response;
}

// forgotten waits until the browser has dropped the cookies of answered pages, which live for ten
// seconds.
async function forgotten(person) {
  const consents = async () => (await person.context.cookies()).filter((c) => c.name.includes('consent'));
  check((await consents()).every((c) => c.expires < Date.now() / 1000 + 11), 'an answered page lives on');
  for (const end = Date.now() + 20_000; (await consents()).length > 0;) {
    check(Date.now() < end, 'the browser keeps the cookie of an answered page');
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}

// focused is the decision that the keyboard stands on, which must be visible.
async function focused(page) {
  return page.evaluate(() => {
    const e = document.activeElement;
    if (!e || e === document.body) return '';
    const style = getComputedStyle(e);
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) throw new Error('the focus is not visible');
    return e.value;
  });
}

const scenarios = {
  async allow(flows, { open }) {
    const page = await open(flows[0]);
    await asked(page);
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  async deny(flows, { open }) {
    const page = await open(flows[0]);
    await deny(page).click();
    return [await denied(page, flows[0])];
  },

  // The first flow is allowed, the second denied, with no mouse.
  async keyboard(flows, { open, person }) {
    let page = await open(flows[0]);
    let posts = 0;
    page.on('request', (request) => { if (request.method() === 'POST') posts++; });
    await page.keyboard.press('Enter');
    await page.keyboard.press('Space');
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
    await asked(page);
    check(posts === 0 && page.url() === flows[0].url, 'Enter alone has answered');
    check(!(await person.context.cookies()).some((c) => c.name.includes('flow')), 'Enter alone has begun a login');
    // Enter in a box presses the form's first button. It is one that does nothing.
    check(await page.evaluate(() => document.querySelector('form button').formMethod) === 'dialog', 'Enter presses a button that answers');
    await page.keyboard.press('Tab');
    const boxes = page.getByRole('checkbox', { disabled: false });
    for (let i = 0, all = await boxes.count(); i < all; i++) {
      check(await focused(page) === await boxes.nth(i).inputValue() && await boxes.nth(i).isChecked(), 'a Tab does not lead to the next box, which is ticked');
      await page.keyboard.press('Enter');
      await page.keyboard.press('Space');
      check(!await boxes.nth(i).isChecked(), 'a box stays ticked');
      await page.keyboard.press('Space');
      check(await boxes.nth(i).isChecked(), 'a box stays unticked');
      await page.keyboard.press('Tab');
    }
    await asked(page);
    check(posts === 0 && page.url() === flows[0].url, 'Enter in a box has answered');
    check(await focused(page) === 'deny', 'after the boxes a Tab does not lead to Deny');
    await page.keyboard.press('Tab');
    check(await focused(page) === 'allow', 'the next Tab does not lead to Allow');
    await page.keyboard.press('Enter');
    await atProvider(page, flows[0]);
    const field = () => page.evaluate(() => document.activeElement?.name ?? '');
    for (let i = 0; i < 10 && !/^(login|username)$/.test(await field()); i++) await page.keyboard.press('Tab');
    await page.keyboard.type(flows[0].username);
    for (let i = 0; i < 10 && await field() !== 'password'; i++) await page.keyboard.press('Tab');
    await page.keyboard.type(flows[0].password);
    await page.keyboard.press('Enter');
    const ends = [await atClient(page, flows[0])];

    page = await open(flows[1]);
    for (let i = 0; i < 20 && await focused(page) !== 'deny'; i++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    ends.push(await denied(page, flows[1]));
    return ends;
  },

  // One box is unticked; another is needed and cannot be.
  async 'leave out'(flows, { open }) {
    const page = await open(flows[0]);
    await asked(page);
    const needed = page.getByRole('checkbox', { name: 'know who you are (needed)' });
    check(await needed.isChecked() && await needed.isDisabled(), 'what is needed can be unticked');
    await page.getByRole('checkbox', { name: 'see your e-mail address' }).uncheck();
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // The first login is remembered. The second begins like it, by a click on the client's page, and
  // goes past the consent page. The others do not: the client's page leads on without a click, a
  // stranger's page has the link, the address is typed in.
  async remembered(flows, { person }) {
    const client = new URL('/', flows[0].redirect).href;
    const site = async (address, flow, script) => {
      const page = await person.context.newPage();
      const body = `<!doctype html><html lang="en"><title>site</title><link rel="icon" href="data:,"><a href="${flow.url.replaceAll('&', '&amp;')}">Connect</a>${script}`;
      await page.route(address, (route) => route.fulfill({ status: 200, contentType: 'text/html', body }), { times: 1 });
      await page.goto(address);
      return page;
    };
    const connect = (page) => page.getByRole('link', { name: 'Connect' }).click();
    const ends = [];

    let page = await site(client, flows[0], '');
    await connect(page);
    await asked(page);
    const box = page.getByRole('checkbox', { name: 'Remember for 24 hours on this browser' });
    check(!await box.isChecked(), 'the box comes ticked');
    await box.check();
    await accessible(page);
    await allow(page).click();
    await signIn(page, flows[0]);
    ends.push(await atClient(page, flows[0]));

    page = await site(client, flows[1], '');
    let questions = 0;
    page.on('response', (response) => { if (response.url().includes('/oauth/authorize') && response.status() === 200 && !response.url().startsWith(flows[1].provider)) questions++; });
    await connect(page);
    await signIn(page, flows[1]);
    ends.push(await atClient(page, flows[1]));
    check(questions === 0, 'the consent page was shown');

    page = await site(client, flows[2], '<script>location.href = document.querySelector("a").href</script>');
    await asked(page);
    page = await site(plan.evil, flows[3], '');
    await connect(page);
    await asked(page);
    page = await person.open(flows[4].url);
    await asked(page);
    return ends;
  },

  // Two logins of one browser at once; the second argument says which of them comes back first.
  async tabs(flows, { open, order }) {
    const pages = [await open(flows[0]), await open(flows[1])];
    for (const [i, page] of pages.entries()) {
      await allow(page).click();
      await atProvider(page, flows[i]);
    }
    const ends = [];
    for (const i of order) {
      await signIn(pages[i], flows[i]);
      ends[i] = await atClient(pages[i], flows[i]);
    }
    return ends;
  },

  async 'back after allow'(flows, { open }) {
    const page = await open(flows[0]);
    await allow(page).click();
    await atProvider(page, flows[0]);
    await page.goBack();
    await asked(page);
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  async 'back after deny'(flows, { open }) {
    const page = await open(flows[0]);
    await deny(page).click();
    await page.getByRole('heading', { name: 'You denied access' }).waitFor();
    await page.goBack();
    await asked(page);
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  async 'back after the login'(flows, { open, note }) {
    const page = await open(flows[0]);
    await allow(page).click();
    await signIn(page, flows[0]);
    const end = await atClient(page, flows[0]);
    // The callback's address again, as the history of some browsers has it: the login is over.
    const callback = note.callbacks.at(-1);
    const response = await page.goto(callback);
    note.references.push(await errorPage(page, 403, response));
    check(page.url() === callback, 'the second callback led on');
    return [end];
  },

  // A web application opens the login in a window, and waits there for that window's word.
  async popup(flows, { person }) {
    const client = await person.open(flows[0].redirect);
    const [page] = await Promise.all([
      client.waitForEvent('popup'),
      client.evaluate((url) => {
        globalThis.login = window.open(url, 'login', 'popup');
        globalThis.word = new Promise((heard) => addEventListener('message', (event) => heard(event.data)));
      }, flows[0].url),
    ]);
    const open = () => client.evaluate(() => !globalThis.login.closed);
    await asked(page);
    check(await open(), 'at the consent page the window counts as closed');
    await allow(page).click();
    await signIn(page, flows[0]);
    const end = await atClient(page, flows[0]);
    check(await open(), 'after the login the window counts as closed');
    await page.evaluate(() => window.opener.postMessage('logged in', location.origin));
    check(await client.evaluate(() => globalThis.word) === 'logged in', 'the application has heard something else');
    return [end];
  },

  // The address of the form, typed in. It is no page, but who comes there is a person.
  async 'opened by itself'(flows, { open, note }) {
    const page = await open(flows[0]);
    const address = await page.locator('form').getAttribute('action');
    note.references.push(await errorPage(page, 405, await page.goto(address)));
    return [];
  },

  async 'double click'(flows, { open }) {
    const page = await open(flows[0]);
    await allow(page).dblclick();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // The answer to the first click has come, cookies and all, when the second click makes the
  // browser abandon it: what a double click is on a slow machine. A copy of the page stands for the
  // first click.
  async 'click again'(flows, { open, person }) {
    const page = await open(flows[0]);
    const copy = await copyOf(page, person, flows[0]);
    check((await press(copy, allow)).status() === 200, 'the first click is refused');
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // Another window lies above the page, is clicked twice, and closes at the first click: the second
  // one falls on Allow. So whose pointer has only just come to the page cannot press it.
  async hurry(flows, { person }) {
    const page = await person.context.newPage();
    await page.goto(flows[0].url);
    let posts = 0;
    page.on('request', (request) => { if (request.method() === 'POST') posts++; });
    await page.evaluate(() => { // on a slow machine, too, the moment lasts until this test has clicked
      const own = new CSSStyleSheet();
      own.replaceSync('::after { animation-play-state: paused !important; }');
      document.adoptedStyleSheets = [own];
    });
    const box = await allow(page).boundingBox();
    const press = () => page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    const waited = await page.evaluate(() => {
      const [wait, ...others] = document.getAnimations();
      wait.currentTime = 650;
      return others.length === 0 && wait.effect.getTiming().duration;
    });
    check(waited === 700, `Allow can be pressed after ${waited} ms`);
    await press();
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
    await asked(page);
    check(posts === 0, 'a click in the first moment has answered');
    await page.evaluate(() => document.getAnimations().forEach((wait) => wait.finish()));
    await press();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // Who has switched all animations off, by a style of their own, presses Allow all the same.
  async 'no animations'(flows, { open }) {
    const page = await open(flows[0]);
    await page.evaluate(() => {
      const own = new CSSStyleSheet();
      own.replaceSync('*, ::before, ::after { animation: none !important; transition: none !important; }');
      document.adoptedStyleSheets = [own];
    });
    await allow(page).click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // Every page that a person sees is reloaded: the question, the answer to the form, and the page
  // after the login.
  async reload(flows, { open }) {
    const page = await open(flows[0]);
    const reload = async (status) => check((await page.reload()).status() === status, 'a reloaded page has changed');
    await reload(200);
    await asked(page);
    const upstream = (url) => url.href.startsWith(flows[0].provider);
    await page.route(upstream, (route) => route.fulfill({ status: 204 }));
    await press(page, allow);
    await page.getByRole('heading', { name: 'Continue to sign in' }).waitFor();
    await reload(200); // sends the form again, as "from the same origin"
    await page.getByRole('heading', { name: 'Continue to sign in' }).waitFor();
    await page.unroute(upstream);
    await page.locator('#continue').click();
    await signIn(page, flows[0]);
    return [await atClient(page, flows[0])];
  },

  // The second name is the first one with marks that reach over the lines below. Of them nothing is
  // to be seen there.
  async spill(flows, { open }) {
    const below = [];
    for (const flow of flows) {
      const page = await open(flow);
      await asked(page);
      below.push(await Promise.all(['.unknown', 'dl', 'form'].map((part) => page.locator(part).screenshot({ animations: 'disabled' }))));
    }
    check(below[0].every((part, i) => part.equals(below[1][i])), 'the name reaches beyond its frame');
    return [];
  },

  // One rendering, answered twice, each way, when the time for a second click is over.
  async 'answered again'(flows, { open, person, note }) {
    const ends = [];
    const copies = [];
    for (const [i, button] of [allow, deny].entries()) {
      const page = await open(flows[i]);
      for (const again of [allow, deny]) copies.push({ page: await copyOf(page, person, flows[i]), again });
      await button(page).click();
      if (button === allow) await signIn(page, flows[i]);
      ends.push(await (button === deny ? denied : atClient)(page, flows[i]));
    }
    await forgotten(person);
    for (const { page, again } of copies) {
      note.references.push(await errorPage(page, 403, await press(page, again)));
      check(flows.every((flow) => !page.url().startsWith(flow.redirect)), 'the second answer went to the client');
    }
    return ends;
  },

  // The form of one browser, sent by another: with no page of its own, and with one.
  async 'another browser'(flows, { open, note }) {
    const page = await open(flows[0]);
    const other = await Person.sit();
    try {
      for (const visited of [false, true]) {
        if (visited) await other.open(flows[1].url);
        const copy = await copyOf(page, other, flows[0]);
        note.references.push(await errorPage(copy, 403, await press(copy, allow)));
        check(!(await other.context.cookies()).some((c) => c.name.includes('flow')), 'a login was begun');
      }
      check(other.complaints.length === 0, other.complaints.join('\n'));
    } finally {
      await other.leave();
    }
    return [];
  },

  // Another site posts the form of this very browser.
  async 'another site'(flows, { open, person, note }) {
    const page = await open(flows[0]);
    const form = await page.locator('form').evaluate((f) => f.outerHTML);
    check(form.includes(`action="${plan.bouncers.find((b) => flows[0].url.startsWith(b))}`), 'the form has no absolute address');
    const evil = await person.context.newPage();
    await evil.route(plan.evil, (route) => route.fulfill({ status: 200, contentType: 'text/html', body: `<!doctype html><title>evil</title>${form}` }));
    await evil.goto(plan.evil);
    note.references.push(await errorPage(evil, 403, await press(evil, allow)));
    // Nor does it get the page into a frame, where clicks could be led to it.
    const framed = await person.context.newPage();
    await framed.route(plan.evil, (route) => route.fulfill({ status: 200, contentType: 'text/html', body: `<!doctype html><title>evil</title><iframe src="${flows[1].url.replaceAll('&', '&amp;')}"></iframe>` }));
    await framed.goto(plan.evil);
    const frame = framed.frames().find((f) => f.parentFrame());
    check(!frame || await frame.locator('button').count() === 0, 'the consent page stands in a frame of another site');
    person.complaints = person.complaints.filter((c) => !/frame-ancestors|X-Frame-Options/.test(c));
    return [];
  },

  // 320 CSS pixels, with the longest of everything.
  async narrow(flows, { open }) {
    const page = await open(flows[0]);
    await asked(page);
    await fits(page);
    for (const button of [allow, deny]) {
      const box = await button(page).boundingBox();
      check(box.x >= 0 && box.x + box.width <= 320 && box.height >= 44, `a button of ${JSON.stringify(box)}`);
    }
    await accessible(page);
    // The page between: its way on is held up.
    await page.route((url) => url.href.startsWith(flows[0].provider), (route) => route.fulfill({ status: 204 }));
    await press(page, allow);
    await page.getByRole('heading', { name: 'Continue to sign in' }).waitFor();
    await fits(page);
    await accessible(page);
    const failed = await open(flows[1]);
    await failed.getByRole('heading', { level: 2 }).waitFor();
    await fits(failed);
    await accessible(failed);
    return [];
  },

  // What axe-core finds in each kind of page, in the colours asked for.
  async accessible(flows, { open, scheme }) {
    for (const flow of flows) {
      const page = await open(flow);
      const [r, g, b] = await channels(page, 'main', 'backgroundColor');
      check(scheme === 'dark' ? Math.max(r, g, b) < 64 : Math.min(r, g, b) > 240, `the page is rgb(${r}, ${g}, ${b})`);
      check(await page.locator('html').getAttribute('lang') === 'en' && await page.title() !== '', 'no language or no title');
      await page.getByRole('main').waitFor();
      await accessible(page);
    }
    return [];
  },

  // The way out of the consent page and back from the provider, under the policy in force. The
  // first flow is denied, the second allowed.
  async out(flows, { open }) {
    const ends = [];
    for (const [i, button] of [deny, allow].entries()) {
      const page = await open(flows[i]);
      const navigation = await navigations(page);
      await button(page).click();
      if (button === allow) await signIn(page, flows[i]);
      if (flows[i].redirect.startsWith('http')) {
        ends.push(await (button === deny ? denied : atClient)(page, flows[i]));
        continue;
      }
      const asked = await navigation(flows[i].redirect);
      // Nothing here opens such addresses, so the page stays and offers the link.
      const link = page.locator('#continue');
      check(await link.evaluate((a) => a.href) === asked, 'the link leads elsewhere');
      check(await heading(page) === (button === deny ? 'You denied access' : 'Back to the application'), `the page says ${await heading(page)}`);
      await accessible(page);
      ends.push(asked);
    }
    return ends;
  },

  async 'what is shown'(flows, { open, texts }) {
    for (const [i, flow] of flows.entries()) {
      const page = await open(flow);
      await asked(page);
      const shown = (await page.getByRole('main').innerText()).replace(/\s+/g, ' ');
      for (const text of texts[i]) check(shown.includes(text), `the page does not say ${JSON.stringify(text)}: ${shown}`);
      const logo = page.locator('img');
      if (await logo.count()) {
        check(await logo.evaluate((img) => img.complete && img.naturalWidth > 0), 'the logo is not shown');
        check(await logo.getAttribute('alt') === '', 'the logo, which only decorates, has a text');
      }
    }
    return [];
  },

  // Does this driver notice what it claims to?
  async 'the alarm rings'(flows, { open, person }) {
    const page = await open(flows[0]);
    const hear = async (what, pattern) => {
      await page.evaluate(what);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
      const heard = person.complaints.some((c) => pattern.test(c));
      check(heard, `nothing was heard of ${what}: ${person.complaints}`);
    };
    await hear(`document.body.setAttribute('style', 'color: red')`, /Content Security Policy/);
    await hear(`document.body.append(Object.assign(new Image(), { src: '${plan.evil}x.png' }))`, /img-src|default-src/);
    await page.route(plan.evil, (route) => route.fulfill({ status: 200, body: '' }));
    await Promise.all([page.waitForURL(plan.evil), page.evaluate(`location.href = '${plan.evil}'`)]);
    check(person.complaints.some((c) => c.startsWith('a request to')), 'a request to a stranger was not noticed');
    person.complaints = [];
    return [];
  },

  async picture(flows, { open, file, prepare, shown: [name, shown] }) {
    const page = await open(flows[0]);
    await page.locator('strong', { hasText: name }).evaluateAll((all, text) => all.forEach((e) => { e.textContent = text; }), shown);
    if (prepare === 'deny') {
      await deny(page).click();
      await page.locator('#continue').waitFor();
    }
    await page.screenshot({ path: join(plan.pictures, file), fullPage: true, animations: 'disabled' });
    return [];
  },
};

async function play({ name, run, flows, ...more }) {
  const start = performance.now();
  const note = { references: [], callbacks: [] };
  const result = { name, ends: [] };
  const person = await Person.sit(more.options);
  person.context.on('request', (r) => { if (new URL(r.url()).pathname.endsWith('/oauth/callback')) note.callbacks.push(r.url()); });
  const allowedStranger = ['another site', 'remembered'].includes(run) ? `a request to ${new URL(plan.evil).origin}` : null;
  try {
    result.ends = await scenarios[run](flows, { ...more, note, person, open: (flow) => person.open(flow.url) });
    const complaints = person.complaints.filter((c) => c !== allowedStranger);
    check(complaints.length === 0, complaints.join('\n'));
  } catch (error) {
    if (!browser.isConnected()) throw error;
    const where = person.context.pages().map((p) => p.url().split('?')[0]).join(', ');
    result.error = `${error.message}\n${error.stack?.split('\n').filter((l) => l.includes('driver.mjs')).join('\n')}\npages: ${where}\n${person.complaints.join('\n')}`;
  }
  await person.leave();
  result.references = note.references;
  result.milliseconds = Math.round(performance.now() - start);
  return result;
}

let crashes = 0;
for (const scenario of plan.scenarios) {
  let result;
  try {
    result = await play(scenario);
  } catch (error) {
    // Chromium itself has ended, which no page of ours brings about: once in a run it may.
    if (browser.isConnected() || ++crashes > 1) throw error;
    console.error(`Chromium ended in "${scenario.name}", which is played again`);
    browser = await launch();
    result = await play(scenario);
  }
  console.log(JSON.stringify(result));
}
await browser.close();
