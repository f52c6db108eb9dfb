/** The player of growing recordings against a buffer and a clock of the test: jumps, gaps, eviction, what is fetched. */
import assert from 'node:assert/strict';
import {afterEach, beforeEach, describe, test} from 'node:test';
import {eventually} from '../browser.js';

/** Seconds. */
const SEGMENT = 10;
const LENGTH = 900;

/** Merged ranges with the face of TimeRanges. */
class Ranges {
  constructor(list) {
    this.list = list.filter(([start, end]) => end > start).sort(([a], [b]) => a - b).reduce((merged, [start, end]) => {
      const last = merged.at(-1);
      if (last && start <= last[1] + 0.001) last[1] = Math.max(last[1], end);
      else merged.push([start, end]);
      return merged;
    }, []);
  }

  get length() {
    return this.list.length;
  }

  start(index) {
    return this.list[index][0];
  }

  end(index) {
    return this.list[index][1];
  }

  covers(time) {
    return this.list.some(([start, end]) => start <= time && time < end);
  }
}

class Buffer extends EventTarget {
  buffered = new Ranges([]);
  updating = false;
  appended = 0;

  appendBuffer(data) {
    const [start, end] = new Float64Array(data);
    this.#update(end ? [...this.buffered.list, [start, end]] : this.buffered.list);
    this.appended += 1;
  }

  remove(from, to) {
    this.#update(this.buffered.list.flatMap(([start, end]) => [[start, Math.min(end, from)], [Math.max(start, to), end]]));
  }

  /** What a browser short of memory does by itself. */
  evict(from, to) {
    this.buffered = new Ranges(this.buffered.list.flatMap(([start, end]) => [[start, Math.min(end, from)], [Math.max(start, to), end]]));
  }

  #update(list) {
    assert.ok(!this.updating, 'one operation at a time');
    this.updating = true;
    setTimeout(() => {
      this.buffered = new Ranges(list.map(([start, end]) => [start, end]));
      this.updating = false;
      this.dispatchEvent(new Event('updateend'));
    }, 1);
  }
}

class Source extends EventTarget {
  static isTypeSupported = (mime) => !mime.includes('vp08');
  static newest = null;
  readyState = 'open';
  duration = NaN;
  buffer = new Buffer();

  constructor() {
    super();
    Source.newest = this;
    setTimeout(() => this.dispatchEvent(new Event('sourceopen')), 1);
  }

  addSourceBuffer() {
    return this.buffer;
  }

  endOfStream() {
    this.readyState = 'ended';
  }
}

/** Asks for data as Chromium does: `seeking` and `waiting` right after a jump, `timeupdate` from time to time. */
class Video extends EventTarget {
  paused = false;
  #time = 0;
  #timer = setInterval(() => this.dispatchEvent(new Event('timeupdate')), 3);

  get buffered() {
    return Source.newest.buffer.buffered;
  }

  get currentTime() {
    return this.#time;
  }

  set currentTime(time) {
    this.#time = time;
    setTimeout(() => {
      this.dispatchEvent(new Event('seeking'));
      if (!this.buffered.covers(time)) this.dispatchEvent(new Event('waiting'));
    }, 0);
  }

  get seeking() {
    return !this.buffered.covers(this.#time);
  }

  removeAttribute() {}

  load() {
    clearInterval(this.#timer);
  }
}

/** A repeatable sequence of numbers from 0 to 1 (mulberry32). */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const {PlaylistPlayer, UnsupportedError} = await import('../../../media-server/web/assets/mse.js');

describe('the player of growing recordings', () => {
  let video;
  let player;
  /** `[start, end]` of each segment. */
  let segments;
  let requests;
  let box;
  /** Requests of segments that fail from now on. */
  let failures;

  function playlist() {
    const lines = ['#EXTM3U', '#EXT-X-MAP:URI="init-1.mp4"'];
    segments.forEach(([start, end], index) => lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(1_800_000_000_000 + start * 1000).toISOString()}`,
      `#EXTINF:${(end - start).toFixed(6)},`, `segment-${index}.m4s`));
    return lines.join('\n');
  }

  async function get(url, {signal}) {
    const name = url.pathname.slice(1);
    requests.push(name);
    const index = /^segment-(\d+)/.exec(name)?.[1];
    await new Promise((resolve) => setTimeout(resolve, 4));
    signal.throwIfAborted();
    if (index && failures > 0) {
      failures -= 1;
      throw new TypeError('Failed to fetch');
    }
    return {
      text: async () => playlist(),
      arrayBuffer: async () => (index ? new Float64Array(segments[index]).buffer : Uint8Array.from(`\0\0\0\0\0\0\0\0${box}\x01\x42\xe0\x1f`.padEnd(40, '\0'), (letter) => letter.charCodeAt(0)).buffer),
    };
  }

  async function open(at = 0) {
    video = new Video();
    player = new PlaylistPlayer(video, '/index.m3u8', get);
    await player.open(at);
  }

  /** Jumps, and gives where playback can go on. */
  async function jump(to) {
    video.currentTime = to;
    await eventually(`data at ${to}`, () => video.buffered.covers(video.currentTime + 0.1), 2);
    return video.currentTime;
  }

  beforeEach(() => {
    Object.assign(globalThis, {MediaSource: Source, location: {href: 'http://recordings.example/'}});
    Object.assign(URL, {createObjectURL: () => 'blob:', revokeObjectURL: () => {}});
    segments = Array.from({length: LENGTH / SEGMENT}, (_, index) => [index * SEGMENT, (index + 1) * SEGMENT]);
    requests = [];
    box = 'avcC';
    failures = 0;
  });

  afterEach(() => player?.close());

  test('every jump lands at the requested time', async () => {
    await open(LENGTH - 30);
    await jump(LENGTH - 30);
    const number = random(7);
    const targets = [449, 633, 182, 46, ...Array.from({length: 40}, () => number() * (LENGTH - 2))];
    for (const target of targets) {
      const landed = await jump(target);
      assert.ok(Math.abs(landed - target) <= 1, `asked for ${target}, got ${landed}`);
    }
  });

  test('a jump during a fetch lands at the requested time', async () => {
    await open();
    for (const target of [800, 100, 700, 200]) {
      video.currentTime = target + 50;
      await new Promise((resolve) => setTimeout(resolve, 2));
      const landed = await jump(target);
      assert.ok(Math.abs(landed - target) <= 1, `asked for ${target}, got ${landed}`);
    }
  });

  test('playback that reaches old data fetches what is missing before it', async () => {
    await open(300);
    await jump(300);
    await jump(280);
    await eventually('the segment up to 290 is there', () => video.buffered.covers(289));
    // Meanwhile nothing was skipped.
    assert.ok(Math.abs(video.currentTime - 280) <= 1, `at ${video.currentTime}`);
    await eventually('no hole is left', () => video.buffered.covers(295));
  });

  test('a gap is stepped over, however long, and only when it is one', async () => {
    segments = segments.filter(([start]) => start < 400 || start >= 700);
    await open(385);
    await jump(385);
    await eventually('the data behind the gap is fetched', () => video.buffered.covers(700.1));
    assert.equal(video.currentTime, 385);
    const landed = await jump(450);
    assert.ok(landed >= 700 && landed <= 701, `behind the gap, not at ${landed}`);
  });

  test('data that the browser evicted is fetched again', async () => {
    await open(100);
    await jump(100);
    await eventually('the segment is there', () => video.buffered.covers(109));
    Source.newest.buffer.evict(0, 200);
    const landed = await jump(101);
    assert.ok(Math.abs(landed - 101) <= 1, `at ${landed}`);
  });

  test('a segment that is held is not fetched twice', async () => {
    await open(101);
    await jump(101);
    await eventually('the data ahead is there', () => video.buffered.covers(129));
    const before = requests.filter((name) => name.startsWith('segment')).length;
    await jump(109);
    await jump(102);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(requests.filter((name) => name.startsWith('segment')).length, before);
  });

  test('a request that fails for a while is repeated', async () => {
    failures = 1;
    await open(300);
    await jump(300);
    assert.equal(failures, 0);
    await eventually('what follows is fetched, too', () => video.buffered.covers(319));
  });

  test('playing reads the playlist every few seconds, not with each step', async () => {
    await open(100);
    await jump(100);
    const before = requests.filter((name) => name === 'index.m3u8').length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.ok(requests.filter((name) => name === 'index.m3u8').length <= before + 1);
  });

  test('what is far from the position is removed', async () => {
    await open(50);
    await jump(50);
    await jump(800);
    await eventually('the old data is gone', () => !video.buffered.covers(51));
    await jump(60);
    await eventually('the data far ahead is gone', () => !video.buffered.covers(801));
  });

  test('a jump beyond the newest segment lands before its end', async () => {
    await open();
    segments.push([LENGTH, LENGTH + SEGMENT]);
    await player.seek(LENGTH + 100);
    assert.equal(video.currentTime, LENGTH + SEGMENT - 1);
  });

  test('a codec without Media Source Extensions is refused by its name', async () => {
    box = 'vp08\0\0\0\0vpcC';
    await assert.rejects(open(), (error) => error instanceof UnsupportedError && error.message === 'This browser does not play VP8 in segments');
  });
});
