/**
 * The console's recordings: a timeline, a list, and a player that reaches any recorded moment by a click, a typed time or a
 * link (`/?room=ROOM&t=2026-03-04T14:03:20Z`). Each gap is shown with its reason.
 */
import * as api from './api.js';
import {PlaylistPlayer} from './mse.js';
import {Timeline, end, reason} from './timeline.js';
import {announce, bytes, clock, copyButton, count, duration, fromField, h, instant, list, pageUrl, request, setText, setTime,
  time, toField, withToken} from './common.js';

/** What to do about a recording's trouble, by its words. */
const REMEDIES = {
  'the disk is full': 'Free space, or delete recordings: then it goes on by itself.',
  'the disk cannot be written': 'Make the recordings folder writable: then it goes on by itself.',
  'the disk fails': 'Look at the disk and at the server’s log.',
};

const STATES = {
  recording: ['Recording', 'live'],
  finalising: ['Being finished', 'busy'],
  complete: ['Complete', 'good'],
  repaired: ['Repaired after a crash', 'warn'],
  failed: ['Failed', 'bad'],
};

export class Recordings {
  #parts;
  #timeline;
  #recordings = [];
  #manifests = new Map();
  #chosen = null;
  #playlist = null;
  #exports = [];
  #part = 0;
  #linked = false;

  /** `parts`: timeline, list, empty, more, goto, room, moment, player, video, title, state, at, gaps, links, close, note. `failed(error)` tells. */
  constructor(parts, failed) {
    this.#parts = parts;
    this.#timeline = new Timeline(parts.timeline, (room, date) => this.#goTo(room, date));
    parts.goto.addEventListener('submit', (event) => {
      event.preventDefault();
      const date = fromField(parts.moment.value);
      if (date) this.#goTo(parts.room.value, date);
    });
    parts.close.addEventListener('click', () => this.#close());
    parts.more.addEventListener('click', () => this.#more().catch(failed));
    parts.video.addEventListener('timeupdate', () => this.#follow());
    parts.video.addEventListener('ended', () => this.#exports[this.#part + 1] && this.#load(this.#part + 1, 0));
    parts.video.addEventListener('error', () => this.#parts.video.getAttribute('src') && this.#say('This browser cannot play this recording. Download it instead.'));
    addEventListener('zone', () => {
      this.#timeline.draw();
      if (this.#chosen) this.#describe();
    });
  }

  /** Reads the newest recordings. Throws what the request throws. */
  async refresh() {
    const newest = await api.recordings();
    const ids = new Set(newest.map(({id}) => id));
    const oldest = newest.at(-1)?.startedAt ?? 0;
    const older = newest.length < 100 ? [] : this.#recordings.filter((each) => !ids.has(each.id) && each.startedAt < oldest);
    this.#recordings = [...newest, ...older];
    this.#parts.more.hidden = newest.length < 100;
    this.#show();
    if (!this.#linked) {
      this.#linked = true;
      this.#fromAddress();
    }
  }

  /** Whether the stream is recorded, as far as the list goes back. */
  has(stream) {
    return this.#recordings.some((each) => each.stream === stream);
  }

  /** Opens the newest recording of a stream, if there is one. */
  open(stream) {
    const recording = this.#recordings.find((each) => each.stream === stream);
    if (recording) this.#choose(recording, 0, {reveal: true});
    return Boolean(recording);
  }

  async #more() {
    const older = await api.recordings({before: this.#recordings.at(-1)?.id});
    this.#recordings.push(...older);
    this.#parts.more.hidden = older.length < 100;
    this.#show();
  }

  #show() {
    const {empty, room, goto: form, timeline, moment} = this.#parts;
    empty.hidden = this.#recordings.length > 0;
    form.hidden = timeline.hidden = this.#recordings.length === 0;
    const rooms = [...new Set(this.#recordings.map((each) => each.room))].sort();
    list(room, rooms, (name) => name, (name) => h('option', {value: name}, name));
    if (!moment.value) moment.value = toField(this.#recordings[0]?.startedAt ?? new Date());
    list(this.#parts.list, this.#recordings, ({id}) => id, (each) => this.#row(each));
    this.#timeline.show(this.#recordings);
    this.#renew();
  }

  /** What is known by now of the recording in the player. */
  #renew() {
    const old = this.#chosen;
    const fresh = this.#recordings.find(({id}) => id === old?.id);
    if (!fresh || fresh === old) return;
    this.#chosen = fresh;
    if (fresh.state === 'failed' && this.#playlist) {
      this.#stop();
      this.#say(`This recording failed: ${fresh.trouble ?? 'the server’s log says why'}.`);
    }
    if (['state', 'trouble', 'gapCount'].some((name) => fresh[name] !== old[name])) this.#describe();
  }

  #row(first) {
    const badge = h('span', {class: 'badge'});
    const when = time(null);
    const length = h('span', {class: 'number length'});
    const size = h('span', {class: 'number'});
    const gaps = h('span', {class: 'gap-count'});
    const trouble = h('p', {class: 'trouble'});
    const play = h('button', {type: 'button', class: 'small primary', onclick: () => this.#choose(row.recording, 0, {reveal: true})}, 'Play');
    const row = h('li', {class: 'row recording-row'},
      h('div', {class: 'row-main'}, h('strong', {}, first.room), badge),
      h('div', {class: 'row-facts'}, when, length, size, gaps, trouble),
      h('div', {class: 'actions'}, play));
    row.update = (recording) => {
      row.recording = recording;
      setState(badge, recording);
      setTime(when, recording.startedAt);
      setText(length, duration((end(recording) - recording.startedAt) / 1000));
      setText(size, recording.bytes ? bytes(recording.bytes) : '');
      setText(gaps, recording.gapCount ? count(recording.gapCount, 'gap') : '');
      setText(trouble, troubleOf(recording));
      play.setAttribute('aria-label', `Play the recording of ${recording.room} from ${clock(recording.startedAt)}`);
      play.hidden = recording.state === 'failed';
    };
    return row;
  }

  #fromAddress() {
    const query = new URLSearchParams(location.search);
    const id = query.get('recording');
    const at = query.get('t');
    if (id && this.open(id)) return;
    const date = at && instant(/^\d+$/.test(at) ? Number(at) : at);
    if (date) this.#goTo(query.get('room') ?? this.#recordings[0]?.room, date);
  }

  /** The recording of that room at that moment, or the next one after it. */
  async #goTo(room, date) {
    const at = date.getTime();
    const covers = (each) => each.room === room && each.state !== 'failed' && each.startedAt.getTime() <= at && at < end(each);
    const mine = this.#recordings.filter((each) => each.room === room && each.state !== 'failed');
    let hit = mine.find(covers);
    // The list has the newest ones; the server knows all.
    if (!hit && !this.#parts.more.hidden) hit = (await api.recordings({room, at: date}).catch(() => [])).find(covers);
    const next = hit ?? mine.filter((each) => each.startedAt.getTime() > at).at(-1) ?? mine[0];
    if (!next) return announce(`Nothing is recorded of ${room}`);
    if (!hit) announce(`Nothing is recorded of ${room} at ${clock(date)}: going to ${clock(next.startedAt)}`);
    this.#choose(next, hit ? (at - next.startedAt) / 1000 : 0, {reveal: true, note: hit ? '' : `Nothing is recorded at ${clock(date)}. This is the nearest.`});
  }

  async #choose(recording, seconds, {reveal = false, note = ''} = {}) {
    const {player, video} = this.#parts;
    const same = this.#chosen?.id === recording.id;
    player.hidden = false;
    this.#say(note);
    if (reveal) player.scrollIntoView({block: 'nearest'});
    if (same && (this.#playlist || this.#exports.length)) {
      this.#seek(seconds);
      video.play().catch(() => {});
      return;
    }
    this.#stop();
    this.#chosen = recording;
    this.#describe();
    this.#timeline.position(recording.room, new Date(recording.startedAt.getTime() + seconds * 1000), {move: true});
    if (reveal) this.#parts.title.focus();
    const found = await this.#manifest(recording);
    if (this.#chosen?.id !== recording.id) return;
    this.#exports = found?.exports ?? [{file: 'recording.mp4', start: 0, duration: recording.seconds}];
    this.#describe();
    // Without room for an MP4 there are only segments.
    if (!recording.running && this.#exports.length) return this.#seek(seconds);
    this.#exports = [];
    const playlist = new PlaylistPlayer(video, recording.urls.playlist, request);
    this.#playlist = playlist;
    playlist.addEventListener('error', ({detail}) => this.#say(detail.message));
    playlist.addEventListener('waiting', () => this.#say('The first seconds are being recorded. The picture starts by itself.'));
    try {
      await playlist.open(seconds);
      if (this.#playlist !== playlist) return;
      this.#say(note);
      video.play().catch(() => {});
    } catch (error) {
      if (this.#playlist !== playlist) return;
      playlist.close();
      this.#playlist = null;
      this.#say(`${error.message}. It can be played when the stream has ended.`);
    }
  }

  async #manifest(recording) {
    if (recording.running) return null;
    if (!this.#manifests.has(recording.id)) {
      this.#manifests.set(recording.id, await api.manifest(recording).catch(() => null));
    }
    return this.#manifests.get(recording.id);
  }

  #seek(seconds) {
    if (this.#playlist) return void this.#playlist.seek(seconds);
    const index = this.#exports.findLastIndex(({start}) => start <= seconds);
    this.#load(Math.max(0, index), seconds - (this.#exports[index]?.start ?? 0));
  }

  /** One MP4 file for each codec and size; nearly always there is one. */
  #load(index, seconds) {
    const {video} = this.#parts;
    const source = withToken(`${this.#chosen.urls.base}/${this.#exports[index].file}`);
    this.#part = index;
    if (video.getAttribute('src') !== source) {
      video.src = source;
      if (seconds > 0) video.addEventListener('loadedmetadata', () => (video.currentTime = seconds), {once: true});
    } else {
      video.currentTime = seconds;
    }
    video.play().catch(() => {});
  }

  #offset() {
    return this.#parts.video.currentTime + (this.#exports[this.#part]?.start ?? 0);
  }

  #follow() {
    if (!this.#chosen) return;
    const at = new Date(this.#chosen.startedAt.getTime() + this.#offset() * 1000);
    setTime(this.#parts.at, at);
    this.#timeline.position(this.#chosen.room, at);
  }

  #describe() {
    const recording = this.#chosen;
    const {title, state, gaps, links} = this.#parts;
    setText(title, `${recording.room}, ${clock(recording.startedAt)}`);
    setState(state, recording);
    gaps.replaceChildren(...this.#gapItems(recording));
    links.replaceChildren(
      copyButton(() => pageUrl(`/?room=${encodeURIComponent(recording.room)}&t=${new Date(recording.startedAt.getTime() + this.#offset() * 1000).toISOString()}`),
        {label: 'Copy link to this moment'}),
      h('button', {type: 'button', class: 'small', onclick: () => this.#timeline.focus(recording)}, 'Show whole recording'),
      ...(recording.running ? [] : this.#files(recording)));
  }

  #files(recording) {
    const exports = this.#manifests.get(recording.id)?.exports ?? [{file: 'recording.mp4'}];
    const files = exports.map(({file, bytes: size}) => ({url: `${recording.urls.base}/${file}`, name: file, size}));
    files.push({url: recording.urls.manifest, name: 'manifest.json'});
    return files.map(({url, name, size}) => {
      const text = name === 'manifest.json' ? 'Manifest' : `Download ${name}${size ? ` (${bytes(size)})` : ''}`;
      return h('a', {class: 'button small', href: withToken(url), download: name === 'manifest.json' ? null : `${recording.room}-${name}`}, text);
    });
  }

  #gapItems(recording) {
    if (recording.running) return [h('li', {}, `${recording.gapCount ? `${count(recording.gapCount, 'gap')} so far` : 'None so far'}. They are listed when the recording is finished.`)];
    if (recording.gapCount === 0) return [h('li', {}, 'No gaps: every moment is recorded.')];
    const more = recording.gapCount - recording.gaps.length;
    return [...recording.gaps.map((gap) => {
      const from = new Date(recording.startedAt.getTime() + gap.from * 1000);
      const seconds = gap.to - gap.from;
      return h('li', {},
        h('button', {type: 'button', class: 'plain', onclick: () => this.#choose(recording, Math.max(0, gap.from - 2))},
          time(from), ` · ${seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds)} of ${gap.track ?? 'media'} missing: ${reason(gap)}`));
    }), ...(more > 0 ? [h('li', {}, `${more} more: the manifest lists all.`)] : [])];
  }

  #say(text) {
    setText(this.#parts.note, text);
    this.#parts.note.hidden = !text;
  }

  #stop() {
    this.#playlist?.close();
    this.#playlist = null;
    this.#exports = [];
    this.#part = 0;
    this.#parts.video.removeAttribute('src');
    this.#parts.video.load();
  }

  #close() {
    this.#stop();
    const row = [...this.#parts.list.children].find((each) => each.dataset.key === this.#chosen?.id);
    this.#chosen = null;
    this.#parts.player.hidden = true;
    row?.querySelector('button')?.focus();
  }
}

function setState(badge, {state, trouble}) {
  const [words, kind] = state === 'recording' && trouble ? ['Paused', 'bad'] : STATES[state] ?? [state, ''];
  setText(badge, words);
  badge.className = `badge ${kind}`;
}

/** What is wrong with a recording, and the remedy; empty when all is well. */
function troubleOf({state, trouble}) {
  if (!trouble) return '';
  const words = state === 'recording' ? `Paused: ${trouble}.` : state === 'finalising' ? `Not finished yet: ${trouble}.` : `${trouble[0].toUpperCase()}${trouble.slice(1)}.`;
  return state === 'failed' ? words : `${words} ${REMEDIES[trouble] ?? ''}`.trim();
}
