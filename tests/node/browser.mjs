// A person at a real browser, Chromium, in front of the proxy and the simulated Enedis. JavaScript is off, as the pages
// promise to work without it, except where a scenario looks for scripts that must not run.
//
// Settings: CHROMIUM, and SCREENSHOTS (a directory; optional). Reads one scenario (below) a line, as {scenario, proxy,
// enedis (origins), code (a pending user code), language (fr or en)} and what the scenario needs besides, and says {done: scenario}; whatever is not as it
// should be ends it with an error. Each scenario has a browser window, cookies and all, of its own. At its end no console
// message and no request to another origin may have been seen.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

import { say, setting } from './lines.mjs';

// Of the scenario that is played.
let PROXY, ENEDIS, CODE, LANGUAGE, CONFIRM_LINK, T;

const PATIENCE_MS = 30_000;
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 900 };
// A small phone, on which what has to be decided is seen as a whole.
const SMALL_PHONE = { width: 360, height: 740 };
// The narrowest window a page must fit in (WCAG 2.2, 1.4.10).
const NARROW = { width: 320, height: 640 };

const TEXTS = {
  fr: {
    enter: 'Saisissez le code de votre appareil',
    label: 'Code affiché par votre appareil',
    enterCode: 'Saisir un code',
    submit: 'Continuer vers Enedis',
    error: 'Erreur',
    notValid: 'Ce code n’est pas valable',
    confirm: 'Laisser cet appareil lire votre compteur\u202f?',
    yes: 'Oui, continuer vers Enedis',
    no: 'Non, ce n’est pas moi',
    notMine: 'Rien n’a été relié',
    signedIn: 'Votre accord est enregistré',
    refused: 'Vous avez refusé l’accès',
    rejected: 'Enedis n’a pas accepté la demande',
    again: 'Réessayer',
    tooMany: 'Trop d’essais.',
    others: 'Autres appareils qui lisent ce compteur',
    end: 'Retirer l’accès',
  },
  en: {
    enter: 'Enter the code from your device',
    label: 'Code shown by your device',
    enterCode: 'Enter a code',
    submit: 'Continue to Enedis',
    error: 'Error',
    notValid: 'This code is not valid',
    confirm: 'Let this device read your meter?',
    yes: 'Yes, continue to Enedis',
    no: 'No, this is not me',
    notMine: 'Nothing was linked',
    signedIn: 'Your consent is recorded',
    refused: 'You refused access',
    rejected: 'Enedis did not accept the request',
    again: 'Try again',
    tooMany: 'Too many attempts.',
    others: 'Other devices that read this meter',
    end: 'Take its access away',
  },
};

/** A browser window of its own, and all it complained about. */
class Window {
  /** The one opened last. */
  static last;

  static async open(browser, { javascript = false, origins = [], expected = [] } = {}) {
    const context = await browser.newContext({
      javaScriptEnabled: javascript,
      locale: LANGUAGE === 'fr' ? 'fr-FR' : 'en-GB',
      viewport: PHONE,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    const window = new Window();
    Object.assign(window, { context, page: await context.newPage(), complaints: [] });
    Window.last = window;
    const known = [PROXY, ENEDIS, ...origins];
    context.on('request', (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith('http') && !known.includes(origin)) window.complaints.push(`asked ${request.url()}`);
    });
    context.on('response', (response) => {
      if (response.request().isNavigationRequest() && response.frame() === window.page.mainFrame()) {
        window.status = response.status();
      }
    });
    context.on('console', (message) => {
      // Chromium says this of every answer from 400 on, which scenarios check themselves.
      // The other, where a scenario types before the browser has gone to the field by itself.
      const known = [/^Failed to load resource: the server responded with a status of [45]/, /^Autofocus processing was blocked/, ...expected];
      if (!known.some((pattern) => pattern.test(message.text()))) window.complaints.push(message.text());
    });
    context.on('weberror', (error) => window.complaints.push(String(error.error())));
    context.on('dialog', (dialog) => {
      window.complaints.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    return window;
  }

  /** Opens an address as if typed into the address bar. */
  async goto(address) {
    await this.page.goto(address);
  }

  /** Presses the button or link of this name and waits until the page of `heading` is there. */
  async press(role, name, heading) {
    await this.page.getByRole(role, { name, exact: true }).click();
    await this.at(heading);
  }

  /** Waits for the page of this heading; its status has to be `status`. */
  async at(heading, status = 200) {
    await this.page.getByRole('heading', { level: 1, name: heading }).waitFor();
    await this.page.waitForLoadState();
    assert.equal(this.status, status, `status of ${this.page.url()}`);
    if (this.origin() === PROXY) assert.equal(await this.page.locator('html').getAttribute('lang'), LANGUAGE);
  }

  /** Types a code, sends it with the Enter key, and waits for the page that comes, which may look like the one before. */
  async type(code) {
    const field = this.page.getByRole('textbox', { name: T.label });
    await field.fill(code);
    await Promise.all([this.page.waitForNavigation(), field.press('Enter')]);
  }

  /** Makes sure that the page fits into the narrowest window, and takes its picture. */
  async look(name) {
    await this.page.setViewportSize(NARROW);
    const width = await this.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= NARROW.width, `${name} is ${width} pixels wide`);
    const directory = process.env.SCREENSHOTS;
    const views = {
      phone: [PHONE, 'light'],
      dark: [PHONE, 'dark'],
      desktop: [DESKTOP, 'light'],
      'desktop-dark': [DESKTOP, 'dark'],
      small: [SMALL_PHONE, 'light'],
    };
    for (const [view, [size, colorScheme]] of Object.entries(directory ? views : {})) {
      await this.page.setViewportSize(size);
      await this.page.emulateMedia({ colorScheme });
      const file = path.join(directory, `${name}-${LANGUAGE}-${view}.png`);
      await this.page.screenshot({ path: file, fullPage: size === PHONE });
    }
    await this.page.setViewportSize(PHONE);
  }

  /** What assistive technology is told of the code field. */
  async field() {
    const session = await this.context.newCDPSession(this.page);
    const { root } = await session.send('DOM.getDocument');
    const { nodeId } = await session.send('DOM.querySelector', { nodeId: root.nodeId, selector: '#code' });
    const { nodes } = await session.send('Accessibility.getPartialAXTree', { nodeId, fetchRelatives: false });
    const [{ name, description, value, properties }] = nodes;
    const property = (wanted) => properties.find(({ name }) => name === wanted)?.value.value;
    await session.detach();
    return {
      name: name.value,
      description: description.value,
      value: value.value,
      focused: property('focused') ?? false,
      invalid: property('invalid'),
    };
  }

  origin() {
    return new URL(this.page.url()).origin;
  }

  path() {
    return new URL(this.page.url()).pathname;
  }

  async text() {
    return this.page.locator('main').innerText();
  }

  async close() {
    await this.context.close();
    assert.deepEqual(this.complaints, []);
  }
}

const ENEDIS_CONSENT = 'Partage de vos données';

const scenarios = {
  /** Types the code as people do, allows, and reloads the last page. */
  async typed_code(browser) {
    const window = await Window.open(browser);
    await window.goto(`${PROXY}/`);
    await window.look('home');
    // The other language, and this one again, which the browser then keeps.
    const other = LANGUAGE === 'fr' ? 'English' : 'Français';
    for (const name of [other, other === 'English' ? 'Français' : 'English']) {
      const heading = await window.page.locator('h1').innerText();
      await window.page.getByRole('link', { name, exact: true }).click();
      await window.page.locator('h1').filter({ hasNotText: heading }).waitFor();
    }
    await window.page.goto(`${PROXY}/privacy`);
    await window.look('privacy');
    await window.page.goto(`${PROXY}/status`);
    await window.look('status');
    await window.page.goBack();
    await window.page.goBack();
    await window.press('link', T.enterCode, T.enter);
    await window.look('enter');
    await window.type(`  ${CODE.toLowerCase().replace('-', ' ')} `);
    await window.at(T.confirm);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    assert.equal(window.origin(), ENEDIS);
    await window.press('button', 'Autoriser', T.signedIn);
    assert.deepEqual([window.origin(), window.path()], [PROXY, '/auth/redirect']);
    await window.look('signed-in');
    const text = await window.text();
    assert.ok(text.includes('4270') && !text.includes('22516914714270'), text);
    for (let n = 0; n < 3; n += 1) {
      await window.page.reload();
      await window.at(T.signedIn);
      assert.equal(await window.text(), text);
    }
    const cookies = await window.context.cookies(PROXY);
    assert.deepEqual(cookies.map(({ name }) => name).sort(), ['dfp-browser', 'dfp-code', 'dfp-lang']);
    for (const { name, httpOnly, sameSite, path, domain } of cookies) {
      assert.deepEqual({ httpOnly, sameSite, path, domain }, { httpOnly: true, sameSite: 'Lax', path: '/', domain: 'localhost' }, name);
    }
    await window.close();
  },

  /** Follows the complete link, comes back from Enedis by the back button, continues again, and refuses. */
  async complete_link_refused(browser) {
    const window = await Window.open(browser);
    await window.goto(CONFIRM_LINK);
    await window.at(T.confirm);
    await window.look('confirm');
    const text = await window.text();
    for (const part of [CODE, 'simulated-client', 'DomoticzLinkyPlugin/2.6.0', new URL(ENEDIS).hostname]) {
      assert.ok(text.includes(part), `${part} in ${text}`);
    }
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.page.goBack();
    await window.at(T.confirm);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.press('button', 'Refuser', T.refused);
    await window.look('refused');
    await window.page.reload();
    await window.at(T.refused);
    await window.close();
  },

  /** Was sent somebody else's code: says so, and the code is gone. */
  async not_mine(browser) {
    const window = await Window.open(browser);
    await window.goto(CONFIRM_LINK);
    await window.at(T.confirm);
    const sizes = await window.page.getByRole('button').evaluateAll((all) => all.map((it) => it.getBoundingClientRect()));
    assert.deepEqual([sizes[0].width, sizes[0].height], [sizes[1].width, sizes[1].height], 'one is as large as the other');
    await window.page.setViewportSize(SMALL_PHONE);
    const { bottom } = await window.page.getByRole('button', { name: T.no }).evaluate((it) => it.getBoundingClientRect());
    assert.ok(bottom <= SMALL_PHONE.height, `the last button ends at ${bottom}`);
    await window.page.setViewportSize(PHONE);
    await window.press('button', T.no, T.notMine);
    await window.look('not-mine');
    await window.page.goBack();
    await window.page.reload();
    await window.at(T.enter, 400);
    await window.close();
  },

  /** Types nothing, then a wrong code, then the right one, and at last too many wrong ones. */
  async wrong_code(browser) {
    const window = await Window.open(browser);
    await window.goto(`${PROXY}/device`);
    await window.at(T.enter);
    // The browser itself asks for the code.
    await window.page.getByRole('button', { name: T.submit }).click();
    assert.equal(window.path(), '/device');
    await window.type('bcdf ghjk');
    await window.at(T.enter, 400);
    await window.look('wrong-code');
    assert.ok((await window.page.title()).startsWith(T.error), await window.page.title());
    assert.ok((await window.page.getByRole('alert').innerText()).includes(T.notValid));
    const field = await window.field();
    assert.deepEqual([field.name, field.value, field.focused, field.invalid], [T.label, 'bcdf ghjk', true, 'true']);
    assert.ok(field.description.includes(T.notValid), field.description);
    await window.type(CODE);
    await window.at(T.confirm);
    await window.press('button', T.yes, ENEDIS_CONSENT);

    await window.goto(`${PROXY}/device`);
    for (let n = 0; n < 50 && window.status !== 429; n += 1) {
      await window.type('wrong');
      await window.page.getByRole('alert').waitFor();
    }
    await window.at(T.enter, 429);
    assert.ok((await window.page.getByRole('alert').innerText()).includes(T.tooMany));
    await window.look('too-many');
    await window.close();
  },

  /** Enedis answers nonsense; a reload doesn't help, trying again does. */
  async enedis_trouble(browser) {
    const window = await Window.open(browser);
    await window.goto(CONFIRM_LINK);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.page.getByRole('button', { name: 'Autoriser' }).click();
    await window.at(T.rejected, 502);
    await window.look('enedis-trouble');
    await window.page.reload();
    await window.at(T.rejected, 502);
    await window.press('link', T.again, T.confirm);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.press('button', 'Autoriser', T.signedIn);
    await window.close();
  },

  /** Enedis is slow; the person reloads the page before it has come. */
  async impatient(browser) {
    const window = await Window.open(browser);
    await window.goto(CONFIRM_LINK);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    const callback = window.page.waitForRequest((request) => request.url().startsWith(`${PROXY}/auth/redirect`));
    await window.page.getByRole('button', { name: 'Autoriser' }).click({ noWaitAfter: true });
    const address = (await callback).url();
    // A new visit to the address gives the first one up, as a reload does, and waits for the same end.
    await window.goto(address);
    await window.at(T.signedIn);
    await window.close();
  },

  /** Enedis sends people on to sign in at another origin: our policy for forms must not stand in the way. */
  async sign_in_at_another_origin(browser) {
    const elsewhere = ENEDIS.replace('127.0.0.1', 'localhost');
    const window = await Window.open(browser, { origins: [elsewhere] });
    await window.goto(CONFIRM_LINK);
    await window.page.getByRole('button', { name: T.yes }).click();
    await window.page.waitForURL(`${elsewhere}/sign-in`);
    await window.goto(`${PROXY}/device`);
    await window.type(CODE);
    await window.at(T.confirm);
    await window.page.getByRole('button', { name: T.yes }).click();
    await window.page.waitForURL(`${elsewhere}/sign-in`);
    await window.close();
  },

  /** Whoever sends people straight to the redirect, by whatever way, gets them to the page that asks first. */
  async link_from_elsewhere(browser) {
    const target = `${PROXY}/auth/verify_code?code=${CODE.toLowerCase()}`;
    const elsewhere = createServer((request, response) => {
      if (request.url === '/redirect') return response.writeHead(302, { location: target }).end();
      const html = request.url === '/frame' ? `<iframe src="${PROXY}/device"></iframe>` : `<a href="${target}">go</a>`;
      return response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>x</title>${html}`);
    });
    await new Promise((listening) => elsewhere.listen(0, '127.0.0.1', listening));
    const { port } = elsewhere.address();
    // To localhost, where the proxy is, the first is another site and the second another origin of the same site.
    const origins = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
    const expected = [/X-Frame-Options|frame-ancestors|favicon/];
    const window = await Window.open(browser, { origins, expected });
    await window.goto(target);
    await window.at(T.confirm);
    for (const origin of origins) {
      await window.goto(`${origin}/link`);
      await window.press('link', 'go', T.confirm);
        await window.goto(`${origin}/redirect`);
      await window.at(T.confirm);
        await window.goto(`${origin}/frame`);
      const frame = window.page.frames()[1];
      assert.ok(!(await frame.content()).includes('/auth/verify_code'), 'the page shows in a frame');
    }
    await window.close();
    elsewhere.close();
  },

  /** Sees another box that reads the meter, and ends it. */
  async other_box(browser) {
    const window = await Window.open(browser);
    await window.goto(CONFIRM_LINK);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.page.getByRole('button', { name: 'Autoriser' }).click();
    await window.at(T.signedIn);
    const list = window.page.getByRole('heading', { level: 2, name: T.others });
    await list.waitFor();
    await window.look('others');
    const [ended] = await Promise.all([
      window.page.waitForResponse((response) => response.request().method() === 'POST'),
      window.page.getByRole('button', { name: T.end, exact: true }).click(),
    ]);
    assert.equal(ended.status(), 303);
    for (let n = 0; n < 2; n += 1) {
      await window.at(T.signedIn);
      assert.deepEqual([window.path(), await list.count()], ['/auth/redirect', 0]);
      await window.page.reload();
    }
    await window.close();
  },

  /** Script in every parameter and in the device's name for itself: shown as text or not at all. JavaScript is on. */
  async injected_scripts(browser) {
    const window = await Window.open(browser, { javascript: true });
    // Three wrong codes each, and twenty are looked at.
    const probes = [
      '<script>window.hit=1</script>',
      '"><img src=x onerror=window.hit=1>',
      "'><svg onload=window.hit=1>",
      '</title></textarea><script>window.hit=1</script>',
      'javascript:window.hit=1',
      '{{7*7}}" autofocus onfocus="window.hit=1',
    ];
    for (const probe of probes) {
      const p = encodeURIComponent(probe);
      // As long as a state of ours, so that it gets past the look at its form.
      const state = encodeURIComponent(probe.padEnd(43, 'a'));
      const addresses = [
        `/device?code=${p}`,
        `/device?user_code=${p}`,
        `/device?state=${p}`,
        `/device?code=${CODE}&state=${p}`,
        `/device?lang=${p}`,
        `/auth/verify_code?code=${p}`,
        `/auth/verify_code?code=${CODE}&state=${p}`,
        `/auth/redirect?error=${p}&error_description=${p}&state=${p}`,
        `/auth/redirect?error=access_denied&error_description=${p}&state=${state}`,
        `/auth/redirect?code=${p}&state=${state}&usage_point_id=${p}`,
        `/auth/redirect/${p}`,
        `/${p}`,
      ];
      for (const address of addresses) {
        const response = await window.page.goto(PROXY + address);
        await harmless(window, await response.text(), probe, address);
      }
      await window.goto(`${PROXY}/auth/redirect?error=${p}`);
      assert.equal(await window.page.locator('.detail').count(), 0, 'only an error code is shown');
      await window.look('injected');

      const answer = await fetch(`${PROXY}/device/code`, {
        method: 'POST',
        headers: { 'user-agent': probe },
        body: new URLSearchParams({ client_id: 'simulated-client' }),
      });
      const codes = await answer.json();
      const response = await window.page.goto(codes.verification_uri_complete);
      await harmless(window, await response.text(), probe, 'user-agent');
      assert.ok((await window.text()).includes(probe), 'the device is shown as it calls itself');
    }
    await window.close();
  },

  /** Every page, from memory, in both colour schemes. What differs between them is the contrast. JavaScript is on for axe. */
  async every_page(browser, { pages, style }) {
    const window = await Window.open(browser, { javascript: true });
    const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
    let html;
    await window.context.route('**/*', (route) => {
      const isStyle = route.request().resourceType() === 'stylesheet';
      return route.fulfill(isStyle ? { contentType: 'text/css', body: style } : { contentType: 'text/html', body: html });
    });
    for (const page of pages) {
      html = page.html;
      await window.page.emulateMedia({ colorScheme: 'light' });
      await window.goto(`${PROXY}/consent/`);
      await window.page.evaluate(() => document.querySelectorAll('details').forEach((it) => { it.open = true; }));
      await window.page.evaluate(axe);
      assert.deepEqual(await violations(window.page), [], page.name);
      await window.page.emulateMedia({ colorScheme: 'dark' });
      assert.deepEqual(await violations(window.page, ['color-contrast']), [], `${page.name}, dark`);
      await window.look(`page-${page.name.replace(/[^\p{L}\d]+/gu, '-')}`);
    }
    await window.close();
  },

  /** The whole journey with JavaScript on: no page has a script, and none could read a cookie. */
  async cookies_are_not_for_scripts(browser) {
    const window = await Window.open(browser, { javascript: true });
    const unreadable = async () => assert.equal(await window.page.evaluate(() => document.cookie), '');
    await window.goto(CONFIRM_LINK);
    await window.press('button', T.yes, ENEDIS_CONSENT);
    await window.press('button', 'Autoriser', T.signedIn);
    assert.equal((await window.context.cookies(PROXY)).length, 2);
    await unreadable();
    await window.goto(`${PROXY}/device`);
    await unreadable();
    await window.close();
  },
};

/** What axe-core says against the page, in this colour scheme. */
async function violations(page, rules) {
  const { violations } = await page.evaluate((only) => window.axe.run(document, only ? { runOnly: only } : {}), rules);
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

/** The page carries nothing that could run, and the probe not as it was sent. */
async function harmless(window, html, probe, address) {
  if (/[<"]/.test(probe)) assert.ok(!html.includes(probe), `unescaped in ${address}: ${probe}`);
  const found = await window.page.evaluate(() => {
    const runs = ({ name, value }) => /^on/i.test(name) || (/^(href|src|action|formaction)$/i.test(name) && /^\s*javascript:/i.test(value));
    const elements = [...document.querySelectorAll('*')];
    const suspects = elements.filter((it) => it.matches('script, img, iframe') || [...it.attributes].some(runs));
    return { hit: window.hit ?? null, suspects: suspects.map((it) => it.outerHTML) };
  });
  assert.deepEqual(found, { hit: null, suspects: [] }, `${address} with ${probe}`);
}

const browser = await chromium.launch({
  executablePath: setting('CHROMIUM'),
  headless: true,
  timeout: PATIENCE_MS,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-proxy-server',
  ],
});
let playing;
try {
  for await (const line of createInterface({ input: process.stdin })) {
    const settings = JSON.parse(line);
    ({ scenario: playing, proxy: PROXY, enedis: ENEDIS, code: CODE, language: LANGUAGE } = settings);
    CONFIRM_LINK = `${PROXY}/device?code=${CODE}`;
    T = TEXTS[LANGUAGE];
    await scenarios[playing](browser, settings);
    say({ done: playing });
  }
} catch (error) {
  const { page, complaints } = Window.last ?? {};
  const body = await page?.locator('body').innerText().catch(() => 'a page that cannot be read');
  console.error(`${playing} in ${LANGUAGE}, at ${page?.url()}:`, body);
  console.error('complaints:', complaints);
  throw error;
} finally {
  await browser.close();
}
