/**
 * Players against recordings of every codec that the server records: as they are, after changes of size and codec, and with a late first
 * keyframe. Each plays every frame to the end without a complaint, and has the duration of the stream.
 */
import assert from 'node:assert/strict';
import {after, before, describe, test} from 'node:test';
import {folder, launch} from '../browser.js';
import {start} from '../server.js';
import {playerPage, SHAKA} from './chromium.js';
import {CODECS, encode, lasting, sound, steady, timed} from './media.js';
import {playAll, players} from './players.js';
import {record, save, session} from './recorded.js';

/** Frames per second of all pictures here. */
const RATE = 30;
/** What follows a codec when it changes. */
const NEXT = {h264: 'vp9', vp8: 'h264', vp9: 'av1', av1: 'h264'};

/** One after the other: frames of each clip `{codec, frames, interval, size}`, a steady rate. */
async function sequence(directory, clips) {
  const frames = [];
  for (const clip of clips) {
    const encoded = await encode(directory, clip);
    frames.push(...timed(encoded, steady(encoded.length, RATE, frames.length / RATE)));
  }
  return frames;
}

/** `publishers`: what is sent, one after the other; `files`: what each file has of it, `late` is the start of the picture. */
const CASES = [
  {name: 'plain', async of(directory, codec) {
    const pictures = await sequence(directory, [{codec, frames: 150}]);
    return {publishers: [{pictures, sounds: await sound(directory, {seconds: 5})}], files: [{codec, frames: 150, seconds: 5}]};
  }},
  {name: 'size', async of(directory, codec) {
    const sizes = ['320x180', '640x360', '320x180', '240x180'];
    const pictures = await sequence(directory, sizes.map((size) => ({codec, size, frames: 60})));
    return {publishers: [{pictures, sounds: await sound(directory, {seconds: 8})}], files: [{codec, frames: 240, seconds: 8}]};
  }},
  {name: 'codec', async of(directory, codec) {
    const pictures = await sequence(directory, [codec, NEXT[codec]].map((codec) => ({codec, frames: 90})));
    const files = [codec, NEXT[codec]].map((codec) => ({codec, frames: 90, seconds: 3}));
    return {publishers: [{pictures, sounds: await sound(directory, {seconds: 6})}], files};
  }},
  {name: 'late', async of(directory, codec) {
    const pictures = (await sequence(directory, [{codec, frames: 210, interval: 60}])).slice(1);
    return {publishers: [{pictures, sounds: await sound(directory, {seconds: 7})}], files: [{codec, frames: 150, seconds: 7, late: 2}]};
  }},
];

describe('players', {timeout: 1_800_000}, () => {
  let server;
  let browser;
  let page;
  let files;
  let all;
  const recordings = {};

  before(async () => {
    files = await folder();
    [server, browser] = await Promise.all([start({session: session('{enabled: true, segmentDuration: 2s}', CASES.length)}), launch()]);
    page = await playerPage(browser, server.url, {shaka: SHAKA});
    all = await players();
    for (const codec of CODECS) {
      const cases = await Promise.all(CASES.map(({of}) => of(files.path, codec)));
      const made = await Promise.all(cases.map(({publishers}, index) => record(server, `${codec}-${CASES[index].name}`, ...publishers)));
      for (const [index, {name}] of CASES.entries()) recordings[`${codec}-${name}`] = {made: made[index], sent: cases[index].files};
    }
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  for (const codec of CODECS) {
    for (const {name} of CASES) {
      const room = `${codec}-${name}`;

      test(`${room} plays from its files`, async () => {
        const {made: [recording, ...others], sent} = recordings[room];
        assert.deepEqual(others, [], 'one recording');
        assert.equal(recording.files.length, sent.length, 'files');
        for (const [index, file] of recording.files.entries()) {
          console.log(`  ${room}, file ${index + 1} of ${recording.files.length}: ${file.codecs}`);
          const source = {url: file.url, ...await save(files.path, `${room}-${index}.mp4`, file.url)};
          await playAll(all, {kind: 'file', codecs: [sent[index].codec], change: name}, source, page, sent[index]);
        }
      });

      test(`${room} plays from its playlist`, async () => {
        const {made: [recording], sent} = recordings[room];
        const whole = {frames: sent.reduce((sum, {frames}) => sum + frames, 0), seconds: sent.reduce((sum, {seconds}) => sum + seconds, 0)};
        console.log(`  ${room}, playlist`);
        await playAll(all, {kind: 'playlist', codecs: sent.map(({codec}) => codec), change: name}, {url: recording.playlist}, page, whole);
      });
    }
  }
});
