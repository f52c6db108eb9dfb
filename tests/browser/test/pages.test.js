/** The pages in every state that a person meets: WCAG 2.2 AA by axe, keyboard, phone width, both colour schemes. Screenshots are kept. */
import assert from 'node:assert/strict';
import {mkdtemp, readFile} from 'node:fs/promises';
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {clip, complaints, eventually, folder, launch} from '../browser.js';
import {refusal, startMock} from '../mock/server.js';

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
    if (path) await page.goto(mock.url + path);
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
    'console-locked': async (page) => {
      await page.getByText('The console needs an access token').waitFor();
    },
    'watch-full': async (page) => {
      await page.getByText('This room is full').last().waitFor();
      // Nothing lies over them.
      await page.getByRole('link', {name: 'What to do'}).click({trial: true});
      await page.getByRole('button', {name: 'Try now'}).click({trial: true});
    },
    'watch-denied': async (page) => {
      await page.getByRole('dialog').waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({state: 'detached'});
      await page.getByText('for another room').last().waitFor();
    },
    'publish-busy': async (page) => {
      await page.getByRole('button', {name: 'Start'}).click();
      await page.getByText('Another camera sends into this room').waitFor();
      await page.getByRole('button', {name: 'Mute the microphone'}).click();
      await eventually('the preview runs', () => page.evaluate(() => document.getElementById('preview').videoWidth > 0));
    },
    'publish-denied': async (page) => {
      await page.getByRole('button', {name: 'Start'}).click();
      await page.getByRole('dialog').waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({state: 'detached'});
      await page.locator('#trouble').getByText('does not allow publishing').waitFor();
    },
    token: async (page) => {
      await page.locator('#token').click();
      await page.getByRole('dialog').waitFor();
    },
  };
  const paths = {console: '/', 'console-empty': '/', 'console-player': '/', 'console-end': '/', publish: '/publish/front-door', 'publish-open': '/publish/front-door',
    watch: '/watch/front-door', 'watch-full': '/watch/front-door', 'watch-denied': '/watch/front-door', 'publish-busy': '/publish/front-door',
    'publish-denied': '/publish/front-door', 'console-locked': '/', token: '/watch/front-door'};
  /** What the server tells in a state, beside what it always tells. */
  const worlds = {
    'console-empty': () => ({streams: [], recordings: [], events: []}),
    'console-locked': () => ({api: refusal('token-missing')}),
    'watch-full': () => ({signalling: refusal('subscribers-full')}),
    'watch-denied': () => ({signalling: refusal('room-not-granted')}),
    'publish-busy': () => ({publishing: refusal('room-busy')}),
    'publish-denied': () => ({publishing: refusal('scope-missing')}),
  };

  for (const [name, arrange] of Object.entries(states)) {
    for (const scheme of SCHEMES) {
      for (const width of WIDTHS) {
        test(`${name} is accessible and fits ${width} px, ${scheme}`, async () => {
          const kept = {...mock.world};
          Object.assign(mock.world, worlds[name]?.());
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

  for (const [name, path] of [['console-player', '/'], ['publish', '/publish/front-door'], ['watch', '/watch/front-door']]) {
    test(`every control of ${name} is reached by Tab, seen focused, and at least 24 px large`, async () => {
      const page = await open(path);
      await states[name](page);
      // The player's controls are in a shadow tree: they count like all others.
      await page.evaluate(() => {
        const controls = (root) => [...root.querySelectorAll('*')].flatMap((element) => [element, ...(element.shadowRoot ? controls(element.shadowRoot) : [])])
          .filter((element) => element.matches('a[href], button, input, select, summary'));
        const names = new Map();
        window.nameOf = (element) => {
          if (!names.has(element)) names.set(element, `${names.size} ${element.outerHTML.slice(0, 120)}`);
          return names.get(element);
        };
        window.wanted = () => controls(document).filter((element) => element.checkVisibility({visibilityProperty: true}) && !element.disabled
          && (element.type !== 'radio' || element.checked)).map(window.nameOf);
        window.focused = () => {
          let element = document.activeElement;
          while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
          return element === document.body ? null : element;
        };
      });
      const wanted = await page.evaluate(() => window.wanted());
      assert.ok(wanted.length >= 8, `only ${wanted.length} controls are found`);
      const seen = new Set();
      // Once round, from where the state left the focus: past the last control it is nowhere, then at the first.
      let ends = 0;
      for (let presses = 0; presses < wanted.length * 3 + 20; presses += 1) {
        await page.keyboard.press('Tab');
        const focus = await page.evaluate(() => {
          const element = window.focused();
          if (!element) return null;
          const box = (element.type === 'radio' || element.type === 'checkbox' ? element.closest('label') : element).getBoundingClientRect();
          const style = getComputedStyle(element);
          return {name: window.nameOf(element), native: element.matches('a[href], button, input, select, summary'),
            outline: style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) >= 2, width: box.width, height: box.height,
            inText: style.display === 'inline', parts: element.type === 'datetime-local' || element.localName === 'video'};
        });
        if (!focus) {
          ends += 1;
          if (ends === 2) break;
          continue;
        }
        // The browser draws the focus of these two at the part that has it: hour, minute, its own play button.
        assert.ok(focus.outline || focus.parts, `the focus is not seen on ${focus.name}`);
        assert.ok(focus.inText || (focus.width >= 24 && focus.height >= 24), `too small: ${focus.name} ${focus.width}×${focus.height}`);
        if (focus.native) seen.add(focus.name);
      }
      assert.deepEqual([...seen].sort(), [...wanted].sort());
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
    const recording = mock.world.recordings.find(({id}) => id === 'r2');
    const moment = new Date(Math.ceil(Date.parse(recording.startedAt) / 1000) * 1000 + 3000);
    const seconds = (moment - Date.parse(recording.startedAt)) / 1000;
    const page = await open(null);
    await page.addInitScript(() => {
      window.times = [];
      document.addEventListener('timeupdate', ({target}) => window.times.push(target.currentTime), true);
    });
    await page.goto(`${mock.url}/?room=front-door&t=${moment.toISOString()}`);
    const reached = async () => {
      const times = await eventually('it plays', async () => {
        const found = await page.evaluate(() => window.times.filter((time) => time > 0));
        return found.length > 1 && found;
      });
      assert.ok(times.every((time) => time >= seconds && time < seconds + 3), `it plays ${times.join(' ')}, not from ${seconds} on`);
    };
    await page.locator('#recording-title').filter({hasText: 'front-door'}).waitFor();
    const gaps = page.locator('#recording-gaps li');
    await gaps.first().waitFor();
    assert.match((await gaps.allTextContents()).join('\n'), /3\.6 s of video missing: packets were lost on the way from the camera\n.*15:00 of video missing: the camera was away/);
    assert.equal(await page.locator('#recording-timeline .gap').count(), 3, 'the timeline draws the gaps of every recording');
    assert.match(await page.locator('#recording-video').getAttribute('src'), /\/recordings\/r2\/recording\.mp4$/);
    await reached();
    await page.getByRole('button', {name: 'Close'}).click();
    await page.getByLabel('Time zone').selectOption('UTC');
    await page.getByLabel('Room', {exact: true}).selectOption('front-door');
    await page.getByLabel('Time', {exact: true}).fill(moment.toISOString().slice(0, 19));
    await page.evaluate(() => (window.times = []));
    await page.getByRole('button', {name: 'Go to this moment'}).click();
    await reached();
    await page.getByLabel('Time', {exact: true}).fill('2000-01-01T00:00:00');
    await page.getByRole('button', {name: 'Go to this moment'}).click();
    await page.locator('#recording-note').getByText('Showing the next recording').waitFor();
    await page.context().close();
  });

  test('a moment before the newest hundred recordings is found by the server', async () => {
    const {recordings} = mock.world;
    const hour = (n) => {
      const startedAt = new Date(Date.now() - n * 3_600_000);
      const endedAt = new Date(startedAt.getTime() + 3_600_000);
      return {...recordings.find(({id}) => id === 'r2'), id: `h${n}`, stream: `h${n}`, startedAt: startedAt.toISOString(), endedAt: endedAt.toISOString(),
        durationSeconds: 3600, urls: undefined};
    };
    const all = [...Array.from({length: 100}, (_, n) => hour(n + 1)), hour(150)];
    mock.world.recordings = all;
    try {
      const page = await open('/');
      await page.getByLabel('Time zone').selectOption('UTC');
      await page.getByLabel('Room', {exact: true}).selectOption('front-door');
      const note = page.locator('#recording-note');
      const plays = async (hours, id, words) => {
        const moment = new Date(Date.parse(all[0].startedAt) + 600_000 - (hours - 1) * 3_600_000);
        await page.getByLabel('Time', {exact: true}).fill(moment.toISOString().slice(0, 19));
        await page.getByRole('button', {name: 'Go to this moment'}).click();
        await page.locator(`#recording-video[src*="/recordings/${id}/"]`).waitFor({state: 'attached'});
        if (words) await note.getByText(words).waitFor();
        else assert.equal(await note.textContent(), '');
      };
      await plays(150, 'h150', null);
      await plays(130, 'h100', 'Showing the next recording');
      await plays(5000, 'h150', 'Showing the next recording');
      await plays(-10, 'h1', 'Showing the end of the last recording before it');
      await page.context().close();
      // A recording, and a stream, that the list does not have.
      const linked = await open('/?recording=h150');
      await linked.locator('#recording-video[src*="/recordings/h150/"]').waitFor({state: 'attached'});
      await linked.context().close();
      const deleted = await open('/?recording=h140');
      await deleted.locator('#problem').getByText('does not exist, or is deleted').waitFor();
      await deleted.context().close();
    } finally {
      mock.world.recordings = recordings;
    }
  });

  test('playback continues in the recording that begins where one ends', async () => {
    const {recordings} = mock.world;
    const [r2] = recordings.filter(({id}) => id === 'r2');
    const start = Date.now() - 3_600_000;
    const part = (id, from, seconds) => ({...r2, id, stream: 'p1', startedAt: new Date(start + from).toISOString(), endedAt: new Date(start + from + seconds * 1000).toISOString(),
      durationSeconds: seconds, gaps: [], gapCount: 0, urls: undefined});
    mock.world.recordings = [part('p1', 0, 6), part('p2', 6000, 6), part('p3', 30_000, 6)];
    const manifest = mock.world.manifest;
    mock.world.manifest = {exports: [{file: 'recording.mp4', bytes: 1, start: 0, duration: 6}]};
    try {
      const page = await open(`/?room=front-door&t=${new Date(start + 4500).toISOString()}`);
      await page.locator('#recording-video[src*="/recordings/p1/"]').waitFor({state: 'attached'});
      await page.locator('#recording-video[src*="/recordings/p2/"]').waitFor({state: 'attached'});
      await eventually('it plays to the end', () => page.evaluate(() => document.getElementById('recording-video').ended));
      // A pause of the camera is not skipped.
      assert.match(await page.locator('#recording-video').getAttribute('src'), /\/recordings\/p2\//);
      await page.context().close();
    } finally {
      Object.assign(mock.world, {recordings, manifest});
    }
  });

  test('the timeline draws recordings that the list does not have', async () => {
    const {recordings} = mock.world;
    const minute = (n) => ({...recordings.find(({id}) => id === 'r2'), id: `m${n}`, stream: `m${n}`, startedAt: new Date(Date.now() - (n + 1) * 60_000).toISOString(),
      endedAt: new Date(Date.now() - n * 60_000).toISOString(), durationSeconds: 50, gaps: [], gapCount: 0});
    mock.world.recordings = Array.from({length: 240}, (_, n) => minute(n));
    try {
      const page = await open('/');
      await page.locator('#recording-timeline .block').first().waitFor();
      await page.getByRole('button', {name: 'Zoom out'}).click();
      await eventually('six hours are drawn', async () => (await page.locator('#recording-timeline .block').count()) === 240);
      assert.equal(await page.locator('#recording-list li').count(), 100);
      await page.locator('#recording-timeline').screenshot({path: join(shots, 'timeline-older.png')});
      await page.context().close();
    } finally {
      mock.world.recordings = recordings;
    }
  });

  test('a link shows the player above twelve cameras, and a typed start is found', async () => {
    const kept = {...mock.world};
    const [camera] = mock.world.streams;
    mock.world.streams = Array.from({length: 12}, (_, n) => ({...camera, id: `c${n}`, room: `camera-${n}`}));
    // A start between two seconds, which the field does not have.
    const startedAt = new Date(Math.floor(Date.now() / 1000) * 1000 - 7_200_000 + 640);
    const [r2] = mock.world.recordings.filter(({id}) => id === 'r2');
    const lasts = (from, seconds) => ({startedAt: from.toISOString(), endedAt: new Date(from.getTime() + seconds * 1000).toISOString(), durationSeconds: seconds});
    mock.world.recordings = [{...r2, ...lasts(startedAt, 600)}, {...r2, id: 'r1', stream: 'r1', room: 'attic', ...lasts(new Date(startedAt.getTime() - 900_000), 300)}];
    for (const width of WIDTHS) {
      const page = await open(`/?room=front-door&t=${new Date(startedAt.getTime() + 3000).toISOString()}`, {width});
      const title = page.locator('#recording-title');
      await title.filter({hasText: 'front-door'}).waitFor();
      await page.locator('#live .card').nth(11).waitFor();
      const seen = () => page.evaluate(() => {
        const title = document.getElementById('recording-title').getBoundingClientRect();
        const video = document.getElementById('recording-video').getBoundingClientRect();
        return title.top >= 0 && video.bottom <= innerHeight;
      });
      await eventually(`the player is seen at ${width} px`, seen);
      // Later answers move nothing.
      await page.waitForResponse((response) => response.url().includes('/streams?'));
      await page.waitForResponse((response) => response.url().includes('/streams?'));
      assert.ok(await seen(), `the player is still seen at ${width} px`);
      await page.screenshot({path: join(shots, `linked-${width}.png`)});
      await page.getByRole('button', {name: 'Close'}).click();
      await page.getByRole('button', {name: 'Go to this moment'}).click();
      await page.locator('#recording-video[src*="/recordings/r2/"]').waitFor();
      assert.equal(await page.locator('#recording-note').textContent(), '');
      await page.context().close();
    }
    Object.assign(mock.world, kept);
  });

  test('what is wrong with a recording is told with its remedy', async () => {
    const page = await open('/');
    const rows = page.locator('#recording-list li');
    await rows.filter({hasText: 'Paused: the disk is full. Free space, or delete recordings'}).waitFor();
    await rows.filter({hasText: 'Nothing playable was recorded.'}).waitFor();
    await page.context().close();
  });

  test('a trouble is a notice of its own: the fact, then the remedy, once for all viewers', async () => {
    const page = await open('/');
    const notices = page.locator('#live .card').filter({hasText: 'front-door'}).locator('.notice');
    await notices.first().waitFor();
    const words = (await notices.allInnerTexts()).map((text) => text.replaceAll('\u00a0', ' '));
    assert.deepEqual(words, ['Keyframes are too far apart and the encoder ignores requests for one, so new viewers wait for a picture. Set a keyframe interval of 1 to 4 s in the encoder.',
      'A viewer loses 10 % or more of its packets. Check its network, for example its Wi-Fi.']);
    await page.locator('#events li').filter({hasText: 'Trouble: a viewer loses 10 % or more of its packets'}).waitFor();
    await page.context().close();
  });

  test('what the console cannot do is told long enough to be read', async () => {
    const page = await open('/');
    await page.route('**/end', (route) => route.fulfill({status: 503, contentType: 'application/problem+json', body: JSON.stringify(refusal('storage-unavailable').problem)}));
    await page.getByRole('button', {name: 'End the stream in front-door'}).click();
    const again = page.waitForResponse((response) => response.url().includes('/streams?'));
    await page.getByRole('button', {name: 'End the stream', exact: true}).click();
    await again;
    await page.waitForResponse((response) => response.url().includes('/streams?'));
    await page.getByText('The server cannot write its registry').waitFor();
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

  test('the watch page in a frame of another site takes a token without storage', async () => {
    const kept = mock.world.signalling;
    mock.world.signalling = refusal('token-missing');
    const host = createServer((request, response) => {
      response.writeHead(200, {'Content-Type': 'text/html'}).end(`<!doctype html><title>Host</title><iframe src="${mock.url}/watch/front-door" width="800" height="600"></iframe>`);
    });
    await new Promise((resolve) => host.listen(0, resolve));
    const page = await open(null);
    try {
      // localhost and 127.0.0.1 are two sites, and a private context denies storage to the other one.
      await page.goto(`http://localhost:${host.address().port}/`);
      const frame = await eventually('the frame is there', () => page.frames().find((each) => each.url().startsWith(mock.url)));
      await frame.getByRole('dialog').waitFor();
      const denied = await frame.evaluate(() => ['localStorage', 'sessionStorage'].filter((kind) => {
        try {
          return !window[kind];
        } catch (error) {
          return error.name === 'SecurityError';
        }
      }));
      assert.deepEqual(denied, ['localStorage', 'sessionStorage'], 'the browser denies storage, or this tests nothing');
      const asked = page.waitForRequest((request) => request.url().includes('/whep/') && request.method() === 'POST');
      await frame.getByLabel('Token', {exact: true}).fill('framed');
      await frame.getByRole('button', {name: 'Use token'}).click();
      assert.equal(await (await asked).headerValue('authorization'), 'Bearer framed');
      await frame.getByRole('button', {name: 'Token set'}).waitFor();
      await page.screenshot({path: join(shots, 'watch-framed.png')});
      assert.deepEqual(page.complaints.filter((each) => !/favicon/.test(each)), []);
    } finally {
      mock.world.signalling = kept;
      await page.context().close();
      host.close();
    }
  });

  for (const [path, ready] of [['/', '#live .card'], ['/publish/front-door', '#codec option'], ['/watch/front-door', 'whep-player']]) {
    test(`${path} works where the browser denies all storage`, async () => {
      const page = await open(null);
      await page.addInitScript(() => {
        const deny = {get() {
          throw new DOMException('denied', 'SecurityError');
        }};
        Object.defineProperties(window, {localStorage: deny, sessionStorage: deny, indexedDB: deny});
        Object.defineProperty(Document.prototype, 'cookie', deny);
      });
      await page.goto(`${mock.url}${path}#token=kept-in-memory`);
      await page.locator(ready).first().waitFor({state: 'attached'});
      await page.getByRole('button', {name: 'Token set'}).waitFor();
      if (path === '/') {
        await page.getByLabel('Time zone').selectOption('UTC');
        const cell = page.locator('#past time').first();
        assert.ok((await cell.textContent()).endsWith((await cell.getAttribute('datetime')).slice(11, 19)));
      }
      assert.deepEqual(page.complaints, []);
      await page.context().close();
    });
  }

  test('a full room is asked again when the server said so, not before', async () => {
    const kept = mock.world.signalling;
    mock.world.signalling = refusal('subscribers-full', {'Retry-After': '2'});
    const page = await open('/watch/front-door');
    const at = [];
    page.on('request', (request) => request.url().includes('/whep/') && at.push(Date.now()));
    await eventually('asked twice more', () => at.length >= 2);
    assert.ok(at[1] - at[0] > 1900, `asked again after ${at[1] - at[0]} ms`);
    await page.getByText('This room is full').first().waitFor();
    mock.world.signalling = kept;
    await page.context().close();
  });

  for (const [kind, words] of [['token-missing', 'needs an access token'], ['token-invalid', 'not valid, or has expired'], ['scope-missing', 'Ask for one with the scope subscribe']]) {
    test(`${kind} stops the player, says what is missing, and asks for it`, async () => {
      const kept = mock.world.signalling;
      mock.world.signalling = refusal(kind);
      const page = await open(null);
      await page.clock.install();
      let posts = 0;
      page.on('request', (request) => (posts += request.url().includes('/whep/') ? 1 : 0));
      await page.goto(`${mock.url}/watch/front-door`);
      await page.getByRole('dialog').getByText(words).waitFor();
      assert.equal(await page.getByRole('link', {name: 'What to do'}).getAttribute('href'), `${mock.url}/problems/${kind}`);
      await page.clock.runFor('05:00');
      assert.equal(posts, 1, 'it is not asked again by itself');
      mock.world.signalling = kept;
      await page.getByLabel('Token', {exact: true}).fill('another');
      const asked = page.waitForRequest((request) => request.url().includes('/whep/'));
      await page.getByRole('button', {name: 'Use token'}).click();
      assert.equal(await (await asked).headerValue('authorization'), 'Bearer another');
      await page.context().close();
    });
  }

  test('a browser that lacks the codec of the camera is told what to do', async () => {
    const kept = mock.world.signalling;
    mock.world.signalling = refusal('unsupported-offer');
    const page = await open('/watch/front-door');
    await page.getByText('does not play the kind of video that the camera sends').first().waitFor();
    assert.equal(await page.getByRole('link', {name: 'What to do'}).getAttribute('href'), `${mock.url}/problems/unsupported-offer`);
    mock.world.signalling = kept;
    await page.context().close();
  });

  test('a room that another camera has is told with the remedy, and the picture is marked as not live', async () => {
    const kept = mock.world.publishing;
    mock.world.publishing = refusal('room-busy');
    const page = await open('/publish/front-door');
    await page.getByRole('button', {name: 'Start'}).click();
    await page.getByText('Another camera sends into this room').waitFor();
    await page.getByText('Not live', {exact: true}).waitFor();
    assert.equal(await page.getByRole('link', {name: 'What to do'}).getAttribute('href'), `${mock.url}/problems/room-busy`);
    mock.world.publishing = kept;
    await page.context().close();
  });
});
