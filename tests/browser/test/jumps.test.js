/** Jumps in a recording that still grows, in Chromium: the position and the picture are those of the requested time. */
import assert from 'node:assert/strict';
import {mkdtemp} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {complaints, eventually, folder, growing, launch} from '../browser.js';
import {ago, recording, startMock} from '../mock/server.js';

/** Seconds. */
const LENGTH = 900;
const PRECISION = 1;

describe('jumps in a growing recording', () => {
  let browser;
  let mock;
  let files;
  let page;
  let shots;
  let startedAt;

  before(async () => {
    files = await folder();
    mock = await startMock();
    shots = process.env.SCREENSHOTS ?? await mkdtemp(join(tmpdir(), 'screenshots-'));
    startedAt = ago(LENGTH + 2);
    mock.world.segments.grows = await growing(files.path, {seconds: LENGTH});
    mock.world.recordings = [recording({id: 'grows', room: 'front-door', state: 'recording', startedAt, bytes: 2_000_000, durationSeconds: LENGTH})];
    browser = await launch();
    const context = await browser.newContext({viewport: {width: 1280, height: 1600}, reducedMotion: 'reduce'});
    page = await context.newPage();
    page.complaints = complaints(page);
    await page.goto(`${mock.url}/?recording=grows`);
    await eventually('it plays', async () => (await state()).time > 0);
  });

  after(async () => {
    await browser?.close();
    mock?.close();
    await files?.clean();
  });

  /** The position, and the time that the picture shows: `coarse` within 10 s, `fine` within each minute. */
  const state = () => page.evaluate(async (length) => {
    const video = document.getElementById('recording-video');
    const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 36});
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(video, 0, 0);
    const at = (x) => context.getImageData(x, 18, 1, 1).data[1] / 255;
    return {time: video.currentTime, ready: !video.seeking && video.readyState >= 3, coarse: at(12) * length, fine: at(52) * 60,
      note: document.getElementById('recording-note').textContent};
  }, LENGTH);

  /** Jumps while it plays, and looks at the first moment in which it can go on. */
  async function jump(target) {
    await page.evaluate(async (to) => {
      const video = document.getElementById('recording-video');
      await video.play();
      video.currentTime = to;
      const deadline = performance.now() + 10_000;
      while ((video.seeking || video.readyState < 3) && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10));
      video.pause();
    }, target);
    const seen = await eventually(`playable after a jump to ${target}`, async () => {
      const now = await state();
      return now.ready && now;
    });
    const words = `requested ${target}, got ${JSON.stringify(seen)}`;
    assert.ok(Math.abs(seen.time - target) <= PRECISION, words);
    assert.ok(Math.abs(seen.coarse - target) <= 12, words);
    const minute = Math.abs(seen.fine - target % 60);
    assert.ok(Math.min(minute, 60 - minute) <= 2, words);
    assert.equal(seen.note, '');
  }

  test('twenty jumps backwards, and forwards again, land within a second', async () => {
    for (let round = 0; round < 20; round += 1) {
      const late = LENGTH - 1 - Math.random() * 100;
      await jump(late);
      await jump(Math.random() * late);
    }
  });

  test('a jump while another one is fetched wins', async () => {
    await page.evaluate(() => (document.getElementById('recording-video').currentTime = 850));
    await jump(46);
  });

  test('a browser without MediaSource plays the playlist by itself', async () => {
    const other = await page.context().newPage();
    await other.addInitScript(() => delete window.MediaSource);
    await other.goto(`${mock.url}/?recording=grows`);
    await eventually('it plays', () => other.evaluate(() => document.getElementById('recording-video').videoWidth === 64));
    assert.match(await other.locator('#recording-video').getAttribute('src'), /\/recordings\/grows\/index\.m3u8$/);
    await other.close();
  });

  test('clicks into the timeline go back while it plays', async () => {
    await page.evaluate(() => document.getElementById('recording-video').play());
    await page.getByRole('button', {name: 'Zoom out'}).click();
    await page.getByRole('button', {name: 'Show whole recording'}).click();
    // The recording is in the middle of an hour.
    const from = Date.parse(startedAt) + LENGTH * 500 - 1_800_000;
    for (const target of [880, 449, 633, 182, 46]) {
      // The lanes are drawn again with every position.
      const box = await page.evaluate(() => document.querySelector('#recording-timeline .track').getBoundingClientRect().toJSON());
      await page.mouse.click(box.x + (Date.parse(startedAt) + target * 1000 - from) / 3_600_000 * box.width, box.y + box.height / 2);
      await eventually(`the position is near ${target}`, async () => Math.abs((await state()).time - target) < 6);
    }
    await page.screenshot({path: join(shots, 'growing.png'), fullPage: true});
    assert.deepEqual(page.complaints, []);
  });
});
