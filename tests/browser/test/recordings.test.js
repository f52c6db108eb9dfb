/** Recordings in Chromium, from the console: while they grow, and when they are finished, in each codec. */
import assert from 'node:assert/strict';
import {mkdtemp} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {complaints, encoded, eventually, folder, launch} from '../browser.js';
import {camera, start} from '../server.js';

describe('recordings', () => {
  let server;
  let browser;
  let files;
  let shots;

  before(async () => {
    files = await folder();
    shots = process.env.SCREENSHOTS ?? await mkdtemp(join(tmpdir(), 'screenshots-'));
    server = await start();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  const video = (page) => page.evaluate(() => {
    const {currentTime, videoWidth, duration, error} = document.getElementById('recording-video');
    return {time: currentTime, width: videoWidth, duration, error: error?.message ?? null, note: document.getElementById('recording-note').textContent};
  });
  const plays = async (page) => {
    const first = await eventually('a picture', async () => {
      const now = await video(page);
      if (now.error || now.note) throw new Error(now.error ?? now.note);
      return now.width > 0 && now.time > 0 && now;
    });
    await eventually('time goes on', async () => (await video(page)).time > first.time + 1);
    return video(page);
  };

  for (const codec of ['h264', 'vp8', 'vp9']) {
    test(`a ${codec} stream is ended in the console, and its recording plays there`, async () => {
      const source = camera(server.url, codec, await encoded(files.path, {codec, seconds: 10}));
      const context = await browser.newContext({viewport: {width: 1280, height: 900}});
      try {
        const page = await context.newPage();
        page.complaints = complaints(page);
        await page.goto(server.url);
        const card = page.locator('#live .card').filter({hasText: codec});
        await card.getByText('Live', {exact: true}).waitFor();
        await eventually('seven seconds are there', async () => /0:(0[7-9]|[1-5]\d)/.test(await card.textContent()), 20);
        await card.getByRole('button', {name: 'End the stream'}).click();
        await page.getByRole('button', {name: 'End the stream', exact: true}).click();
        const row = page.locator('#recording-list li').filter({hasText: codec});
        await row.getByText('Complete').waitFor({timeout: 20_000});
        await row.getByRole('button', {name: 'Play'}).click();
        const {duration} = await plays(page);
        assert.ok(duration >= 6, `${duration} s`);
        await page.evaluate(() => (document.getElementById('recording-video').currentTime = 4));
        await eventually('a seek arrives', async () => (await video(page)).time > 4.2);
        await page.screenshot({path: join(shots, `recording-${codec}.png`), fullPage: true});
        assert.deepEqual(page.complaints, []);
      } catch (error) {
        console.log(server.log(), source.log());
        throw error;
      } finally {
        await context.close();
        await source.stop();
      }
    });
  }

  test('a recording that still grows plays from its segments', async () => {
    const source = camera(server.url, 'growing', await encoded(files.path, {codec: 'h264', seconds: 10}));
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      const page = await context.newPage();
      await page.goto(server.url);
      const row = page.locator('#recording-list li').filter({hasText: 'growing'});
      await row.getByText('Recording').waitFor({timeout: 20_000});
      await eventually('six seconds are there', async () => /0:(0[6-9]|[1-5]\d)/.test(await row.textContent()), 20);
      await row.getByRole('button', {name: 'Play'}).click();
      await plays(page);
    } finally {
      await context.close();
      await source.stop();
    }
  });
});
