/** Recordings in Chromium, from the console: while they grow, and when they are finished, in each codec. */
import assert from 'node:assert/strict';
import {mkdtemp} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {complaints, encoded, eventually, folder, launch} from '../browser.js';
import {camera, start} from '../server.js';

/** Milliseconds. */
const SEEK = 1000;

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
  /** How long a stream or recording is, as its own field tells; the text has times of day beside it. */
  const seconds = async (entry) => {
    const [, minutes, rest] = /^(\d+):(\d\d)$/.exec(await entry.locator('.length').textContent()) ?? [];
    return Number(minutes) * 60 + Number(rest);
  };
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
        await eventually('seven seconds are there', async () => (await seconds(card)) >= 7, 20);
        await card.getByRole('button', {name: 'End the stream'}).click();
        await page.getByRole('button', {name: 'End the stream', exact: true}).click();
        const row = page.locator('#recording-list li').filter({hasText: codec});
        await row.getByText('Complete').waitFor({timeout: 20_000});
        await row.getByRole('button', {name: 'Play'}).click();
        const {duration} = await plays(page);
        assert.ok(duration >= 6, `${duration} s`);
        const sought = await page.evaluate(async () => {
          const element = document.getElementById('recording-video');
          const begun = performance.now();
          const arrived = new Promise((resolve) => element.addEventListener('seeked', resolve, {once: true}));
          element.currentTime = 4;
          await arrived;
          return performance.now() - begun;
        });
        console.log(`${codec}: a seek takes ${Math.round(sought)} ms`);
        assert.ok(sought <= SEEK, `a seek takes ${Math.round(sought)} ms`);
        await eventually('it plays on from there', async () => (await video(page)).time > 4.2);
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

  test('a vp8 stream plays as soon as its recording is finished, and until then the page says so', async () => {
    const source = camera(server.url, 'waits', await encoded(files.path, {codec: 'vp8', seconds: 10}));
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      const page = await context.newPage();
      page.complaints = complaints(page);
      await page.goto(server.url);
      const row = page.locator('#recording-list li').filter({hasText: 'waits'});
      await eventually('six seconds are there', async () => (await seconds(row)) >= 6, 30);
      await row.getByRole('button', {name: 'Play'}).click();
      await page.locator('#recording-note').getByText('This browser plays VP8 with Opus from finished recordings only').waitFor();
      await page.screenshot({path: join(shots, 'recording-vp8-waits.png'), fullPage: true});
      await page.locator('#live .card').filter({hasText: 'waits'}).getByRole('button', {name: 'End the stream'}).click();
      await page.getByRole('button', {name: 'End the stream', exact: true}).click();
      await eventually('the note is gone', async () => (await video(page)).note === '', 20);
      await plays(page);
      assert.deepEqual(page.complaints, []);
    } catch (error) {
      console.log(server.log(), source.log());
      throw error;
    } finally {
      await context.close();
      await source.stop();
    }
  });

  test('a recording is opened in its first moment, and starts by itself; when it is finished its file is offered', async () => {
    const source = camera(server.url, 'young', await encoded(files.path, {codec: 'h264', seconds: 10}));
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      const page = await context.newPage();
      page.complaints = complaints(page);
      // Nothing is there as long as the test says so, however quick the recorder is.
      let young = true;
      await page.route('**/index.m3u8', (route) => (young ? route.fulfill({status: 404, contentType: 'application/problem+json', body: '{"title":"This recording does not exist","status":404}'}) : route.continue()));
      await page.goto(server.url);
      await page.locator('#recording-list li').filter({hasText: 'young'}).getByRole('button', {name: 'Play'}).click();
      await page.getByText('The first seconds are being recorded').waitFor();
      young = false;
      await eventually('the note is gone', async () => (await video(page)).note === '', 20);
      await plays(page);
      await page.locator('#live .card').filter({hasText: 'young'}).getByRole('button', {name: 'End the stream'}).click();
      await page.getByRole('button', {name: 'End the stream', exact: true}).click();
      await page.locator('#recording-player').getByText('Complete').waitFor();
      await page.getByRole('link', {name: /Download recording.mp4/}).waitFor();
      assert.deepEqual(page.complaints, []);
    } finally {
      await context.close();
      await source.stop();
    }
  });

  test('a recording that still grows plays from its segments', async () => {
    const source = camera(server.url, 'growing', await encoded(files.path, {codec: 'h264', seconds: 10}));
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      const page = await context.newPage();
      await page.goto(server.url);
      const row = page.locator('#recording-list li').filter({hasText: 'growing'});
      await row.getByText('Recording').waitFor({timeout: 20_000});
      await eventually('six seconds are there', async () => (await seconds(row)) >= 6, 20);
      await row.getByRole('button', {name: 'Play'}).click();
      await plays(page);
    } catch (error) {
      console.log(server.log(), source.log());
      throw error;
    } finally {
      await context.close();
      await source.stop();
    }
  });
});
