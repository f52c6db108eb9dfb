/**
 * Every frame that was sent is played in every pattern: low, variable and interrupted rates, and B-frames. Those are sent in decoding order,
 * and their RTP timestamps are presentation times. NIGHTLY=1 has all patterns; the others go with every run.
 */
import assert from 'node:assert/strict';
import {after, before, describe, test} from 'node:test';
import {folder, launch} from '../browser.js';
import {start} from '../server.js';
import {decode, playFile, playHls, playerPage, step} from './chromium.js';
import {encode, encodedPath, lasting, pictures, sound, steady, timed} from './media.js';
import {concatenated, record, save, session} from './recorded.js';
import {decoderInput, ffmpeg, ffprobe, gpac, has, mp4boxjs, remux} from './tools.js';

/** Seconds by which a duration may differ from what was sent. */
const DURATION = 0.5;
/** Seconds by which a frame may be presented too early or late against the first one. */
const OFF = 0.04;

/** Media seconds that Chromium plays in one. */
const RATE = 2;

/** `steps` are the distances of frames in milliseconds, over and over. */
const uneven = (count, steps) => {
  const times = [0];
  while (times.length < count) times.push(times.at(-1) + steps[(times.length - 1) % steps.length] / 1000);
  return times;
};
const VARIABLE = [33, 33, 100, 67, 250, 40, 17, 133];

/** `byDecodingTime`: frames are so far apart that the decoding times of B-frames make a difference to Chromium's seeks. */
const PATTERNS = [
  {name: '1 frame a second', codec: 'h264', interval: 2, times: steady(8, 1), nightly: true},
  {name: '1 frame a second and no sound', codec: 'h264', interval: 2, times: steady(8, 1), silent: true, nightly: true},
  {name: '5 frames a second', codec: 'h264', interval: 10, times: steady(40, 5), nightly: true},
  {name: 'a variable rate', codec: 'h264', times: uneven(90, VARIABLE)},
  {name: 'a variable rate in VP9', codec: 'vp9', times: uneven(90, VARIABLE), nightly: true},
  {name: 'a variable rate in AV1', codec: 'av1', times: uneven(90, VARIABLE), nightly: true},
  {name: 'pauses of a second', codec: 'h264', times: uneven(120, [...Array(19).fill(33), 1000]), nightly: true},
  {name: 'pauses of a second and no sound', codec: 'h264', times: uneven(120, [...Array(19).fill(33), 1000]), silent: true, nightly: true},
  {name: 'B-frames', codec: 'h264-b', times: steady(240, 30)},
  {name: 'B-frames and no sound', codec: 'h264-b', times: steady(240, 30), silent: true, nightly: true},
  {name: 'B-frames that refer to each other', codec: 'h264-pyramid', times: steady(240, 30), nightly: true},
  {name: 'B-frames at 5 frames a second', codec: 'h264-b', times: steady(40, 5), byDecodingTime: true, nightly: true},
  {name: 'B-frames at a variable rate', codec: 'h264-b', times: uneven(90, VARIABLE), byDecodingTime: true, nightly: true},
  {name: 'B-frames and pauses of a second', codec: 'h264-b', times: uneven(120, [...Array(19).fill(33), 1000]), byDecodingTime: true, nightly: true},
].filter(({nightly}) => !nightly || process.env.NIGHTLY === '1');

/** Debian 12 has no package of it. */
const withGpac = await has('MP4Box');

describe('every frame that was sent is played', {timeout: 900_000}, () => {
  let server;
  let browser;
  let files;
  let recordings;

  before(async () => {
    files = await folder();
    [server, browser] = await Promise.all([start({session: session('{enabled: true, segmentDuration: 2s}', PATTERNS.length)}), launch()]);
    const clips = [];
    for (const {codec, interval, times, silent} of PATTERNS) {
      const pictures = timed(await encode(files.path, {codec, interval, frames: times.length}), times);
      clips.push({pictures, sounds: silent ? [] : await sound(files.path, {seconds: Math.ceil(lasting(times))})});
    }
    recordings = await Promise.all(clips.map((clip, index) => record(server, `pattern-${index}`, clip)));
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await files?.clean();
  });

  for (const [index, {name, codec, interval, times, silent, byDecodingTime}] of PATTERNS.entries()) {
    describe(name, () => {
      let recording;
      let file;
      let page;

      before(async () => {
        assert.equal(recordings[index].length, 1, 'one recording');
        [recording] = recordings[index];
        assert.equal(recording.files.length, 1, 'one file');
        file = await save(files.path, `${index}.mp4`, recording.files[0].url);
        page = await playerPage(browser, server.url);
      });

      after(() => page?.leave());

      const seconds = silent ? lasting(times) : Math.ceil(lasting(times));
      /** All frames, nothing to complain of, as long as what was sent. */
      const plays = ({complaints, frames, duration}) => {
        assert.deepEqual(complaints, []);
        assert.equal(frames, times.length, 'frames, and frames sent');
        if (duration !== undefined) assert.ok(Math.abs(duration - seconds) <= DURATION, `${duration} s of ${seconds} s`);
      };
      /** In order, and as far apart as they were sent, or at another time that `accepts` takes for this frame. */
      const inTime = (presented, accepts = () => false) => {
        const at = presented.map((time) => time - presented[0]);
        const off = times.map((time, frame) => (accepts(at[frame], frame) ? 0 : Math.abs(at[frame] - (time - times[0]))));
        const worst = off.indexOf(Math.max(...off));
        assert.ok(off[worst] <= OFF, `frame ${worst} is presented ${at[worst]} s after the first, and was sent ${times[worst]} s after it`);
      };

      test('FFmpeg reads the file', async () => {
        plays(await ffprobe(file.path));
        plays(await ffmpeg(file.path));
        assert.deepEqual(await remux(file.path), {complaints: []});
      });

      // Decoders conceal a missing reference without an error.
      test('every picture is the one that was sent', async () => {
        const sent = await pictures(encodedPath(files.path, {codec, interval, frames: times.length}));
        const recorded = await pictures(file.path);
        assert.equal(recorded.length, sent.length);
        assert.deepEqual(recorded.flatMap((hash, frame) => (hash === sent[frame] ? [] : [frame])), [], 'frames that differ');
      });

      test('FFmpeg reads the playlist', async () => {
        plays(await ffprobe(recording.playlist));
        plays(await ffmpeg(recording.playlist));
        assert.deepEqual(await remux(recording.playlist), {complaints: []});
      });

      test('GPAC reads the file', {skip: !withGpac && 'there is no MP4Box'}, async () => {
        plays(await gpac(file.path));
      });

      test('mp4box.js reads the file', () => {
        plays(mp4boxjs(file.bytes));
      });

      // Not those of the file: mp4box.js takes the data offset of the first run of samples in a fragment alone.
      test('mp4box.js reads the segments, and WebCodecs decodes them', async () => {
        const read = mp4boxjs(await concatenated(recording.playlist));
        plays(read);
        const {out, complaints} = await decode(page, decoderInput(read.tracks));
        assert.deepEqual(complaints, []);
        assert.equal(out.length, times.length, 'frames, and frames sent');
        inTime(out.map((timestamp) => timestamp / 1e6));
      });

      test('Chromium plays the file', async () => {
        const played = await playFile(page, recording.files[0].url, RATE);
        console.log(`${name}, file: ${played.frames} of ${times.length} frames decoded, ${played.dropped} dropped, ${played.times.length} presented`);
        plays(played);
      });

      /**
       * Returns the predicate of the frames that Chromium shows in place of others, in fragmented files of FFmpeg's muxer, too. VP9: the frame
       * before a short one. B-frames: a frame with a sample that lasts until the sought time, because Chromium takes the distance of decoding
       * times for that of presentation; and a keyframe in place of the frame before it, because Chromium seeks by decoding time.
       */
      const substitutes = async () => {
        const near = (one, other) => Math.abs(one - other) <= OFF;
        if (codec === 'vp9') return (at, frame) => near(at, times[Math.max(frame - 1, 0)]);
        if (!byDecodingTime) return undefined;
        const {samples, timescale} = mp4boxjs(await concatenated(recording.playlist)).tracks.find(({type}) => type === 'video');
        const first = samples[0].cts;
        const spans = samples.map(({cts, duration}) => ({from: (cts - first) / timescale, to: (cts - first + duration) / timescale}));
        return (at, frame) => {
          const sought = (times[frame] + (times[frame + 1] ?? times[frame])) / 2;
          const lasts = spans.some(({from, to}) => near(at, from) && at <= times[frame] && to >= sought - OFF);
          return lasts || ((frame + 1) % (interval ?? 30) === 0 && near(at, times[frame + 1]));
        };
      };

      // In playback frames are skipped when the screen is slower; a sought frame is always presented.
      test('Chromium presents every frame that is sought', async () => {
        const shown = await step(page, recording.files[0].url, times.map((time) => time - times[0]));
        inTime(shown, await substitutes());
      });

      test('hls.js plays the playlist', async () => {
        const played = await playHls(page, recording.playlist, RATE);
        console.log(`${name}, hls.js: ${played.frames} of ${times.length} frames decoded, ${played.dropped} dropped, ${played.times.length} presented`);
        plays(played);
      });
    });
  }
});
