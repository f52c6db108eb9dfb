/**
 * A timeline of recordings: a lane a room, from 24 hours down to one second, gaps drawn with their reason. It is moved by
 * buttons, no drag is needed; who cannot point uses the field for a typed time and the list below it.
 */
import {announce, clockShort, day, duration, h, setText, zoneOffset} from './common.js';

/** Seconds that the window spans. */
const SPANS = [86_400, 21_600, 3_600, 600, 60, 10, 1];
const TICKS = [21_600, 10_800, 3_600, 1_800, 600, 300, 120, 60, 30, 10, 5, 2, 1, 0.5, 0.2];

export const REASONS = {
  loss: 'packets were lost on the way from the camera',
  disk: 'the recorder or its disk was too slow',
  source: 'the camera was away',
};

export function reason(gap) {
  return REASONS[gap.reason] ?? gap.reason ?? 'unknown';
}

/** `pick(room, date)` is called for a click into a lane, `moved()` when the window is another one. */
export class Timeline {
  #span = SPANS[0];
  #end = Date.now();
  #follow = true;
  #recordings = [];
  #position = null;
  #pick;
  #moved;
  #parts;

  constructor(root, pick, moved) {
    this.#pick = pick;
    this.#moved = moved;
    const button = (text, label, onclick) => h('button', {type: 'button', class: 'small', 'aria-label': label, title: label, onclick}, text);
    const range = h('p', {class: 'range'});
    const zoomIn = button('+', 'Zoom in', () => this.#zoom(1));
    const zoomOut = button('−', 'Zoom out', () => this.#zoom(-1));
    const scale = h('div', {class: 'scale', 'aria-hidden': 'true'});
    const lanes = h('div', {class: 'lanes'});
    root.append(
      h('div', {class: 'timeline-bar'}, range,
        h('div', {class: 'actions', role: 'group', 'aria-label': 'Move the timeline'},
          button('◀', 'Earlier', () => this.#move(-0.5)), button('▶', 'Later', () => this.#move(0.5)), zoomOut, zoomIn,
          button('Now', 'Now: to the present', () => this.#now()))),
      lanes, scale);
    this.#parts = {range, scale, lanes, zoomIn, zoomOut};
  }

  /** The first time, the window is the narrowest that holds what was recorded in the last day. */
  show(recordings) {
    if (this.#recordings.length === 0 && recordings.length > 0) {
      const now = Date.now();
      const first = Math.min(...recordings.map((each) => each.startedAt?.getTime() ?? now).filter((at) => now - at < SPANS[0] * 1000));
      const needed = Number.isFinite(first) ? (now - first) / 1000 * 1.2 : SPANS[0];
      this.#span = SPANS.findLast((span) => span >= Math.max(needed, 300)) ?? SPANS[0];
    }
    this.#recordings = recordings;
    this.draw();
  }

  /** The Dates that it spans. */
  get window() {
    return {from: new Date(this.#end - this.#span * 1000), to: new Date(this.#end)};
  }

  /** Marks a moment, and moves so that it is seen. */
  position(room, date, {move = false} = {}) {
    this.#position = {room, at: date.getTime()};
    const start = this.#end - this.#span * 1000;
    if (move && (date < start || date > this.#end)) {
      this.#follow = false;
      this.#end = date.getTime() + this.#span * 500;
      this.#moved();
    }
    this.draw();
  }

  /** The narrowest window that holds a recording. */
  focus(recording) {
    const seconds = Math.max(1, recording.seconds);
    this.#span = [...SPANS].reverse().find((span) => span >= seconds * 1.05) ?? SPANS[0];
    this.#follow = false;
    this.#end = recording.startedAt.getTime() + seconds * 500 + this.#span * 500;
    this.draw();
    this.#moved();
  }

  #zoom(step) {
    const index = Math.min(SPANS.length - 1, Math.max(0, SPANS.indexOf(this.#span) + step));
    const start = this.#end - this.#span * 1000;
    const at = this.#position?.at;
    const middle = at >= start && at <= this.#end ? at : this.#end - this.#span * 500;
    this.#span = SPANS[index];
    this.#end = middle + this.#span * 500;
    if (this.#end > Date.now()) this.#end = Date.now();
    this.#follow = false;
    this.#show();
  }

  #move(share) {
    this.#follow = false;
    this.#end = Math.min(Date.now(), this.#end + this.#span * share * 1000);
    this.#show();
  }

  #now() {
    this.#follow = true;
    this.#show();
  }

  #show() {
    this.draw();
    announce(this.#parts.range.textContent);
    this.#moved();
  }

  draw() {
    if (this.#follow) this.#end = Date.now();
    const {range, lanes, scale, zoomIn, zoomOut} = this.#parts;
    const length = this.#span * 1000;
    const start = this.#end - length;
    const place = (at) => (at - start) / length * 100;
    const from = new Date(start);
    const to = new Date(this.#end);
    const seconds = this.#span < 3600;
    const sameDay = day(from) === day(to);
    setText(range, `${day(from)}, ${clockShort(from, seconds)} – ${sameDay ? '' : `${day(to)}, `}${clockShort(to, seconds)}`);
    zoomIn.disabled = this.#span === SPANS.at(-1);
    zoomOut.disabled = this.#span === SPANS[0];

    const seen = this.#recordings.filter((each) => each.startedAt && end(each) > start && each.startedAt < this.#end);
    const rooms = [...new Set([...this.#recordings.map((each) => each.room)])].sort();
    lanes.replaceChildren(...rooms.map((room) => {
      const mine = seen.filter((each) => each.room === room);
      const track = h('div', {class: 'track', role: 'img', 'aria-label': `${room}: ${mine.length} recordings in this window`});
      for (const each of mine) track.append(...this.#blocks(each, place));
      if (this.#position?.room === room) {
        const at = place(this.#position.at);
        if (at >= 0 && at <= 100) {
          const head = h('div', {class: 'playhead'});
          head.style.left = `${at}%`;
          track.append(head);
        }
      }
      track.addEventListener('click', (event) => {
        const box = track.getBoundingClientRect();
        this.#pick(room, new Date(start + (event.clientX - box.left) / box.width * length));
      });
      return h('div', {class: 'lane'}, h('span', {class: 'lane-name', title: room}, room), track);
    }));
    this.#ticks(scale, start, length);
  }

  #blocks(recording, place) {
    const block = h('div', {class: `block ${recording.state}`});
    span(block, place(recording.startedAt.getTime()), place(end(recording)));
    const gaps = recording.gaps.map((gap) => {
      const element = h('div', {class: `gap ${gap.reason}`, title: `${duration(gap.to - gap.from)} missing: ${reason(gap)}`});
      span(element, place(recording.startedAt.getTime() + gap.from * 1000), place(recording.startedAt.getTime() + gap.to * 1000));
      return element;
    });
    return [block, ...gaps];
  }

  #ticks(scale, start, length) {
    const most = scale.clientWidth < 480 ? 4 : 8;
    const step = (TICKS.findLast((tick) => length / 1000 / tick <= most) ?? TICKS[0]) * 1000;
    const marks = [];
    const zone = -zoneOffset(new Date(start));
    for (let at = Math.ceil((start - zone) / step) * step + zone; at <= start + length; at += step) {
      const share = (at - start) / length * 100;
      if (share < 4 || share > 96) continue;
      const date = new Date(at);
      const text = step < 1000 ? `${clockShort(date, true)}.${Math.round(at % 1000 / 100)}` : clockShort(date, step < 60_000);
      const mark = h('span', {}, text);
      mark.style.left = `${share}%`;
      marks.push(mark);
    }
    scale.replaceChildren(...marks);
  }
}

/** Milliseconds since the epoch. */
export function end(recording) {
  if (recording.running) return Date.now();
  return recording.startedAt.getTime() + recording.seconds * 1000;
}

function span(element, from, to) {
  const left = Math.max(0, from);
  const right = Math.min(100, to);
  // However short, it is seen, at the right edge too: 3 px is its least width.
  element.style.left = `min(${left}%, 100% - 3px)`;
  element.style.width = `${Math.max(0, right - left)}%`;
  element.hidden = right < 0 || left > 100;
}
