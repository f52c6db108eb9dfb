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

test('the player imports nothing and loads nothing from elsewhere', () => {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  assert.doesNotMatch(code, /\bimport\b/);
  assert.doesNotMatch(code, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
});
