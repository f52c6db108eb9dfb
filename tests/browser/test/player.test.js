/** The player stands alone: small, and without anything to import. */
import assert from 'node:assert/strict';
import {readFile} from 'node:fs/promises';
import {test} from 'node:test';
import {gzipSync} from 'node:zlib';

const source = await readFile(new URL('../../../media-server/web/assets/player.js', import.meta.url), 'utf8');

test('the player is at most 30 KB gzip', () => {
  const size = gzipSync(source).length;
  console.log(`player.js: ${size} bytes gzip`);
  assert.ok(size <= 30_000, `${size} bytes`);
});

test('the offer asks for stereo once, wherever Opus is', () => {
  const start = source.indexOf('export function askStereo');
  const body = source.slice(start + 'export '.length, source.indexOf('\n}\n', start) + 2);
  const askStereo = new Function(`return ${body}`)();
  const lines = (...list) => list.map((line) => `${line}\r\n`).join('');
  const chromium = ['a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10;useinbandfec=1', 'a=rtpmap:63 red/48000/2', 'a=fmtp:63 111/111'];
  const asked = askStereo(lines(...chromium));
  assert.equal(asked, lines(chromium[0], `${chromium[1]};stereo=1`, ...chromium.slice(2)));
  assert.equal(askStereo(asked), asked);
  assert.equal(askStereo(lines('a=rtpmap:96 opus/48000/2')), lines('a=rtpmap:96 opus/48000/2', 'a=fmtp:96 stereo=1'));
  const firefox = lines('a=rtpmap:109 opus/48000/2', 'a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1');
  assert.equal(askStereo(firefox), firefox);
  const video = lines('a=rtpmap:96 VP8/90000', 'a=fmtp:96 x-google-start-bitrate=800');
  assert.equal(askStereo(video), video);
});

test('the player imports nothing and loads nothing from elsewhere', () => {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  assert.doesNotMatch(code, /\bimport\b/);
  assert.doesNotMatch(code, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
});
