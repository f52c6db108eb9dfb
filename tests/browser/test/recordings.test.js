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

  test('running vp8 recording plays, goes on with what is recorded meanwhile, and to its end', async () => {
    const source = camera(server.url, 'waits', await encoded(files.path, {codec: 'vp8', seconds: 10}));
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      const page = await context.newPage();
      page.complaints = complaints(page);
      await page.goto(server.url);
      const row = page.locator('#recording-list li').filter({hasText: 'waits'});
      await eventually('six seconds are there', async () => (await seconds(row)) >= 6, 30);
      await row.getByRole('button', {name: 'Play'}).click();
      const {duration} = await plays(page);
      await page.screenshot({path: join(shots, 'recording-vp8-running.png'), fullPage: true});
      await eventually('it plays on behind the first clip', async () => (await video(page)).time > duration + 1, 60);
      await page.locator('#live .card').filter({hasText: 'waits'}).getByRole('button', {name: 'End the stream'}).click();
      await page.getByRole('button', {name: 'End the stream', exact: true}).click();
      await row.getByText('Complete').waitFor({timeout: 20_000});
      const length = await seconds(row);
      await eventually('it plays to the end', async () => (await video(page)).time > length - 1, 60);
      assert.deepEqual(page.complaints, []);
    } catch (error) {
      console.log(server.log(), source.log());
      throw error;
    } finally {
      await context.close();
      await source.stop();
    }
  });

  test('sound and picture stay together behind a pause of the camera', async () => {
    const sources = await encoded(files.path, {codec: 'h264', seconds: 10});
    const context = await browser.newContext({viewport: {width: 1280, height: 900}});
    try {
      // Two publications with some seconds between them, in one recording.
      const length = async () => (await (await fetch(`${server.url}/recordings?room=paused`)).json()).recordings[0];
      const first = camera(server.url, 'paused', sources);
      await eventually('four seconds are there', async () => (await length())?.durationSeconds >= 4, 20);
      await first.stop();
      const {sessions} = await (await fetch(`${server.url}/sessions?room=paused`)).json();
      await Promise.all(sessions.map((session) => fetch(`${server.url}/sessions/${session.id}`, {method: 'DELETE'})));
      await new Promise((resolve) => setTimeout(resolve, 4000));
      const second = camera(server.url, 'paused', sources);
      await eventually('the second half is there', async () => (await length())?.durationSeconds >= 13, 20);
      await second.stop();
      const {id, stream} = await length();
      await fetch(`${server.url}/streams/${stream}/end`, {method: 'POST'});
      const finished = await eventually('it is finished', async () => {
        const row = await (await fetch(`${server.url}/recordings/${id}`)).json();
        return row.state === 'complete' && row;
      }, 20);
      const pause = finished.gaps.filter(({track}) => track === 'audio').sort((a, b) => b.to - b.from - (a.to - a.from))[0];
      assert.ok(pause.to - pause.from > 3, JSON.stringify(finished.gaps));
      const page = await context.newPage();
      await page.goto(server.url);
      // [currentTime, loudness] each 50 ms up to two seconds behind the pause.
      const heard = await page.evaluate(async ({url, until}) => {
        const element = document.createElement('video');
        element.src = url;
        document.body.append(element);
        const audio = new AudioContext();
        const meter = new AnalyserNode(audio, {fftSize: 1024});
        audio.createMediaElementSource(element).connect(meter).connect(audio.destination);
        await audio.resume();
        await element.play();
        const samples = new Float32Array(meter.fftSize);
        const measured = [];
        while (element.currentTime < until && !element.ended) {
          meter.getFloatTimeDomainData(samples);
          measured.push([element.currentTime, Math.hypot(...samples) / Math.sqrt(samples.length)]);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        return measured;
      }, {url: `/recordings/${id}/recording.mp4`, until: pause.to + 2});
      const loudness = (from, to) => {
        const values = heard.filter(([at]) => at > from && at < to).map(([, level]) => level);
        assert.ok(values.length > 5, `${values.length} measurements from ${from} to ${to} s`);
        return values.reduce((sum, value) => sum + value, 0) / values.length;
      };
      const [before, within, behind] = [loudness(1, pause.from - 0.3), loudness(pause.from + 0.5, pause.to - 0.3), loudness(pause.to + 0.5, pause.to + 2)];
      console.log(`loudness before, in and behind a pause from ${pause.from} to ${pause.to} s: ${[before, within, behind].map((level) => level.toFixed(4))}`);
      assert.ok(before > 0.01 && behind > 0.01, 'the tone is heard');
      assert.ok(within < before / 10, 'the pause is silent');
    } catch (error) {
      console.log(server.log());
      throw error;
    } finally {
      await context.close();
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
