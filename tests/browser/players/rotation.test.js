/**
 * Players across a rotation: the playlist and clips of a room with two recordings of one stream. Rotations are at full minutes, so the
 * stream is sent around one.
 */
import assert from 'node:assert/strict';
import {setTimeout as sleep} from 'node:timers/promises';
import {after, before, describe, test} from 'node:test';
import {folder, launch} from '../browser.js';
import {start} from '../server.js';
import {playerPage, SHAKA} from './chromium.js';
import {CODECS, encode, sound, steady, timed} from './media.js';
import {playAll, players} from './players.js';
import {record, save, session} from './recorded.js';

/** Frames per second. */
const RATE = 30;
/** Seconds that are sent, and how many of them before the full minute. */
const SENT = 20;
const BEFORE = 10;
const MINUTE = 60_000;

describe('players across a rotation', {timeout: 900_000}, () => {
  let server;
  let browser;
  let page;
  let files;
  let all;
  const recordings = {};

  before(async () => {
    files = await folder();
    const rotating = session('{enabled: true, segmentDuration: 2s, maxDuration: 1m}', CODECS.length);
    [server, browser] = await Promise.all([start({session: rotating}), launch()]);
    page = await playerPage(browser, server.url, {shaka: SHAKA});
    all = await players();
    const sounds = await sound(files.path, {seconds: SENT});
    const clips = [];
    for (const codec of CODECS) clips.push({sounds, pictures: timed(await encode(files.path, {codec, frames: SENT * RATE}), steady(SENT * RATE, RATE))});
    const into = Date.now() % MINUTE;
    await sleep((2 * MINUTE - into - BEFORE * 1000) % MINUTE);
    const made = await Promise.all(clips.map((clip, index) => record(server, CODECS[index], clip)));
    for (const [index, codec] of CODECS.entries()) recordings[codec] = made[index];
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  /** From so many seconds after the start to so many before the end. */
  const range = (codec, [from, to]) => {
    const [first] = recordings[codec];
    const at = (seconds) => new Date(new Date(first.startedAt).getTime() + seconds * 1000).toISOString();
    return `from=${at(from)}&to=${at(to)}`;
  };

  const play = (kind, source, sent, codec) => playAll(all, {kind, codecs: [codec], change: 'rotation'}, source, page, sent);

  for (const codec of CODECS) {
    const whole = {frames: SENT * RATE, seconds: SENT};

    test(`a ${codec} stream is two recordings`, () => {
      assert.equal(recordings[codec].length, 2);
      const seconds = recordings[codec].reduce((sum, {durationSeconds}) => sum + durationSeconds, 0);
      assert.ok(Math.abs(seconds - SENT) <= 0.5, `${seconds} s of ${SENT} s`);
    });

    test(`the playlist of a room with ${codec} plays across a rotation`, async () => {
      console.log(`  ${codec}, playlist`);
      await play('playlist', {url: `${server.url}/rooms/${codec}/playlist.m3u8?${range(codec, [-1, SENT + 1])}`}, whole, codec);
    });

    test(`a clip of ${codec} plays across a rotation`, async () => {
      const url = `${server.url}/rooms/${codec}/clip.mp4?${range(codec, [-1, SENT + 1])}`;
      console.log(`  ${codec}, clip`);
      await play('file', {url, ...await save(files.path, `${codec}.mp4`, url)}, whole, codec);
    });

    test(`a clip of ${codec} starts and ends where it was cut`, async () => {
      const url = `${server.url}/rooms/${codec}/clip.mp4?${range(codec, [2.4, SENT - 2.6])}`;
      console.log(`  ${codec}, cut clip`);
      // Not counted: the frames from the keyframe to the start of the clip are decoded and not shown.
      await play('file', {url, ...await save(files.path, `${codec}-cut.mp4`, url)}, {seconds: SENT - 5}, codec);
    });
  }
});
