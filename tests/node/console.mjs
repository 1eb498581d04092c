// An operator at a real browser, Chromium, in front of the console.
//
// Settings: CHROMIUM, and SCREENSHOTS (a directory; optional). Reads one scenario a line, as {scenario, admin (origin),
// password, …}, and says {done: scenario, …}; whatever is not as it should be ends it with an error. No console message, no
// request to another origin and no dialog may be seen.

import assert from 'node:assert/strict';
import path from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

import { say, setting } from './lines.mjs';

const PATIENCE_MS = 30_000;
const VIEWS = {
  phone: [{ width: 390, height: 844 }, 'light'],
  dark: [{ width: 390, height: 844 }, 'dark'],
  desktop: [{ width: 1280, height: 900 }, 'light'],
  'desktop-dark': [{ width: 1280, height: 900 }, 'dark'],
};
const NARROW = { width: 320, height: 640 };

const complaints = [];

async function open({ admin, password }) {
  const context = await browser.newContext({
    httpCredentials: { username: 'admin', password },
    viewport: VIEWS.phone[0],
  });
  context.setDefaultTimeout(PATIENCE_MS);
  context.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== admin) complaints.push(`asked ${request.url()}`);
  });
  context.on('console', (message) => {
    // Chromium says this of every answer from 400 on, the first question for a password among them.
    if (!/^Failed to load resource: the server responded with a status of 4/.test(message.text())) complaints.push(message.text());
  });
  context.on('weberror', (error) => complaints.push(String(error.error())));
  const page = await context.newPage();
  await page.goto(`${admin}/`);
  await page.getByText('ready ·').waitFor();
  return page;
}

async function look(page, name) {
  await page.setViewportSize(NARROW);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= NARROW.width, `${name} is ${width} pixels wide`);
  const directory = process.env.SCREENSHOTS;
  for (const [view, [size, colorScheme]] of Object.entries(directory ? VIEWS : {})) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: path.join(directory, `${name}-${view}.png`), fullPage: true });
  }
  await page.setViewportSize(VIEWS.phone[0]);
}

/** Presses a button that asks once more. */
async function insist(page, name) {
  await page.getByRole('button', { name, exact: true }).click();
  await page.getByRole('button', { name: `${name}: sure?` }).click();
}

const scenarios = {
  /** Finds a session by its user code, ends it, and says what the funnel counts. */
  async session(settings) {
    const page = await open(settings);
    await page.getByLabel('User code').fill('bcdf ghjk');
    await page.getByRole('button', { name: 'Find' }).click();
    await page.getByText('no session has this code').waitFor();
    await page.getByLabel('User code').fill(settings.code.toLowerCase().replace('-', ' '));
    await page.getByRole('button', { name: 'Find' }).click();
    await page.locator('#session').getByText('waiting').waitFor();
    await look(page, 'console-session');
    await insist(page, 'End this session');
    await page.getByText('ended: the box hears access_denied').waitFor();
    await page.locator('#session').getByText('by the operator').waitFor();
    // The next reading has it.
    await page.waitForFunction(() => /refused by the person\s*1/.test(document.querySelector('#consent').innerText));
    const figures = await page.locator('[data-stage]').evaluateAll((all) => all.map((it) => [it.dataset.stage, it.innerText]));
    return { funnel: Object.fromEntries(figures) };
  },

  /** Finds a token by its meter, ends it, and drains the instance. */
  async token(settings) {
    const page = await open(settings);
    await page.getByLabel('Meter, id or client').fill(settings.meter);
    await page.getByRole('button', { name: 'Search' }).click();
    await page.locator('#tokens').getByText(`…${settings.meter.slice(-4)}`).waitFor();
    await page.getByRole('button', { name: 'Read the last days' }).click();
    await page.locator('#audit').getByText('tokens given').waitFor();
    await look(page, 'console-token');
    await insist(page, 'Revoke');
    await page.getByText(/^revoked [0-9a-f]{16}/).waitFor();
    await page.locator('#tokens').getByText('none', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Drain' }).click();
    await page.getByText('drained: not ready').waitFor();
    return {};
  },

  /** Looks on for some seconds, while a fleet polls. */
  async watch(settings) {
    const page = await open(settings);
    await page.waitForFunction(() => samples.length > 5);
    await look(page, 'console-load');
    const shown = (id) => page.locator(`${id} path`).count();
    return { lines: { polls: await shown('#polls'), requests: await shown('#requests'), store: await shown('#store') } };
  },
};

const browser = await chromium.launch({
  executablePath: setting('CHROMIUM'),
  headless: true,
  timeout: PATIENCE_MS,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server'],
});
try {
  for await (const line of createInterface({ input: process.stdin })) {
    const settings = JSON.parse(line);
    const found = await scenarios[settings.scenario](settings);
    assert.deepEqual(complaints, []);
    say({ done: settings.scenario, ...found });
  }
} finally {
  await browser.close();
}
