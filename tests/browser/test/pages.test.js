/** The pages in every state that a person meets: WCAG 2.2 AA by axe, keyboard, phone width, both colour schemes. Screenshots are kept. */
import assert from 'node:assert/strict';
import {mkdtemp, readFile} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {clip, complaints, eventually, folder, launch} from '../browser.js';
import {startMock} from '../mock/server.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const WIDTHS = [360, 1280];
const SCHEMES = ['light', 'dark'];

describe('pages', () => {
  let browser;
  let mock;
  let shots;
  let files;

  before(async () => {
    browser = await launch();
    mock = await startMock();
    files = await folder();
    mock.world.mp4 = await clip(files.path);
    shots = process.env.SCREENSHOTS ?? await mkdtemp(join(tmpdir(), 'screenshots-'));
    console.log(`screenshots: ${shots}`);
  });

  after(async () => {
    await browser?.close();
    mock?.close();
    await files?.clean();
  });

  async function open(path, {width = 1280, scheme = 'light', height = 900} = {}) {
    const context = await browser.newContext({viewport: {width, height}, colorScheme: scheme, timezoneId: 'Europe/Berlin', bypassCSP: false, reducedMotion: 'reduce',
      permissions: ['clipboard-read', 'clipboard-write', 'camera', 'microphone']});
    const page = await context.newPage();
    page.complaints = complaints(page);
    await page.goto(mock.url + path);
    return page;
  }

  const states = {
    console: async (page) => {
      await page.locator('#live .card').first().waitFor();
      await page.locator('#events li').first().waitFor();
      await page.locator('#recording-list li').first().waitFor();
    },
    'console-empty': async (page) => {
      await page.locator('#live-empty').waitFor();
    },
    'console-player': async (page) => {
      await page.getByRole('button', {name: /Play the recording of front-door/}).nth(1).click();
      await page.locator('#recording-gaps button').first().waitFor();
      await eventually('it plays', () => page.evaluate(() => document.getElementById('recording-video').currentTime > 0.2));
    },
    'console-end': async (page) => {
      await page.getByRole('button', {name: 'End the stream in front-door'}).click();
      await page.getByRole('dialog').waitFor();
    },
    publish: async (page) => {
      await page.locator('#codec option').first().waitFor({state: 'attached'});
    },
    'publish-open': async (page) => {
      for (const summary of await page.locator('summary').all()) await summary.click();
      await page.getByRole('button', {name: 'Start'}).click();
      await eventually('the preview runs', () => page.evaluate(() => document.getElementById('preview').videoWidth > 0));
    },
    watch: async (page) => {
      for (const summary of await page.locator('summary').all()) await summary.click();
      await page.getByText('Waiting for the camera').first().waitFor();
    },
    token: async (page) => {
      await page.locator('#token').click();
      await page.getByRole('dialog').waitFor();
    },
  };
  const paths = {console: '/', 'console-empty': '/', 'console-player': '/', 'console-end': '/', publish: '/publish/front-door', 'publish-open': '/publish/front-door',
    watch: '/watch/front-door', token: '/watch/front-door'};

  for (const [name, arrange] of Object.entries(states)) {
    for (const scheme of SCHEMES) {
      for (const width of WIDTHS) {
        test(`${name} is accessible and fits ${width} px, ${scheme}`, async () => {
          const kept = {...mock.world};
          if (name === 'console-empty') Object.assign(mock.world, {streams: [], recordings: [], events: []});
          const page = await open(paths[name], {width, scheme});
          try {
            await arrange(page);
            await page.screenshot({path: join(shots, `${name}-${scheme}-${width}.png`), fullPage: true});
            // axe runs in the page; the policy of the page does not hold for what the test evaluates.
            await page.evaluate(axe);
            const {violations} = await page.evaluate((tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, rules: {'target-size': {enabled: true}}}), TAGS);
            assert.deepEqual(violations.map(({id, nodes}) => `${id}: ${nodes.map(({target, failureSummary}) => `${target} ${failureSummary}`).join(' | ')}`), []);
            const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
            assert.ok(overflow <= 0, `scrolls sideways by ${overflow} px`);
            assert.deepEqual(page.complaints, []);
          } finally {
            Object.assign(mock.world, kept);
            await page.context().close();
          }
        });
      }
    }
  }

  for (const path of ['/', '/publish/front-door', '/watch/front-door']) {
    test(`every control of ${path} is reached by Tab, seen focused, and at least 24 px large`, async () => {
      const page = await open(path);
      if (path === '/') await states.console(page);
      if (path.startsWith('/watch')) await page.getByText('Waiting for the camera').first().waitFor();
      const wanted = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, select, summary')]
        .filter((element) => element.checkVisibility() && !element.disabled && (element.type !== 'radio' || element.checked)).length);
      const seen = new Set();
      for (let presses = 0; presses < wanted * 3 + 20; presses += 1) {
        await page.keyboard.press('Tab');
        const focus = await page.evaluate(() => {
          const element = document.activeElement;
          if (!element || element === document.body) return null;
          const box = element.getBoundingClientRect();
          const style = getComputedStyle(element);
          element.dataset.seen ??= String(Math.random());
          return {key: element.dataset.seen, html: element.outerHTML.slice(0, 120), native: element.matches('a[href], button, input, select, summary'),
            outline: style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) >= 2, width: box.width, height: box.height,
            inline: style.display === 'inline', host: element.type === 'datetime-local' || element.localName === 'whep-player' || element.localName === 'video' || element.localName === 'code'
              || element.localName === 'ol' || element.localName === 'ul'};
        });
        if (!focus) break;
        assert.ok(focus.outline || focus.host, `the focus is not seen on ${focus.html}`);
        assert.ok(focus.host || focus.inline || (focus.width >= 20 && focus.height >= 20), `too small: ${focus.html} ${focus.width}×${focus.height}`);
        if (focus.native) seen.add(focus.key);
      }
      assert.equal(seen.size, wanted);
      await page.context().close();
    });
  }

  test('ending a stream asks first, and Escape keeps it', async () => {
    const page = await open('/');
    const button = page.getByRole('button', {name: 'End the stream in workshop'});
    await button.focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({state: 'detached'});
    assert.deepEqual(mock.world.ended, []);
    assert.ok(await button.evaluate((element) => element === document.activeElement), 'the focus is back');
    await page.keyboard.press('Enter');
    await page.getByRole('button', {name: 'End the stream', exact: true}).click();
    await eventually('the stream is ended', () => mock.world.ended.length === 1 && page.getByText('ended by hand').count());
    assert.deepEqual(mock.world.ended, ['s2']);
    await page.context().close();
  });

  test('times follow the chosen zone and show UTC on hover', async () => {
    const page = await open('/');
    const cell = page.locator('#past time').first();
    await cell.waitFor();
    const local = await cell.textContent();
    const utc = await cell.getAttribute('datetime');
    assert.match(await cell.getAttribute('title'), /UTC$/);
    await page.getByLabel('Time zone').selectOption('UTC');
    const shown = await cell.textContent();
    assert.notEqual(shown, local);
    assert.ok(shown.endsWith(utc.slice(11, 19)), `${shown} is ${utc}`);
    await page.context().close();
  });

  test('a typed time and a link reach a recorded moment, and gaps say why', async () => {
    const recording = mock.world.recordings[1];
    const moment = new Date(Date.parse(recording.startedAt) + 3_600_000);
    const page = await open(`/?room=front-door&t=${moment.toISOString()}`);
    await page.locator('#recording-title').filter({hasText: 'front-door'}).waitFor();
    await page.getByText('the camera was away').first().waitFor();
    await page.getByText('packets were lost on the way').first().waitFor();
    assert.match(await page.locator('#recording-video').getAttribute('src'), /\/recordings\/r2\/recording\.mp4$/);
    await page.getByRole('button', {name: 'Close'}).click();
    await page.getByLabel('Time', {exact: true}).fill('2000-01-01T00:00:00');
    await page.getByRole('button', {name: 'Go to this moment'}).click();
    await page.getByText('This is the nearest.').waitFor();
    await page.context().close();
  });

  test('copying puts the watch link on the clipboard', async () => {
    const page = await open('/publish/front-door');
    await page.getByRole('button', {name: 'Copy Watch page'}).click();
    await page.getByText('Copied').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${mock.url}/watch/front-door`);
    await page.context().close();
  });

  test('a token in the fragment is used and leaves the address', async () => {
    const page = await open('/watch/front-door#token=secret-token');
    const request = await page.waitForRequest((each) => each.url().includes('/whep/') && each.method() === 'POST');
    assert.equal(await request.headerValue('authorization'), 'Bearer secret-token');
    assert.ok(!page.url().includes('secret'));
    assert.equal(await page.evaluate(() => document.cookie + localStorage.length), '0');
    await page.context().close();
  });

  test('a full room is asked again when the server said so, not before', async () => {
    const kept = mock.world.signalling;
    mock.world.signalling = {status: 503, headers: {'Retry-After': '2'}, problem: {title: 'Full', detail: 'The room is full', status: 503}};
    const page = await open('/watch/front-door');
    const at = [];
    page.on('request', (request) => request.url().includes('/whep/') && at.push(Date.now()));
    await eventually('asked twice more', () => at.length >= 2);
    assert.ok(at[1] - at[0] > 1900, `asked again after ${at[1] - at[0]} ms`);
    await page.getByText('The room is full').first().waitFor();
    mock.world.signalling = kept;
    await page.context().close();
  });

  test('a refusal for good stops the player and says what is missing', async () => {
    const kept = mock.world.signalling;
    mock.world.signalling = {status: 401, headers: {}, problem: {title: 'Who are you?', status: 401}};
    const page = await open('/watch/front-door');
    await page.getByRole('dialog').getByText('needs an access token').waitFor();
    mock.world.signalling = kept;
    await page.context().close();
  });
});
