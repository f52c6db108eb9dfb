/**
 * Plays a recording that still grows, from its playlist, by Media Source Extensions. Finished ones play by `<video src>`.
 *
 * Rules: RFC 8216 (playlist), ISO/IEC 14496-12 (boxes), the codec strings of RFC 6381 and of the VP9 and AV1 MP4 bindings.
 */

/** Seconds. */
const AHEAD = 20;
const BEHIND = 30;
const RELOAD_AFTER = 4;
const FIRST_AFTER = 1;
/** A hole of at most this much is stepped over without being told. */
const STEP = 0.05;

/**
 * Fetches by `get(url, headers)`, a function that gives a Response or throws an error with its `status`. Fires `error`, and
 * `waiting` while there is no segment yet.
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
  #next = 0;
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
    await this.#switch(this.#segments[0]);
    this.#seek(start);
    this.#video.currentTime = start;
    this.#video.addEventListener('seeking', () => this.#seek(this.#video.currentTime), {signal});
    for (const type of ['timeupdate', 'waiting']) {
      this.#video.addEventListener(type, () => {
        this.#step();
        this.#wake();
      }, {signal});
    }
    this.#feed().catch((error) => signal.aborted || this.dispatchEvent(new CustomEvent('error', {detail: error})));
  }

  close() {
    this.#abort.abort();
    this.#wake();
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  async #reload() {
    let text = '';
    try {
      text = await (await this.#get(this.#url, {})).text();
    } catch (error) {
      // The playlist comes with the first segment.
      if (error.status !== 404 || this.#segments.length > 0) throw error;
    }
    const {segments, done} = parsePlaylist(text, this.#url);
    this.#segments = segments;
    this.#done = done;
    const last = segments.at(-1);
    const end = last ? last.start + last.duration : 0;
    if (this.#source.readyState === 'open' && !this.#buffer?.updating && !(this.#source.duration >= end)) this.#source.duration = end;
  }

  #seek(time) {
    if (covers(this.#video.buffered, time)) return;
    const index = this.#segments.findIndex(({start, duration}) => time < start + duration);
    this.#next = index < 0 ? this.#segments.length : index;
    this.#wake();
  }

  /** Playback stands at the edge of a gap in the recording: goes on behind it. */
  #step() {
    const {buffered, currentTime, paused} = this.#video;
    if (paused || covers(buffered, currentTime + STEP)) return;
    for (let index = 0; index < buffered.length; index += 1) {
      if (buffered.start(index) > currentTime) {
        this.#video.currentTime = buffered.start(index) + STEP / 2;
        return;
      }
    }
  }

  async #feed() {
    const {signal} = this.#abort;
    while (!signal.aborted) {
      const segment = this.#segments[this.#next];
      if (segment && segment.start < this.#video.currentTime + AHEAD) {
        this.#next += 1;
        await this.#switch(segment);
        const data = await this.#bytes(segment);
        if (!signal.aborted) await this.#append(data);
        this.#step();
      } else if (!segment && this.#done) {
        if (this.#source.readyState === 'open' && !this.#buffer.updating) this.#source.endOfStream();
        await this.#pause(Infinity);
      } else {
        await this.#pause(RELOAD_AFTER);
        if (!this.#done && !signal.aborted) await this.#reload();
      }
    }
  }

  /** Brings the initialisation segment of `segment` into force. */
  async #switch({init}) {
    if (!init || this.#init === init.key) return;
    const data = await this.#bytes(init);
    const mime = `video/mp4; codecs="${codecs(new Uint8Array(data)).join(', ')}"`;
    if (!MediaSource.isTypeSupported(mime)) throw new Error(`This browser cannot play ${mime} piece by piece`);
    if (!this.#buffer) this.#buffer = this.#source.addSourceBuffer(mime);
    else if (mime !== this.#mime) this.#buffer.changeType(mime);
    this.#mime = mime;
    this.#init = init.key;
    await this.#append(data);
  }

  async #bytes({url, range}) {
    const response = await this.#get(url, range ? {Range: `bytes=${range.start}-${range.end}`} : {});
    return response.arrayBuffer();
  }

  async #append(data) {
    const {currentTime} = this.#video;
    if (currentTime > BEHIND * 2) {
      this.#buffer.remove(0, currentTime - BEHIND);
      await updated(this.#buffer);
    }
    this.#buffer.appendBuffer(data);
    await updated(this.#buffer);
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
