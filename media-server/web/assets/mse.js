/**
 * Plays a recording that still grows, from its playlist, by Media Source Extensions. Finished ones play by `<video src>`.
 *
 * Rules: RFC 8216 (playlist), ISO/IEC 14496-12 (boxes), the codec strings of RFC 6381 and of the VP9 and AV1 MP4 bindings.
 */

/** Seconds. */
const AHEAD = 20;
const BEHIND = 30;
/** Data further ahead is removed: after a jump backwards it may never be played. */
const KEPT_AHEAD = 90;
const RELOAD_AFTER = 4;
const FIRST_AFTER = 1;
/** Pause after a request that failed for a while: doubled each time, up to the second. */
const RETRY = [1, 15];
/** A hole of at most this much needs no jump; what is missing of a segment beyond it was evicted. */
const STEP = 0.05;
const EVICTED = 0.25;
/** A jump beyond the newest segment lands so far before its end. */
const EDGE = 1;

const NAMES = {avc1: 'H.264', vp08: 'VP8', vp09: 'VP9', av01: 'AV1', opus: 'Opus'};

/** MediaSource of this browser does not take `codecs`, RFC 6381 names; `<video src>` may. `words` has them as people know them. */
export class UnsupportedError extends Error {
  constructor(codecs) {
    const words = codecs.map((name) => NAMES[name.split('.')[0]] ?? name).join(' with ');
    super(`This browser does not play ${words} in segments`);
    this.words = words;
  }
}

/**
 * Fetches by `get(url, {headers, signal})`, a function that returns a Response or throws an error with its `status`. Fires
 * `error`, and `waiting` while there is no segment yet.
 *
 * The segment to fetch is derived from the playback position and the buffered ranges before each fetch. A jump
 * has no state; it only aborts the fetch under way.
 */
export class PlaylistPlayer extends EventTarget {
  #video;
  #url;
  #get;
  #source = new MediaSource();
  #buffer = null;
  #segments = [];
  #done = false;
  #mime = '';
  #init = null;
  /** By address: seconds of the segment that were in the buffer when it was appended. Less now means that it was evicted. */
  #appended = new Map();
  #fetch = null;
  #reloadedAt = 0;
  #abort = new AbortController();
  #wake = () => {};

  constructor(video, url, get) {
    super();
    this.#video = video;
    this.#url = new URL(url, location.href);
    this.#get = get;
  }

  /** Resolves when playback can begin at `start` seconds, or after `close()`; rejects when this browser cannot play it. */
  async open(start = 0) {
    const {signal} = this.#abort;
    const address = URL.createObjectURL(this.#source);
    this.#video.src = address;
    await new Promise((resolve) => this.#source.addEventListener('sourceopen', resolve, {once: true}));
    URL.revokeObjectURL(address);
    for (;;) {
      await this.#reload();
      if (signal.aborted) return;
      if (this.#segments.length > 0) break;
      if (this.#done) throw new Error('Nothing was recorded');
      this.dispatchEvent(new Event('waiting'));
      await this.#pause(FIRST_AFTER);
    }
    await this.#switch(this.#segments[0], signal);
    if (signal.aborted) return;
    this.#video.currentTime = this.#within(start);
    this.#video.addEventListener('seeking', () => this.#jumped(), {signal});
    for (const type of ['timeupdate', 'waiting']) {
      this.#video.addEventListener(type, () => {
        this.#step();
        const missing = this.#missing();
        if (missing && this.#due(missing)) this.#wake();
      }, {signal});
    }
    this.#feed().catch((error) => signal.aborted || this.dispatchEvent(new CustomEvent('error', {detail: error})));
  }

  /** Jumps to `seconds`, or close to the newest segment's end when that is earlier. */
  async seek(seconds) {
    if (seconds > this.#end() - EDGE && !this.#done) {
      await this.#reload().catch(() => {});
      if (this.#buffer) await updated(this.#buffer).catch(() => {});
      this.#extend();
    }
    if (!this.#abort.signal.aborted) this.#video.currentTime = this.#within(seconds);
  }

  close() {
    this.#abort.abort();
    this.#fetch?.control.abort();
    this.#wake();
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  async #reload() {
    this.#reloadedAt = performance.now();
    let text = '';
    try {
      text = await (await this.#get(this.#url, {signal: this.#abort.signal})).text();
    } catch (error) {
      // The playlist comes with the first segment.
      if (error.status !== 404 || this.#segments.length > 0) throw error;
    }
    const {segments, done} = parsePlaylist(text, this.#url);
    this.#segments = segments;
    this.#done = done;
    this.#extend();
  }

  #extend() {
    const end = this.#end();
    if (this.#source.readyState === 'open' && !this.#buffer?.updating && !(this.#source.duration >= end)) this.#source.duration = end;
  }

  #end() {
    const last = this.#segments.at(-1);
    return last ? last.start + last.duration : 0;
  }

  #within(seconds) {
    return Math.max(0, Math.min(seconds, this.#end() - EDGE));
  }

  /** The position changed by a seek: the fetch under way is for another position, unless that is the segment missing there. */
  #jumped() {
    const missing = this.#missing();
    if (this.#fetch && (!missing || key(missing) !== key(this.#fetch.segment))) this.#fetch.control.abort();
    this.#wake();
  }

  /** The first segment from the playback position on that the buffer does not hold, or undefined. */
  #missing() {
    const {currentTime} = this.#video;
    return this.#segments.find((segment) => currentTime < segment.start + segment.duration && !this.#held(segment));
  }

  #held(segment) {
    const seconds = this.#appended.get(key(segment));
    return seconds !== undefined && overlap(this.#buffer.buffered, segment) >= seconds - EVICTED;
  }

  /** Whether it is time for `segment`: the media before it, which a gap may follow, ends soon. */
  #due(segment) {
    const before = this.#segments[this.#segments.indexOf(segment) - 1];
    return Math.min(segment.start, before ? before.start + before.duration : 0) < this.#video.currentTime + AHEAD;
  }

  /** Goes on behind a gap in the recording. Data that is not fetched yet is no gap, and is waited for. */
  #step() {
    const {buffered, currentTime, paused, seeking} = this.#video;
    if ((paused && !seeking) || covers(buffered, currentTime + STEP)) return;
    const missing = this.#missing();
    for (let index = 0; index < buffered.length; index += 1) {
      const start = buffered.start(index);
      if (start <= currentTime) continue;
      if (!missing || start <= missing.start) this.#video.currentTime = start + STEP / 2;
      return;
    }
  }

  async #feed() {
    const {signal} = this.#abort;
    let [pause, longest] = RETRY;
    while (!signal.aborted) {
      try {
        await this.#work(signal);
        [pause] = RETRY;
      } catch (error) {
        // The server is restarted, or the network is away.
        if (!(error instanceof TypeError || error.status === 429 || error.status >= 500)) throw error;
        await new Promise((resolve) => setTimeout(resolve, pause * 1000));
        pause = Math.min(pause * 2, longest);
      }
    }
  }

  /** Loads the next segment, or waits until one is due. */
  async #work(signal) {
    const segment = this.#missing();
    if (segment && this.#due(segment)) {
      await this.#load(segment);
      this.#step();
    } else if (!segment && this.#done) {
      if (this.#source.readyState === 'open' && !this.#buffer.updating) this.#source.endOfStream();
      await this.#pause(Infinity);
    } else {
      const due = () => RELOAD_AFTER - (performance.now() - this.#reloadedAt) / 1000;
      if (due() > 0) await this.#pause(due());
      if (due() <= 0 && !this.#done && !signal.aborted) await this.#reload();
    }
  }

  /** Fetches and appends a segment, unless a jump makes another one more urgent. */
  async #load(segment) {
    const control = new AbortController();
    const {signal} = control;
    this.#fetch = {segment, control};
    try {
      await this.#switch(segment, signal);
      const data = await this.#bytes(segment, signal);
      if (signal.aborted) return;
      await this.#append(data);
      this.#appended.set(key(segment), overlap(this.#buffer.buffered, segment));
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#fetch = null;
    }
  }

  /** Brings the initialisation segment of `segment` into force. */
  async #switch({init}, signal) {
    if (!init || this.#init === init.key) return;
    const data = await this.#bytes(init, signal);
    const names = codecs(new Uint8Array(data));
    const mime = `video/mp4; codecs="${names.join(', ')}"`;
    if (!MediaSource.isTypeSupported(mime)) throw new UnsupportedError(names);
    if (signal.aborted) return;
    if (!this.#buffer) this.#buffer = this.#source.addSourceBuffer(mime);
    else if (mime !== this.#mime) this.#buffer.changeType(mime);
    this.#mime = mime;
    await this.#append(data);
    this.#init = init.key;
  }

  async #bytes({url, range}, signal) {
    const headers = range ? {Range: `bytes=${range.start}-${range.end}`} : {};
    const response = await this.#get(url, {headers, signal});
    return response.arrayBuffer();
  }

  async #append(data) {
    await this.#trim();
    this.#buffer.appendBuffer(data);
    await updated(this.#buffer);
  }

  /** Removes what is far from the playback position. */
  async #trim() {
    const {buffered} = this.#buffer;
    const from = this.#video.currentTime - BEHIND;
    const to = this.#video.currentTime + KEPT_AHEAD;
    if (buffered.length > 0 && buffered.start(0) < from - BEHIND) {
      this.#buffer.remove(0, from);
      await updated(this.#buffer);
    }
    if (buffered.length > 0 && buffered.end(buffered.length - 1) > to + BEHIND) {
      this.#buffer.remove(to, Infinity);
      await updated(this.#buffer);
    }
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      const timer = seconds === Infinity ? 0 : setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function key({url, range}) {
  return `${url}#${range?.start ?? ''}`;
}

/** Seconds of `segment` that are in `ranges`. */
function overlap(ranges, {start, duration}) {
  let seconds = 0;
  for (let index = 0; index < ranges.length; index += 1) {
    seconds += Math.max(0, Math.min(ranges.end(index), start + duration) - Math.max(ranges.start(index), start));
  }
  return seconds;
}

/** `{segments: [{url, range, start, duration, init}], done}`; times are seconds since the first segment's start. */
export function parsePlaylist(text, base) {
  const segments = [];
  let init = null;
  let duration = 0;
  let range = null;
  let at = null;
  let clock = 0;
  let origin = null;
  let rangeEnd = 0;
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('#EXT-X-MAP:')) {
      const url = new URL(line.match(/URI="([^"]+)"/)?.[1] ?? '', base);
      const bytes = line.match(/BYTERANGE="([^"]+)"/)?.[1];
      init = {url, range: bytes ? byteRange(bytes, 0) : null, key: `${url}#${bytes ?? ''}`};
    } else if (line.startsWith('#EXTINF:')) {
      duration = Number.parseFloat(line.slice(8));
    } else if (line.startsWith('#EXT-X-BYTERANGE:')) {
      range = byteRange(line.slice(17), rangeEnd);
      rangeEnd = range.end + 1;
    } else if (line.startsWith('#EXT-X-PROGRAM-DATE-TIME:')) {
      at = Date.parse(line.slice(25)) / 1000;
    } else if (line && !line.startsWith('#')) {
      if (at) {
        origin ??= at - clock;
        clock = at - origin;
      }
      segments.push({url: new URL(line, base), range, start: clock, duration, init});
      clock += duration;
      at = null;
      range = null;
    }
  }
  return {segments, done: text.includes('#EXT-X-ENDLIST')};
}

/** The RFC 6381 names of the codecs in an initialisation segment. */
export function codecs(bytes) {
  const names = [];
  const at = (name) => {
    const codes = [...name].map((letter) => letter.charCodeAt(0));
    for (let index = 4; index + 12 < bytes.length; index += 1) {
      if (codes.every((code, offset) => bytes[index + offset] === code)) return index + 4;
    }
    return -1;
  };
  const hex = (value) => value.toString(16).padStart(2, '0');
  const two = (value) => String(value).padStart(2, '0');
  const avc = at('avcC');
  const vp = at('vpcC');
  const av1 = at('av1C');
  if (avc > 0) names.push(`avc1.${hex(bytes[avc + 1])}${hex(bytes[avc + 2])}${hex(bytes[avc + 3])}`);
  if (vp > 0) names.push(`${at('vp08') > 0 ? 'vp08' : 'vp09'}.${two(bytes[vp + 4])}.${two(bytes[vp + 5])}.${two(bytes[vp + 6] >> 4)}`);
  if (av1 > 0) {
    const depth = bytes[av1 + 2] & 0x40 ? (bytes[av1 + 2] & 0x20 ? 12 : 10) : 8;
    names.push(`av01.${bytes[av1 + 1] >> 5}.${two(bytes[av1 + 1] & 31)}${bytes[av1 + 2] & 0x80 ? 'H' : 'M'}.${two(depth)}`);
  }
  if (at('dOps') > 0) names.push('opus');
  return names;
}

function byteRange(text, from) {
  const [length, offset] = text.split('@').map(Number);
  const start = offset ?? from;
  return {start, end: start + length - 1};
}

function covers(ranges, time) {
  for (let index = 0; index < ranges.length; index += 1) {
    if (ranges.start(index) <= time && time < ranges.end(index)) return true;
  }
  return false;
}

function updated(buffer) {
  if (!buffer.updating) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const local = new AbortController();
    const {signal} = local;
    buffer.addEventListener('updateend', () => (local.abort(), resolve()), {signal});
    buffer.addEventListener('error', () => (local.abort(), reject(new Error('The browser refused a segment'))), {signal});
  });
}
